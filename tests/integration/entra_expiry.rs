//! The expiry at Microsoft Entra: compared with the given one, or used in its place. No app is read for a namespace
//! that no grant names.

mod access;
mod cost;
mod follow;

use std::time::Duration;

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::api::{EntraIdentity, MicrosoftGraphCredential};
use kit::graph::{Fault, Graph, Op, PasswordEntry};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{CLIENT, EXPIRY, QUIET_TIME, TENANT, TestEnv, condition, eventually, merge, message};

const IDENTITY: &str = "11111111-480e-4a17-9b85-3467967bd179";
const KEY: &str = "670007de-a1b2-4c3d-8e5f-678901234567";
const OTHER_KEY: &str = "770007de-a1b2-4c3d-8e5f-678901234567";
/// On the day of the given expiry.
const SAME_DAY: &str = "2027-11-28T10:00:00.0580414Z";
const EARLIER: &str = "2027-05-01T08:00:00Z";

/// The identity may read every app of the tenant, and its grant names the environment's app.
async fn start() -> (TestEnv, Graph) {
    start_with(&["Application.Read.All"]).await
}

/// The same with other permissions of the identity.
async fn start_with(roles: &[&str]) -> (TestEnv, Graph) {
    let (mut env, graph) = bare().await;
    env.entra.set_roles(TENANT, IDENTITY, roles);
    env.start_operator().await;
    identity(&env, json!([grant(&env.namespace, TENANT, CLIENT)])).await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    (env, graph)
}

/// The same without objects and operator.
async fn bare() -> (TestEnv, Graph) {
    let mut env = TestEnv::bare().await;
    let graph = Graph::start().await;
    env.entra.set_secrets(TENANT, IDENTITY, &["identity-secret"]);
    env.entra.set_roles(TENANT, IDENTITY, &["Application.Read.All"]);
    env.extra_args.extend(["--entra-identities".to_owned(), "--microsoft-graph".to_owned(), graph.url()]);
    (env, graph)
}

fn grant(namespace: &str, tenant: &str, client: &str) -> Value {
    json!({"namespaces": [namespace], "tenantId": tenant, "clientIds": [client]})
}

/// Applies the identity `reader` with these grants, in the namespace of the environment.
async fn identity(env: &TestEnv, grants: Value) {
    env.secret("reader", &[("client-secret", "identity-secret")]).await;
    let auth = json!({"clientSecretRef": {"name": "reader"}});
    let spec = json!({"clientId": IDENTITY, "tenantId": TENANT, "auth": auth, "grants": grants});
    env.apply::<EntraIdentity>("reader", json!({"spec": spec})).await.expect("the identity can be applied");
}

fn entra(mode: &str) -> Value {
    json!({"entra": {"identityRef": {"name": "reader"}, "expiry": mode}})
}

fn entry(end: &str) -> PasswordEntry {
    PasswordEntry::of(KEY, "s3cret-one", end)
}

async fn wait_for(env: &TestEnv, status: ConditionStatus, reason: &str) -> MicrosoftGraphCredential {
    env.wait_for("sales-eu", ConditionType::ExpiryConfirmed, status, reason).await
}

/// Requests a reconcile and waits until it was handled.
async fn reconcile(env: &TestEnv, name: &str) -> MicrosoftGraphCredential {
    env.request_reconcile(name).await;
    let requested = env.read(name).await;
    let requested = requested.reconcile_requested_at().map(str::to_owned);
    env.wait_until(name, "the request is handled", |object| {
        let handled = object.status.as_ref().and_then(|status| status.last_handled_reconcile_at.clone());
        handled == requested
    })
    .await
}

/// Requests a reconcile, which reads the app again.
async fn read_again(env: &TestEnv, graph: &Graph) -> MicrosoftGraphCredential {
    let before = graph.requests().len();
    let object = reconcile(env, "sales-eu").await;
    assert!(graph.requests().len() > before, "the app is read again");
    object
}

fn pending_count(object: &MicrosoftGraphCredential) -> Option<i32> {
    Some(object.status.as_ref()?.entra.as_ref()?.pending_change.as_ref()?.count)
}

fn read_expiry(object: &MicrosoftGraphCredential) -> Option<String> {
    let entra = object.status.as_ref()?.entra.as_ref()?;
    Some(entra.expires_at.as_ref()?.0.to_string())
}

