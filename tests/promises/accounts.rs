//! Accounts: the key, the address, and who may use them.

use graph_credential_operator::resources::WoodpeckerAccount;
use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType, find};
use kit::cluster::User;
use kit::woodpecker::{Credential, Fault, Op};
use serde_json::json;

use crate::stage::{API_KEY, CLIENT, EXPIRY, Stage, TENANT, eventually, message};

#[tokio::test]
async fn a_working_account_counts_what_it_holds() {
    let stage = Stage::set().await;
    let foreign = Credential::new(TENANT, "00000000-0000-4000-8000-000000000001", "s", EXPIRY, "foreign");
    stage.woodpecker.put("agency", foreign);
    stage.account("fresh", json!({})).await;
    let account = stage.wait_for_account("fresh", ConditionStatus::True, "Authenticated").await;
    let status = account.status.unwrap();
    assert_eq!(
        (status.remote, status.managed, status.unclaimed, status.foreign),
        (Some(1), Some(0), Some(0), Some(1))
    );
    assert_eq!(status.observed_generation, 1);
}

#[tokio::test]
async fn a_batch_of_registrations_costs_its_account_a_handful_of_requests() {
    const OBJECTS: u32 = 40;
    let mut stage = Stage::bare().await;
    // What changes the counts is gathered for two seconds.
    stage.time_scale = 5;
    stage.start_operator().await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    let mark = stage.cluster.audit_mark().unwrap();
    let names = (0..OBJECTS).map(|number| format!("object-{number}"));
    for (number, name) in names.clone().enumerate() {
        let client = format!("00000000-0000-4000-8000-{number:012}");
        stage.entra.add_app(TENANT, &client);
        stage.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
        stage.credential(&name, json!({"clientId": client, "deletionPolicy": "Delete"})).await;
    }
    for name in names {
        stage.wait_until_ready(&name).await;
    }
    eventually("all are counted", || async {
        let account = stage.api::<WoodpeckerAccount>().get("agency").await.unwrap();
        let managed = account.status.and_then(|status| status.managed);
        if managed.is_some_and(|managed| managed == 40) { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    let entries = stage.cluster.audit_since(mark).unwrap().into_iter();
    let about_account: Vec<String> = entries
        .filter(|entry| entry.user == User::Operator.name() && entry.resource == "woodpeckeraccounts")
        .filter(|entry| entry.namespace.as_deref() == Some(&stage.namespace))
        .filter(|entry| !matches!(entry.verb.as_str(), "list" | "watch"))
        .map(|entry| format!("{} {:?}", entry.verb, entry.subresource))
        .collect();
    assert!(about_account.len() <= 8, "{about_account:#?}");
    assert!(!about_account.iter().any(|request| request.starts_with("get")), "{about_account:#?}");
    let lists = stage.woodpecker.requests("agency").iter().filter(|request| request.op == Op::List).count();
    assert!(lists <= 2, "{lists} listings");
}

#[tokio::test]
async fn a_refused_key_is_told_by_the_account_and_its_objects_and_a_new_key_heals_both() {
    let stage = Stage::set().await;
    stage.secret("agency-key", &[("api_key", "1234.wrong")]).await;
    let account = stage.wait_for_account("agency", ConditionStatus::False, "InvalidApiKey").await;
    let ready = find(&account.status.as_ref().unwrap().conditions, ConditionType::Ready).unwrap();
    assert!(ready.message.contains("Marketplace"), "{}", ready.message);
    stage.credential("sales-eu", json!({})).await;
    let object = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotReady")
        .await;
    assert!(message(&object, ConditionType::Registered).contains("agency"));
    assert_eq!(stage.woodpecker.writes("agency"), 0);
    stage.secret("agency-key", &[("api_key", API_KEY)]).await;
    stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    stage.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn a_key_that_is_revoked_is_noticed_by_the_first_refusal() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    let before = stage.wait_until_ready("sales-eu").await.status.unwrap();
    stage.woodpecker.revoke_key(API_KEY);
    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    stage.wait_for_account("agency", ConditionStatus::False, "InvalidApiKey").await;
    let object = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotReady")
        .await;
    assert_eq!(object.status.unwrap().registration, before.registration);
    let asked = stage.woodpecker.requests("agency").len();
    stage.woodpecker.add_account("agency", "1234.another-key");
    stage.secret("agency-key", &[("api_key", "1234.another-key")]).await;
    stage.wait_until_ready("sales-eu").await;
    assert!(stage.woodpecker.secret_matches("agency", before.credential_id.unwrap(), "s3cret-two"));
    assert!(asked < 12, "a refused key stops the traffic: {asked} requests");
}

#[tokio::test]
async fn a_missing_or_spoilt_key_is_named_and_never_sent() {
    let stage = Stage::set().await;
    stage.apply_account("no-secret", json!({})).await;
    stage.wait_for_account("no-secret", ConditionStatus::False, "ApiKeyMissing").await;
    stage.secret("no-key-key", &[("other", "x")]).await;
    stage.apply_account("no-key", json!({})).await;
    stage.wait_for_account("no-key", ConditionStatus::False, "ApiKeyMissing").await;
    stage.secret("spoilt-key", &[("api_key", "1234.key\n")]).await;
    stage.apply_account("spoilt", json!({})).await;
    stage.wait_for_account("spoilt", ConditionStatus::False, "ApiKeyWhitespace").await;
    assert_eq!(stage.woodpecker.strangers().len(), 0);
}

#[tokio::test]
async fn keys_go_to_allowed_addresses_alone() {
    let stage = Stage::set().await;
    let elsewhere = kit::woodpecker::Woodpecker::start().await;
    elsewhere.add_account("agency", API_KEY);
    stage.account("elsewhere", json!({"baseUrl": elsewhere.base_url()})).await;
    let account = stage.wait_for_account("elsewhere", ConditionStatus::False, "BaseUrlNotAllowed").await;
    let ready = find(&account.status.as_ref().unwrap().conditions, ConditionType::Ready).unwrap();
    assert!(ready.message.contains("--woodpecker-base-url"), "{}", ready.message);
    assert_eq!(elsewhere.requests("agency").len(), 0);
}

#[tokio::test]
async fn an_account_of_another_namespace_must_name_the_objects_namespace() {
    let mut stage = Stage::bare().await;
    let other = Stage::bare().await;
    stage.extra_args = ["--watch-namespace".to_owned(), other.namespace.clone()].into();
    stage.start_operator().await;
    other.secret("shared-key", &[("api_key", API_KEY)]).await;
    other.apply_account("shared", json!({"baseUrl": stage.woodpecker.base_url()})).await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    let reference = json!({"name": "shared", "namespace": other.namespace});
    stage.credential("sales-eu", json!({"destination": {"woodpecker": {"accountRef": reference}}})).await;
    let object = stage
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotAllowed")
        .await;
    assert!(message(&object, ConditionType::Registered).contains("allowedNamespaces"));
    assert_eq!(stage.woodpecker.writes("agency"), 0);
    let allowed =
        json!({"baseUrl": stage.woodpecker.base_url(), "allowedNamespaces": {"names": [stage.namespace]}});
    other.apply_account("shared", allowed).await;
    stage.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn an_account_that_does_not_exist_is_waited_for() {
    let stage = Stage::set().await;
    stage
        .credential("sales-eu", json!({"destination": {"woodpecker": {"accountRef": {"name": "later"}}}}))
        .await;
    stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotFound").await;
    stage.account("later", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn a_listing_without_its_array_is_never_taken_for_an_empty_account() {
    let stage = Stage::set().await;
    let stranger = Credential::new(TENANT, CLIENT, "somebody's", EXPIRY, "by hand");
    stage.woodpecker.put("agency", stranger);
    stage.woodpecker.fail_always(Op::List, Fault::ListingWithoutArray);
    stage.account("fresh", json!({})).await;
    stage.wait_for_account("fresh", ConditionStatus::False, "Unreachable").await;
    let spec = json!({"destination": {"woodpecker": {"accountRef": {"name": "fresh"}}}});
    stage.credential("sales-eu", spec).await;
    stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotReady").await;
    assert_eq!(stage.woodpecker.writes("agency"), 0);
    stage.woodpecker.heal();
    stage.wait_until_ready("sales-eu").await;
    let ops: Vec<Op> = stage.woodpecker.requests("agency").iter().map(|request| request.op).collect();
    assert!(!ops.contains(&Op::Create), "it was there: {ops:?}");
}

#[tokio::test]
async fn the_company_is_sent_with_every_request() {
    let stage = Stage::set().await;
    stage.woodpecker.add_company("agency", "77");
    stage.account("client", json!({"companyId": 77})).await;
    stage
        .credential("sales-eu", json!({"destination": {"woodpecker": {"accountRef": {"name": "client"}}}}))
        .await;
    let object = stage.wait_until_ready("sales-eu").await;
    assert_eq!(object.status.unwrap().registration.unwrap().company_id, Some(77));
    let requests = stage.woodpecker.requests("agency/77");
    assert!(requests.iter().any(|request| request.op == Op::Create));
    assert!(requests.iter().all(|request| request.company.as_deref() == Some("77")));
    assert_eq!(stage.woodpecker.credentials("agency/77").len(), 1);
    assert_eq!(stage.remote().len(), 0);
}

#[tokio::test]
async fn a_namespace_that_cannot_be_listed_does_not_stop_the_accounts_of_others() {
    let mut stage = Stage::bare().await;
    let closed = Stage::bare().await;
    // The keyring is there already: to make one, the operator must see every namespace that it serves.
    stage.start_operator().await;
    stage.stop_operator().await;
    stage.limit_operator(&["get"]).await;
    stage.extra_args = ["--watch-namespace".to_owned(), closed.namespace.clone()].into();
    stage.spawn_operator().await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    let account = stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    assert_eq!(account.status.unwrap().managed, None, "counts would not be true");
}

#[tokio::test]
async fn a_throttled_account_stays_ready() {
    let stage = Stage::set().await;
    stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    stage.woodpecker.fail_always(Op::List, Fault::Throttled { retry_after: None });
    let asked = stage.woodpecker.lists("agency");
    stage.secret("agency-key", &[("api_key", API_KEY), ("note", "touched")]).await;
    crate::stage::eventually("the account was asked again", || async {
        if stage.woodpecker.lists("agency") > asked { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    tokio::time::sleep(crate::stage::A_WHILE / 5).await;
    stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
}
