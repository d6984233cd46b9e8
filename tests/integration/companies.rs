//! Agencies: several companies behind one API key, and several keys of one account.

use std::time::Duration;

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType, find};
use kit::woodpecker::{Fault, Op};
use serde_json::json;

use crate::harness::{EXPIRY, TENANT, TestEnv, eventually};

/// Registers another app at Microsoft.
fn app(env: &TestEnv, number: usize) -> String {
    let client = format!("00000000-0000-4000-8000-{number:012}");
    env.entra.add_app(TENANT, &client);
    env.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
    client
}

/// A test environment with three client companies behind the agency's key, each with an account and a
/// credential.
async fn three_companies(is_header_ignored: bool) -> TestEnv {
    let mut env = TestEnv::bare().await;
    env.woodpecker.ignore_company_header(is_header_ignored);
    for company in 1..=3 {
        env.woodpecker.add_company("agency", &company.to_string());
    }
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.secret("agency-key", &[("api_key", crate::harness::API_KEY)]).await;
    for company in 1..=3 {
        let spec = json!({"apiKeySecretRef": {"name": "agency-key"}, "companyId": company});
        env.apply_account(&format!("company-{company}"), spec).await;
        let client = app(&env, company);
        let account = json!({"woodpecker": {"accountRef": {"name": format!("company-{company}")}}});
        env.credential(&format!("app-{company}"), json!({"clientId": client, "destination": account})).await;
    }
    env.start_operator().await;
    env
}

#[tokio::test]
async fn companies_with_one_key_have_separate_credentials() {
    let env = three_companies(false).await;
    for company in 1..=3 {
        let object = env.wait_until_ready(&format!("app-{company}")).await;
        assert_eq!(object.status.unwrap().registration.unwrap().company_id, Some(company));
        assert_eq!(env.woodpecker.credentials(&format!("agency/{company}")).len(), 1);
        let requests = env.woodpecker.requests(&format!("agency/{company}"));
        assert!(requests.iter().all(|request| request.company == Some(company.to_string())));
    }
    assert_eq!(env.remote().len(), 0);
}

#[tokio::test]
async fn an_ignored_company_id_is_detected_before_a_second_write() {
    let env = three_companies(true).await;
    for company in 1..=3 {
        let account = env
            .wait_for_account(&format!("company-{company}"), ConditionStatus::False, "CompanyIdIgnored")
            .await;
        let conditions = account.status.unwrap().conditions;
        let message = &find(&conditions, ConditionType::Ready).unwrap().message;
        assert!(message.contains("a separate API key for each company"), "{message}");
    }
    let listed = env.woodpecker.lists("agency");
    tokio::time::sleep(crate::harness::QUIET_TIME / 2).await;
    let more = env.woodpecker.lists("agency") - listed;
    assert!(more <= 6, "they do not trigger each other forever: {more} lists");
    let creates = env.woodpecker.requests("agency").iter().filter(|request| request.op == Op::Create).count();
    assert_eq!((creates, env.remote().len()), (1, 1), "{}", env.log());
}

#[tokio::test]
async fn two_keys_of_one_account_are_detected_as_one_account() {
    let env = TestEnv::start().await;
    env.woodpecker.service_time(Duration::from_millis(30));
    env.credential("first", json!({})).await;
    env.wait_until_ready("first").await;
    env.woodpecker.add_account("agency", "1234.another-key-of-the-agency");
    env.secret("second-key", &[("api_key", "1234.another-key-of-the-agency")]).await;
    env.apply_account("second", json!({})).await;
    env.wait_for_account("second", ConditionStatus::True, "Authenticated").await;
    eventually("they are known to be one", || async {
        if env.log().contains("the relation of the account to others") { Ok(()) } else { Err(env.log()) }
    })
    .await;
    // An app has one owner across both accounts.
    let duplicate = json!({"destination": {"woodpecker": {"accountRef": {"name": "second"}}}});
    env.credential("duplicate", duplicate).await;
    env.wait_for("duplicate", ConditionType::Registered, ConditionStatus::False, "AlreadyManaged").await;
    for number in 0..8 {
        let account = if number % 2 == 0 { "agency" } else { "second" };
        let spec = json!({"clientId": app(&env, number), "destination": {"woodpecker": {"accountRef": {"name": account}}}});
        env.credential(&format!("app-{number}"), spec).await;
    }
    for number in 0..8 {
        env.wait_until_ready(&format!("app-{number}")).await;
    }
    assert_eq!((env.woodpecker.max_in_flight("agency"), env.remote().len()), (1, 9));
}

#[tokio::test]
async fn a_company_without_credentials_stays_in_the_queue_of_the_key_and_the_others_do_not_wait_for_it() {
    let mut env = three_companies(false).await;
    env.woodpecker.add_company("agency", "4");
    let spec = json!({"apiKeySecretRef": {"name": "agency-key"}, "companyId": 4});
    env.apply_account("company-4", spec).await;
    env.wait_for_account("company-4", ConditionStatus::True, "Authenticated").await;
    for company in 1..=3 {
        env.wait_until_ready(&format!("app-{company}")).await;
    }
    env.stop_operator().await;
    env.start_operator().await;
    let is_separate = |company: i32| {
        let of_company = format!("company-{company}\"");
        env.log()
            .lines()
            .any(|line| line.contains(&of_company) && line.contains("\"is_company_separate\":true"))
    };
    eventually("the companies with credentials are known to be separate", || async {
        if (1..=3).all(is_separate) { Ok(()) } else { Err(env.log()) }
    })
    .await;
    assert!(!is_separate(4), "{}", env.log());
    // A create at one company does not hold up another one.
    env.woodpecker.fail_account_always("agency/1", Op::Create, Fault::Slow(Duration::from_mins(1)));
    for company in 1..=2 {
        let client = app(&env, 10 + company);
        let account = json!({"woodpecker": {"accountRef": {"name": format!("company-{company}")}}});
        env.credential(&format!("late-{company}"), json!({"clientId": client, "destination": account})).await;
        if company == 1 {
            eventually("company 1 does not respond", || async {
                if env.woodpecker.in_flight("agency/1") == 1 { Ok(()) } else { Err(env.log()) }
            })
            .await;
        }
    }
    env.wait_until_ready("late-2").await;
    assert_eq!(env.woodpecker.in_flight("agency/1"), 1, "it is still in flight");
}