#[tokio::test]
async fn a_given_expiry_that_matches_entra_is_confirmed_with_one_request() {
    let (env, graph) = start().await;
    let other = PasswordEntry::of(OTHER_KEY, "another", "2031-01-01T00:00:00Z");
    graph.set_application(TENANT, CLIENT, &[other, entry(SAME_DAY)]);
    env.credential("sales-eu", entra("Check")).await;
    let object = wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
    let text = message(&object, ConditionType::ExpiryConfirmed);
    assert!(text.contains(EXPIRY) && text.contains("2027-11-28T10:00:00Z"), "{text}");
    let object = env.wait_until_ready("sales-eu").await;
    let read = object.status.as_ref().unwrap().entra.clone().unwrap();
    assert_eq!(read.key_id.as_deref(), Some(KEY));
    assert_eq!(env.remote()[0].secret_expires_at, EXPIRY, "the given expiry is registered");

    let requests = graph.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!((requests[0].op, requests[0].identity.as_str()), (Op::Application, IDENTITY));
    assert_eq!(requests[0].select, "id,appId,signInAudience,passwordCredentials");
    let has = |name: &str| requests[0].headers.iter().any(|(header, _)| header == name);
    assert!(has("client-request-id") && has("x-ms-throttle-priority"), "{requests:?}");
    assert!(graph.unexpected_requests().is_empty());
    let first_token = env.entra.requests().into_iter().find(|it| it.client == CLIENT).unwrap();
    assert!(first_token.at < requests[0].at, "the secret is verified before the app is read");
    for secret in ["s3cret-one", "identity-secret", kit::entra::TOKEN_SIGNATURE] {
        assert!(!env.log().contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn an_expiry_that_is_earlier_at_entra_is_reported_until_the_given_one_is_corrected() {
    let (env, graph) = start().await;
    graph.set_application(TENANT, CLIENT, &[entry(EARLIER)]);
    env.credential("sales-eu", entra("Check")).await;
    let object = wait_for(&env, ConditionStatus::False, "ExpiresEarlier").await;
    let text = message(&object, ConditionType::ExpiryConfirmed);
    assert!(text.contains(EXPIRY) && text.contains(EARLIER), "{text}");
    env.wait_until_ready("sales-eu").await;
    eventually("an event reports it", || async {
        let events = env.events("sales-eu").await;
        let count = events.iter().filter(|event| event.starts_with("ExpiresEarlier")).count();
        if count == 1 { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
    let (_, metrics) = env.get("/metrics").await;
    let series = metrics.lines().find(|line| line.starts_with("graph_credential_expiry_confirmed{"));
    assert!(series.is_some_and(|line| line.contains("ExpiresEarlier") && line.ends_with(" 0")), "{series:?}");

    let corrected = [("client_secret", "s3cret-one"), ("secret_expires_at", "2027-05-01")];
    env.secret("sales-eu-graph", &corrected).await;
    wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
    assert_eq!(env.remote()[0].secret_expires_at, "2027-05-01T23:59:59Z");
    assert_eq!(graph.count(TENANT, CLIENT), 1, "the app is not read again for that");
}

#[tokio::test]
async fn a_secret_of_the_service_principal_is_found_there() {
    let (env, graph) = start().await;
    graph.set_application(TENANT, CLIENT, &[PasswordEntry::of(OTHER_KEY, "another", EARLIER)]);
    graph.set_service_principal(TENANT, CLIENT, &[entry(SAME_DAY)]);
    env.credential("sales-eu", entra("Check")).await;
    let object = wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
    assert!(message(&object, ConditionType::ExpiryConfirmed).contains("service principal"));
    let before = graph.requests().len();
    read_again(&env, &graph).await;
    let last = graph.requests().split_off(before);
    assert!(last.iter().all(|request| request.op == Op::ServicePrincipal), "one request each: {last:?}");
}

#[tokio::test]
async fn an_app_of_another_tenant_names_its_home() {
    const HOME: &str = "cccccccc-aaf4-4f7c-9dc2-2c9160d1cb32";
    let (env, graph) = start().await;
    graph.set_service_principal(TENANT, CLIENT, &[]);
    graph.set_home_tenant(TENANT, CLIENT, HOME);
    env.credential("sales-eu", entra("Check")).await;
    let object = wait_for(&env, ConditionStatus::Unknown, "AppInOtherTenant").await;
    assert!(message(&object, ConditionType::ExpiryConfirmed).contains(HOME));
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn several_secrets_that_look_alike_are_reported_and_none_is_guessed() {
    let (env, graph) = start().await;
    let alike = PasswordEntry::of(OTHER_KEY, "s3cret-two", EARLIER);
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY), alike]);
    env.credential("sales-eu", entra("Check")).await;
    let object = wait_for(&env, ConditionStatus::Unknown, "AmbiguousMatch").await;
    let text = message(&object, ConditionType::ExpiryConfirmed);
    assert!(text.contains('2') && text.contains(EARLIER), "{text}");
    assert_eq!(read_expiry(&object), None);
}

#[tokio::test]
async fn the_only_secret_without_a_hint_is_taken() {
    let (env, graph) = start().await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY).without_hint()]);
    graph.set_service_principal(TENANT, CLIENT, &[]);
    env.credential("sales-eu", entra("Check")).await;
    let object = wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
    let key_id = object.status.and_then(|status| status.entra).and_then(|entra| entra.key_id);
    assert_eq!(key_id, None, "it may be another one");
}

#[tokio::test]
async fn a_secret_that_was_removed_at_entra_is_reported_after_three_readings() {
    let (env, graph) = start().await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    graph.set_service_principal(TENANT, CLIENT, &[]);
    env.credential("sales-eu", entra("Check")).await;
    wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
    let before = graph.requests().iter().filter(|request| request.op == Op::Application).count();
    graph.set_application(TENANT, CLIENT, &[]);
    assert_eq!(pending_count(&read_again(&env, &graph).await), Some(1));
    let object = wait_for(&env, ConditionStatus::False, "EntryMissing").await;
    assert!(message(&object, ConditionType::ExpiryConfirmed).contains("2027-11-28T10:00:00Z"));
    let after = graph.requests().iter().filter(|request| request.op == Op::Application).count();
    assert!(after >= before + 3, "{before} {after}");
}

#[tokio::test]
async fn objects_of_one_app_share_a_reading_and_a_restart_reads_nothing() {
    let (mut env, graph) = start().await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    for name in ["one", "two", "three"] {
        let mut spec = entra("Follow");
        merge(&mut spec, json!({"destination": {"woodpecker": null, "store": {}}}));
        env.credential(name, spec).await;
    }
    for name in ["one", "two", "three"] {
        env.wait_until_ready(name).await;
    }
    assert_eq!(graph.requests().len(), 1, "{:?}", graph.requests());
    env.stop_operator().await;
    let mark = env.cluster.audit_mark().expect("the audit log can be read");
    env.start_operator().await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(graph.requests().len(), 1, "{:?}", graph.requests());
    let writes = env.status_writes(mark);
    let of_credentials = writes.iter().filter(|write| write.contains("microsoftgraphcredentials"));
    assert_eq!(of_credentials.count(), 0, "{writes:?}");
}

#[tokio::test]
async fn an_object_without_the_setting_costs_no_request_and_no_status() {
    let (env, graph) = start().await;
    graph.set_application(TENANT, CLIENT, &[entry(EARLIER)]);
    env.credential("sales-eu", json!({})).await;
    let object = env.wait_until_ready("sales-eu").await;
    assert!(condition(&object, ConditionType::ExpiryConfirmed).is_none());
    assert_eq!(object.status.as_ref().unwrap().entra, None);
    assert_eq!(graph.requests().len(), 0);

    // With the setting it is read, and without it again forgotten.
    env.credential("sales-eu", entra("Check")).await;
    wait_for(&env, ConditionStatus::False, "ExpiresEarlier").await;
    let patch = Patch::Merge(json!({"spec": {"entra": null}}));
    let api = env.api::<MicrosoftGraphCredential>();
    api.patch("sales-eu", &PatchParams::default(), &patch).await.expect("the object can be changed");
    env.wait_until("sales-eu", "nothing about Entra", |object| {
        let status = object.status.as_ref().unwrap();
        status.entra.is_none() && condition(object, ConditionType::ExpiryConfirmed).is_none()
    })
    .await;
}

#[tokio::test]
async fn a_requested_reconcile_reads_the_app_again_and_no_failure_is_kept() {
    let (mut env, graph) = bare().await;
    // Readings are shared for a minute.
    env.time_scale = 1;
    env.start_operator().await;
    identity(&env, json!([grant(&env.namespace, TENANT, CLIENT)])).await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    graph.fail_next(1, Fault::Html503);
    let mut spec = entra("Check");
    merge(&mut spec, json!({"destination": {"woodpecker": null, "store": {}}}));
    env.credential("sales-eu", spec).await;
    wait_for(&env, ConditionStatus::Unknown, "MicrosoftUnavailable").await;
    assert_eq!(graph.requests().len(), 1);
    let object = reconcile(&env, "sales-eu").await;
    assert_eq!(condition(&object, ConditionType::ExpiryConfirmed).unwrap().reason, "ExpiryMatches");
    assert_eq!(graph.requests().len(), 2);
    graph.set_application(TENANT, CLIENT, &[entry(EARLIER)]);
    assert_eq!(pending_count(&reconcile(&env, "sales-eu").await), Some(1));
    assert_eq!(graph.requests().len(), 3);
}
