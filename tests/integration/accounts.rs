//! Woodpecker accounts: API keys, base URLs, and which namespaces may use an account.

use graph_credential_operator::api::WoodpeckerAccount;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType, find};
use kit::cluster::User;
use kit::woodpecker::{Credential, Fault, Op};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::harness::{API_KEY, CLIENT, EXPIRY, TENANT, TestEnv, eventually, message};

#[tokio::test]
async fn a_ready_account_reports_its_number_of_credentials() {
    let unmanaged = Credential::new(TENANT, "00000000-0000-4000-8000-000000000001", "s", EXPIRY, "unmanaged");
    let (env, _) = TestEnv::start_after(|env| env.woodpecker.put("agency", unmanaged)).await;
    env.account("fresh", json!({})).await;
    let account = env.wait_for_account("fresh", ConditionStatus::True, "Authenticated").await;
    let status = account.status.unwrap();
    assert_eq!(
        (status.remote, status.managed, status.adoptable, status.unmanaged),
        (Some(1), Some(0), Some(0), Some(1))
    );
    assert_eq!(status.observed_generation, 1);
}

#[tokio::test]
async fn a_batch_of_registrations_costs_its_account_few_requests() {
    const OBJECTS: u32 = 40;
    let mut env = TestEnv::bare().await;
    // Changed counts are collected for two seconds before they are written.
    env.time_scale = 5;
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    let mark = env.cluster.audit_mark().unwrap();
    let names = (0..OBJECTS).map(|number| format!("object-{number}"));
    for (number, name) in names.clone().enumerate() {
        let client = format!("00000000-0000-4000-8000-{number:012}");
        env.entra.add_app(TENANT, &client);
        env.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
        env.credential(&name, json!({"clientId": client, "deletionPolicy": "Delete"})).await;
    }
    for name in names {
        env.wait_until_ready(&name).await;
    }
    eventually("all are counted", || async {
        let account = env.api::<WoodpeckerAccount>().get("agency").await.unwrap();
        let managed = account.status.and_then(|status| status.managed);
        if managed.is_some_and(|managed| managed == 40) { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let entries = env.cluster.audit_since(mark).unwrap().into_iter();
    let about_account: Vec<String> = entries
        .filter(|entry| entry.user == User::Operator.name() && entry.resource == "woodpeckeraccounts")
        .filter(|entry| entry.namespace.as_deref() == Some(&env.namespace))
        .filter(|entry| !matches!(entry.verb.as_str(), "list" | "watch"))
        .map(|entry| format!("{} {:?}", entry.verb, entry.subresource))
        .collect();
    assert!(about_account.len() <= 8, "{about_account:#?}");
    assert!(!about_account.iter().any(|request| request.starts_with("get")), "{about_account:#?}");
    let lists = env.woodpecker.requests("agency").iter().filter(|request| request.op == Op::List).count();
    assert!(lists <= 2, "{lists} lists");
}

#[tokio::test]
async fn a_rejected_key_is_reported_by_the_account_and_its_objects() {
    let env = TestEnv::start().await;
    env.secret("agency-key", &[("api_key", "1234.wrong")]).await;
    let account = env.wait_for_account("agency", ConditionStatus::False, "InvalidApiKey").await;
    let ready = find(&account.status.as_ref().unwrap().conditions, ConditionType::Ready).unwrap();
    assert!(ready.message.contains("Marketplace"), "{}", ready.message);
    env.credential("sales-eu", json!({})).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotReady").await;
    assert!(message(&object, ConditionType::Registered).contains("agency"));
    assert_eq!(env.woodpecker.writes("agency"), 0);
    env.secret("agency-key", &[("api_key", API_KEY)]).await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn a_plan_without_the_api_is_not_a_wrong_key() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    for detail in ["No API addon", "Upgrade your plan"] {
        let body = json!({"title": "Unauthorized", "status": 401, "detail": detail});
        for op in [Op::List, Op::Update, Op::Create] {
            env.woodpecker.fail_always(op, Fault::RefusedBefore(401, body.clone()));
        }
        list_again(&env, 1).await;
        let account = env.wait_for_account("agency", ConditionStatus::False, "ApiNotInPlan").await;
        let ready = find(&account.status.as_ref().unwrap().conditions, ConditionType::Ready).unwrap();
        assert!(
            ready.message.contains(detail) && ready.message.contains("may be right"),
            "{}",
            ready.message
        );
        env.woodpecker.clear_faults();
        list_again(&env, 1).await;
        env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    }
    // A write that is refused although lists work.
    let body = json!({"title": "Unauthorized", "status": 401, "detail": "No API addon"});
    env.woodpecker.fail_always(Op::Update, Fault::RefusedBefore(401, body));
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::Unknown, "ApiNotInPlan").await;
    assert!(message(&object, ConditionType::Registered).contains("add-on"));
    env.woodpecker.clear_faults();
    env.wait_until_ready("sales-eu").await;
    let id = object.status.unwrap().credential_id.unwrap();
    eventually("the new secret is registered", || async {
        let is_there = env.woodpecker.secret_matches("agency", id, "s3cret-two");
        if is_there { Ok(()) } else { Err(env.log()) }
    })
    .await;
}

#[tokio::test]
async fn a_revoked_key_is_detected_by_the_first_rejection() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let before = env.wait_until_ready("sales-eu").await.status.unwrap();
    env.woodpecker.revoke_key(API_KEY);
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
    env.wait_for_account("agency", ConditionStatus::False, "InvalidApiKey").await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotReady").await;
    assert_eq!(object.status.unwrap().registration, before.registration);
    let requests = env.woodpecker.requests("agency").len();
    env.woodpecker.add_account("agency", "1234.another-key");
    env.secret("agency-key", &[("api_key", "1234.another-key")]).await;
    env.wait_until_ready("sales-eu").await;
    assert!(env.woodpecker.secret_matches("agency", before.credential_id.unwrap(), "s3cret-two"));
    assert!(requests < 12, "a rejected key stops the traffic: {requests} requests");
}

/// Lists the account again, and waits until Woodpecker has received so many lists since.
async fn list_again(env: &TestEnv, lists: usize) {
    let before = env.woodpecker.lists("agency");
    let annotation =
        json!({"graph-credentials.io/reconcile-requested-at": jiff::Timestamp::now().to_string()});
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotation}}));
    let accounts = env.api::<WoodpeckerAccount>();
    accounts.patch("agency", &PatchParams::default(), &patch).await.unwrap();
    eventually("the account is listed again", || async {
        if env.woodpecker.lists("agency") >= before + lists { Ok(()) } else { Err(env.log()) }
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_rejected_once_stays_valid() {
    let env = TestEnv::start().await;
    let ready = |account: WoodpeckerAccount| {
        find(&account.status.unwrap().conditions, ConditionType::Ready).unwrap().clone()
    };
    let before = ready(env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await);
    env.woodpecker.fail_next(Op::List, 1, Fault::Unauthorized);
    list_again(&env, 2).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let after = ready(env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await);
    assert_eq!(after.last_transition_time, before.last_transition_time, "it was ready all the time");
}

#[tokio::test]
async fn a_403_of_a_proxy_is_an_outage_and_after_a_while_names_the_key_as_well() {
    let mut env = TestEnv::bare().await;
    // "A while" lasts nine seconds.
    env.time_scale = 100;
    env.start_operator().await;
    env.account("agency", json!({})).await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    env.woodpecker.fail_always(Op::List, Fault::RefusedBefore(403, json!("<html>blocked</html>")));
    list_again(&env, 1).await;
    let account = env.wait_for_account("agency", ConditionStatus::False, "WoodpeckerUnavailable").await;
    let message = |account: &WoodpeckerAccount| {
        let conditions = &account.status.as_ref().unwrap().conditions;
        find(conditions, ConditionType::Ready).unwrap().message.clone()
    };
    assert!(!message(&account).contains("API key"), "{}", message(&account));
    eventually("the message names both causes", || async {
        let account = env.wait_for_account("agency", ConditionStatus::False, "WoodpeckerUnavailable").await;
        let message = message(&account);
        if message.contains("API key") && message.contains("proxy") { Ok(()) } else { Err(message) }
    })
    .await;
}

#[tokio::test]
async fn a_missing_or_invalid_key_is_reported_and_never_sent() {
    let env = TestEnv::start().await;
    env.apply_account("no-secret", json!({})).await;
    env.wait_for_account("no-secret", ConditionStatus::False, "SecretNotFound").await;
    env.secret("no-key-key", &[("other", "x")]).await;
    env.apply_account("no-key", json!({})).await;
    env.wait_for_account("no-key", ConditionStatus::False, "KeyMissing").await;
    env.secret("empty-key", &[("api_key", "")]).await;
    env.apply_account("empty", json!({})).await;
    env.wait_for_account("empty", ConditionStatus::False, "EmptyValue").await;
    env.secret("invalid-key", &[("api_key", "1234.key\n")]).await;
    env.apply_account("invalid", json!({})).await;
    env.wait_for_account("invalid", ConditionStatus::False, "InvalidCharacters").await;
    env.secret("letters-key", &[("api_key", "1234.schlüssel")]).await;
    env.apply_account("letters", json!({})).await;
    let letters = env.wait_for_account("letters", ConditionStatus::False, "InvalidCharacters").await;
    let conditions = letters.status.unwrap().conditions;
    let ready = find(&conditions, ConditionType::Ready).unwrap();
    assert!(ready.message.contains("U+00FC as character 10"), "{}", ready.message);
    env.secret("long-key", &[("api_key", "1234.".repeat(205).as_str())]).await;
    env.apply_account("long", json!({})).await;
    env.wait_for_account("long", ConditionStatus::False, "ValueTooLong").await;
    assert_eq!(env.woodpecker.unauthenticated_requests().len(), 0);
}

#[tokio::test]
async fn keys_are_sent_only_to_allowed_urls() {
    let env = TestEnv::start().await;
    let elsewhere = kit::woodpecker::Woodpecker::start().await;
    elsewhere.add_account("agency", API_KEY);
    env.account("elsewhere", json!({"baseUrl": elsewhere.base_url()})).await;
    let account = env.wait_for_account("elsewhere", ConditionStatus::False, "BaseUrlNotAllowed").await;
    let ready = find(&account.status.as_ref().unwrap().conditions, ConditionType::Ready).unwrap();
    assert!(ready.message.contains("--allowed-woodpecker-url"), "{}", ready.message);
    assert_eq!(elsewhere.requests("agency").len(), 0);
}

#[tokio::test]
async fn an_account_of_another_namespace_must_name_the_objects_namespace() {
    let mut env = TestEnv::bare().await;
    let other = TestEnv::bare().await;
    env.extra_args = ["--watch-namespace".to_owned(), other.namespace.clone()].into();
    env.start_operator().await;
    other.secret("shared-key", &[("api_key", API_KEY)]).await;
    other.apply_account("shared", json!({"baseUrl": env.woodpecker.base_url()})).await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    let reference = json!({"name": "shared", "namespace": other.namespace});
    env.credential("sales-eu", json!({"destination": {"woodpecker": {"accountRef": reference}}})).await;
    let object = env
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotAllowed")
        .await;
    assert!(message(&object, ConditionType::Registered).contains("allowedNamespaces"));
    assert_eq!(env.woodpecker.writes("agency"), 0);
    let allowed =
        json!({"baseUrl": env.woodpecker.base_url(), "allowedNamespaces": {"names": [env.namespace]}});
    other.apply_account("shared", allowed).await;
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn a_namespace_that_is_no_longer_allowed_does_not_keep_a_deleted_account() {
    let mut env = TestEnv::bare().await;
    let other = TestEnv::bare().await;
    env.extra_args = ["--watch-namespace".to_owned(), other.namespace.clone()].into();
    env.start_operator().await;
    other.secret("shared-key", &[("api_key", API_KEY)]).await;
    let (base_url, names) = (env.woodpecker.base_url(), [env.namespace.clone()]);
    other.apply_account("shared", json!({"baseUrl": base_url, "allowedNamespaces": {"names": names}})).await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    let reference = json!({"name": "shared", "namespace": other.namespace});
    let destination = json!({"woodpecker": {"accountRef": reference}});
    env.credential("sales-eu", json!({"deletionPolicy": "Delete", "destination": destination})).await;
    let id = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    other.apply_account("shared", json!({"baseUrl": base_url, "allowedNamespaces": {"names": []}})).await;
    let accounts = other.api::<WoodpeckerAccount>();
    accounts.delete("shared", &DeleteParams::default()).await.unwrap();
    eventually("the account is deleted", || async {
        match accounts.get_opt("shared").await.unwrap() {
            None => Ok(()),
            Some(account) => Err(format!("{:?}\n{}", account.metadata, env.log())),
        }
    })
    .await;
    eventually("the registration is reported as orphaned", || async {
        let events = env.events("sales-eu").await;
        let is_it = |event: &String| event.starts_with("Orphaned: ") && event.contains(&id.to_string());
        if events.iter().any(is_it) { Ok(()) } else { Err(format!("{events:#?}")) }
    })
    .await;
    assert_eq!(env.remote().len(), 1, "it is left");
}

#[tokio::test]
async fn a_missing_account_is_waited_for() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({"destination": {"woodpecker": {"accountRef": {"name": "later"}}}}))
        .await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotFound").await;
    env.account("later", json!({})).await;
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn a_list_without_its_array_is_not_treated_as_an_empty_account() {
    let external = Credential::new(TENANT, CLIENT, "external-secret", EXPIRY, "by hand");
    let (env, _) = TestEnv::start_after(|env| {
        env.woodpecker.fail_always(Op::List, Fault::ListingWithoutArray);
        env.woodpecker.put("agency", external)
    })
    .await;
    env.account("fresh", json!({})).await;
    env.wait_for_account("fresh", ConditionStatus::False, "WoodpeckerUnavailable").await;
    let spec = json!({"destination": {"woodpecker": {"accountRef": {"name": "fresh"}}}});
    env.credential("sales-eu", spec).await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AccountNotReady").await;
    assert_eq!(env.woodpecker.writes("agency"), 0);
    env.woodpecker.clear_faults();
    env.wait_until_ready("sales-eu").await;
    let ops: Vec<Op> = env.woodpecker.requests("agency").iter().map(|request| request.op).collect();
    assert!(!ops.contains(&Op::Create), "it was there: {ops:?}");
}

#[tokio::test]
async fn a_list_with_a_malformed_entry_is_used_and_the_entry_is_left_alone() {
    let env = TestEnv::start().await;
    let other = "00000000-0000-4000-8000-000000000001";
    let malformed = json!({"credential_id": 7, "tenant_id": null, "client_id": other, "name": 1});
    env.woodpecker.fail_always(Op::List, Fault::WrongShape(json!({"credentials": [malformed]})));
    env.account("fresh", json!({})).await;
    let account = env.wait_for_account("fresh", ConditionStatus::True, "Authenticated").await;
    let status = account.status.unwrap();
    assert_eq!((status.remote, status.unmanaged), (Some(1), Some(1)));
    let spec = json!({"destination": {"woodpecker": {"accountRef": {"name": "fresh"}}}});
    env.credential("sales-eu", spec).await;
    env.wait_until_ready("sales-eu").await;
    let ops: Vec<Op> = env.woodpecker.requests("agency").iter().map(|request| request.op).collect();
    assert!(!ops.contains(&Op::Update) && !ops.contains(&Op::Delete), "{ops:?}");
}

#[tokio::test]
async fn nothing_is_created_while_a_malformed_entry_may_be_for_the_same_app() {
    let env = TestEnv::start().await;
    let malformed = json!({"credential_id": 7, "tenant_id": null, "client_id": CLIENT, "name": 1});
    env.woodpecker.fail_always(Op::List, Fault::WrongShape(json!({"credentials": [malformed]})));
    env.account("fresh", json!({})).await;
    env.wait_for_account("fresh", ConditionStatus::True, "Authenticated").await;
    let spec = json!({"destination": {"woodpecker": {"accountRef": {"name": "fresh"}}}});
    env.credential("sales-eu", spec).await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AmbiguousMatch").await;
    assert_eq!(env.woodpecker.writes("agency"), 0);
}

#[tokio::test]
async fn the_company_is_sent_with_every_request() {
    let env = TestEnv::start().await;
    env.woodpecker.add_company("agency", "77");
    env.account("client", json!({"companyId": 77})).await;
    env.credential("sales-eu", json!({"destination": {"woodpecker": {"accountRef": {"name": "client"}}}}))
        .await;
    let object = env.wait_until_ready("sales-eu").await;
    assert_eq!(object.status.unwrap().registration.unwrap().company_id, Some(77));
    let requests = env.woodpecker.requests("agency/77");
    assert!(requests.iter().any(|request| request.op == Op::Create));
    assert!(requests.iter().all(|request| request.company.as_deref() == Some("77")));
    assert_eq!(env.woodpecker.credentials("agency/77").len(), 1);
    assert_eq!(env.remote().len(), 0);
}

#[tokio::test]
async fn a_namespace_that_cannot_be_listed_does_not_stop_the_accounts_of_others() {
    let mut env = TestEnv::bare().await;
    let closed = TestEnv::bare().await;
    // The keyring exists already. To create one, the operator must be able to list every namespace that it
    // serves.
    env.start_operator().await;
    env.stop_operator().await;
    env.limit_operator(&["get"]).await;
    env.extra_args = ["--watch-namespace".to_owned(), closed.namespace.clone()].into();
    env.spawn_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let account = env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    assert_eq!(account.status.unwrap().managed, None, "counts would not be true");
}

#[tokio::test]
async fn a_throttled_account_stays_ready() {
    let env = TestEnv::start().await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    env.woodpecker.fail_always(Op::List, Fault::Throttled { retry_after: None });
    let lists = env.woodpecker.lists("agency");
    env.secret("agency-key", &[("api_key", API_KEY), ("note", "touched")]).await;
    crate::harness::eventually("the account was listed again", || async {
        if env.woodpecker.lists("agency") > lists { Ok(()) } else { Err(env.log()) }
    })
    .await;
    tokio::time::sleep(crate::harness::QUIET_TIME / 5).await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
}
