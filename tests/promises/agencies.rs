//! Agencies: several companies behind one key, and several keys of one account.

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType, find};
use kit::woodpecker::Op;
use serde_json::json;

use crate::stage::{EXPIRY, Stage, TENANT, eventually};

/// Sets up a further app at Microsoft.
fn app(stage: &Stage, number: usize) -> String {
    let client = format!("00000000-0000-4000-8000-{number:012}");
    stage.entra.add_app(TENANT, &client);
    stage.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
    client
}

/// A stage with three client companies behind the agency's key, each with an account and a credential.
async fn three_companies(is_header_ignored: bool) -> Stage {
    let mut stage = Stage::bare().await;
    stage.woodpecker.ignore_company_header(is_header_ignored);
    for company in 1..=3 {
        stage.woodpecker.add_company("agency", &company.to_string());
    }
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.secret("agency-key", &[("api_key", crate::stage::API_KEY)]).await;
    for company in 1..=3 {
        let spec = json!({"apiKeySecretRef": {"name": "agency-key"}, "companyId": company});
        stage.apply_account(&format!("company-{company}"), spec).await;
        let client = app(&stage, company);
        let account = json!({"woodpecker": {"accountRef": {"name": format!("company-{company}")}}});
        stage
            .credential(&format!("app-{company}"), json!({"clientId": client, "destination": account}))
            .await;
    }
    stage.start_operator().await;
    stage
}

#[tokio::test]
async fn each_company_has_its_own_credentials_by_one_key() {
    let stage = three_companies(false).await;
    for company in 1..=3 {
        let object = stage.wait_until_ready(&format!("app-{company}")).await;
        assert_eq!(object.status.unwrap().registration.unwrap().company_id, Some(company));
        assert_eq!(stage.woodpecker.credentials(&format!("agency/{company}")).len(), 1);
        let requests = stage.woodpecker.requests(&format!("agency/{company}"));
        assert!(requests.iter().all(|request| request.company == Some(company.to_string())));
    }
    assert_eq!(stage.remote().len(), 0);
}

#[tokio::test]
async fn a_company_id_that_is_ignored_is_found_out_before_anything_is_written_a_second_time() {
    let stage = three_companies(true).await;
    for company in 1..=3 {
        let account = stage
            .wait_for_account(&format!("company-{company}"), ConditionStatus::False, "CompanyIgnored")
            .await;
        let conditions = account.status.unwrap().conditions;
        let message = &find(&conditions, ConditionType::Ready).unwrap().message;
        assert!(message.contains("API key of each company's own"), "{message}");
    }
    let listed = stage.woodpecker.lists("agency");
    tokio::time::sleep(crate::stage::A_WHILE / 2).await;
    let more = stage.woodpecker.lists("agency") - listed;
    assert!(more <= 6, "they do not ask each other for ever: {more} listings");
    let creates =
        stage.woodpecker.requests("agency").iter().filter(|request| request.op == Op::Create).count();
    assert_eq!((creates, stage.remote().len()), (1, 1), "{}", stage.log());
}

#[tokio::test]
async fn two_keys_of_one_account_are_one_account_from_then_on() {
    let stage = Stage::set().await;
    stage.woodpecker.service_time(std::time::Duration::from_millis(30));
    stage.credential("first", json!({})).await;
    stage.wait_until_ready("first").await;
    stage.woodpecker.add_account("agency", "1234.another-key-of-the-agency");
    stage.secret("second-key", &[("api_key", "1234.another-key-of-the-agency")]).await;
    stage.apply_account("second", json!({})).await;
    stage.wait_for_account("second", ConditionStatus::True, "Authenticated").await;
    eventually("they are known to be one", || async {
        if stage.log().contains("what the account has to do with others") { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    // An app has one owner at both.
    let rival = json!({"destination": {"woodpecker": {"accountRef": {"name": "second"}}}});
    stage.credential("rival", rival).await;
    stage.wait_for("rival", ConditionType::Registered, ConditionStatus::False, "DuplicateClaim").await;
    for number in 0..8 {
        let account = if number % 2 == 0 { "agency" } else { "second" };
        let spec = json!({"clientId": app(&stage, number), "destination": {"woodpecker": {"accountRef": {"name": account}}}});
        stage.credential(&format!("app-{number}"), spec).await;
    }
    for number in 0..8 {
        stage.wait_until_ready(&format!("app-{number}")).await;
    }
    assert_eq!((stage.woodpecker.max_in_flight("agency"), stage.remote().len()), (1, 9));
}
