//! Adding and removing client secrets.

use std::time::Duration;

use super::*;
use crate::graph::{AppRules, Point, Policy, Propagation, SECRET_MARK};
use crate::woodpecker::Woodpecker;

const OWNED: &str = "Application.ReadWrite.OwnedBy";
const FAR: &str = "2099-05-01T00:00:00Z";

/// An application without secrets, a double of Entra that accepts those that are made, and a token of an owner.
async fn start() -> (Graph, Entra, String) {
    let (graph, entra) = (Graph::start().await, Entra::start().await);
    graph.set_application(TENANT, CLIENT, &[]);
    graph.add_owner(TENANT, CLIENT, &IDENTITY.to_uppercase());
    graph.connect(&entra);
    entra.add_app(TENANT, CLIENT);
    (graph, entra, token(TENANT, &[OWNED]).await)
}

async fn post(graph: &Graph, token: &str, action: &str, body: Value) -> Received {
    let url = format!("{}/v1.0/applications(appId='{CLIENT}')/{action}", graph.url());
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    client::send("POST", &url, &headers, &body.to_string()).await
}

async fn add(graph: &Graph, token: &str) -> Received {
    let new = json!({"displayName": "gco/1", "endDateTime": FAR});
    post(graph, token, "addPassword", json!({"passwordCredential": new})).await
}

async fn remove(graph: &Graph, token: &str, key_id: &str) -> Received {
    post(graph, token, "removePassword", json!({"keyId": key_id})).await
}

/// The ID and the text of a secret that is added now.
async fn added(graph: &Graph, token: &str) -> (String, String) {
    let body = add(graph, token).await.response().json();
    let text = |name: &str| body[name].as_str().expect("a text").to_owned();
    (text("keyId"), text("secretText"))
}

/// The status of a token request with this secret.
async fn status(entra: &Entra, secret: &str) -> u16 {
    request_token(entra, TENANT, CLIENT, secret).await.response().status
}

fn rejection(received: &Received) -> (u16, String) {
    code(received.response())
}

fn rejected(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_secret_works_from_its_addition_to_its_removal_and_its_record_stays() {
    let (graph, entra, token) = start().await;
    let body = add(&graph, &token).await.response().json();
    let (key, text) = (body["keyId"].as_str().expect("an ID"), body["secretText"].as_str().expect("a text"));
    assert_eq!((&body["displayName"], &body["endDateTime"]), (&json!("gco/1"), &json!(FAR)));
    assert_eq!(body["hint"].as_str(), text.get(..3));
    assert!(text.contains(SECRET_MARK) && key.len() == 36, "{body}");
    assert_eq!(status(&entra, text).await, 200);
    let shown = get(&graph, &token, &single()).await.json();
    assert_eq!(shown["passwordCredentials"][0]["keyId"], key);
    assert_eq!(shown["passwordCredentials"][0]["secretText"], Value::Null);

    let removed = remove(&graph, &token, &key.to_uppercase()).await;
    assert_eq!((removed.response().status, removed.response().body.as_str()), (204, ""));
    assert_eq!(status(&entra, text).await, 401);
    let again = remove(&graph, &token, key).await;
    assert!(again.response().body.contains("No password credential found with keyId"), "{again:?}");

    let history = graph.history(TENANT, &CLIENT.to_uppercase());
    assert_eq!((history.len(), graph.live_secrets(TENANT, CLIENT).len()), (1, 0));
    let record = &history[0];
    assert_eq!((record.key_id.as_str(), record.display_name.as_deref()), (key, Some("gco/1")));
    assert_eq!((record.added_by.as_deref(), record.removed_by.as_deref()), (Some(IDENTITY), Some(IDENTITY)));
    assert!(record.secret_is(text) && record.removed_at.is_some_and(|at| at >= record.added_at));
    assert!(!format!("{history:?}{:?}", graph.requests()).contains(text));

    let writes: Vec<_> = graph.requests().into_iter().filter(|it| it.op.is_write()).collect();
    assert_eq!(writes.iter().map(|it| it.took_effect).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!((writes[1].op, &writes[1].body["keyId"]), (Op::RemovePassword, &json!(key.to_uppercase())));
}

#[tokio::test]
async fn secrets_made_by_hand_are_known_too() {
    let (graph, entra, token) = start().await;
    assert_eq!(graph.add_by_hand(TENANT, CLIENT, "portal", "soon"), None);
    let made = graph.add_by_hand(TENANT, CLIENT, "portal", FAR).expect("a valid end");
    assert_eq!(status(&entra, &made.text).await, 200);
    assert_eq!(graph.live_secrets(TENANT, CLIENT)[0].added_by, None);
    assert_eq!(remove(&graph, &token, &made.key_id).await.response().status, 204);
    assert!(!graph.remove_by_hand(TENANT, CLIENT, &made.key_id), "it is gone");

    let expired = graph.add_by_hand(TENANT, CLIENT, "portal", "2020-01-01T00:00:00Z").expect("a valid end");
    let response = request_token(&entra, TENANT, CLIENT, &expired.text).await.response().json();
    assert_eq!(response["error_codes"][0], 7_000_222);
    graph.set_application(TENANT, CLIENT, &[]);
    assert!(graph.live_secrets(TENANT, CLIENT).is_empty());
    assert_eq!(graph.history(TENANT, CLIENT).len(), 2);
}

#[tokio::test]
async fn a_write_needs_a_role_and_ownership() {
    let (graph, _, owner) = start().await;
    let denied = || rejected(403, "Authorization_RequestDenied");
    let reader = token(TENANT, &["Application.Read.All"]).await;
    assert_eq!(rejection(&add(&graph, &reader).await), denied());
    graph.remove_owner(TENANT, CLIENT, IDENTITY);
    assert_eq!(rejection(&add(&graph, &owner).await), denied());
    let admin = token(TENANT, &["Application.ReadWrite.All"]).await;
    assert_eq!(add(&graph, &admin).await.response().status, 200);
    assert_eq!(rejection(&add(&graph, "a.b.c").await), rejected(401, "InvalidAuthenticationToken"));
    graph.remove_application(TENANT, CLIENT);
    assert_eq!(rejection(&add(&graph, &admin).await), rejected(404, "Request_ResourceNotFound"));
}

#[tokio::test]
async fn what_the_tenant_or_the_app_does_not_allow_is_rejected() {
    let (graph, _, token) = start().await;
    let limit = Policy::LongerThan(Duration::from_hours(24 * 90));
    for (rules, expected) in [
        (
            AppRules { policy: Some(limit), ..AppRules::default() },
            rejected(400, "CredentialInvalidLifetimeAsPerAppPolicy"),
        ),
        (
            AppRules { policy: Some(Policy::Secrets), ..AppRules::default() },
            rejected(400, "CredentialTypeNotAllowedAsPerAppPolicy"),
        ),
        (AppRules { is_full: true, ..AppRules::default() }, rejected(403, "Directory_ResourceSizeExceeded")),
    ] {
        graph.set_rules(TENANT, CLIENT, rules);
        assert_eq!(rejection(&add(&graph, &token).await), expected);
    }
    graph.set_rules(TENANT, CLIENT, AppRules { allows_personal_accounts: true, ..AppRules::default() });
    let audience = get(&graph, &token, &single()).await.json()["signInAudience"].clone();
    assert_eq!(audience, "AzureADandPersonalMicrosoftAccount");
    for _ in 0..2 {
        added(&graph, &token).await;
    }
    let third = add(&graph, &token).await;
    assert!(third.response().body.contains("You can only add a maximum of 2 passwords."), "{third:?}");
    graph.set_rules(TENANT, CLIENT, AppRules { hides_hints: true, ..AppRules::default() });
    assert_eq!(add(&graph, &token).await.response().json()["hint"], Value::Null);
    assert_eq!(graph.live_secrets(TENANT, CLIENT).len(), 3);
}

#[tokio::test]
async fn invalid_bodies_are_rejected() {
    let (graph, _, token) = start().await;
    for (credential, expected) in [
        (json!({"endDateTime": "soon"}), "Request_BadRequest"),
        (json!({"endDateTime": "2020-01-01T00:00:00Z"}), "KeyCredentialsInvalidEndDate"),
        (json!({"startDateTime": "2020-01-01T00:00:00Z"}), "KeyCredentialsInvalidStartDate"),
        (json!(null), "Request_BadRequest"),
    ] {
        let sent = post(&graph, &token, "addPassword", json!({"passwordCredential": credential})).await;
        assert_eq!(rejection(&sent), rejected(400, expected), "{credential}");
    }
    let sent = post(&graph, &token, "removePassword", json!({})).await;
    assert_eq!(rejection(&sent), rejected(400, "Request_BadRequest"));
    assert!(graph.history(TENANT, CLIENT).is_empty());
    let without_end = post(&graph, &token, "addPassword", json!({"passwordCredential": {}})).await;
    let end = without_end.response().json()["endDateTime"].as_str().expect("an end").to_owned();
    let left = end.parse::<jiff::Timestamp>().expect("a time").duration_since(jiff::Timestamp::now());
    assert_eq!(left.as_hours() / 24, 729, "two years");
}

#[tokio::test]
async fn writes_close_together_are_rejected_with_409_and_400_in_turn() {
    let (graph, _, token) = start().await;
    graph.write_spacing(Duration::from_secs(3600));
    let (key, _) = added(&graph, &token).await;
    assert_eq!(rejection(&add(&graph, &token).await), rejected(409, "Directory_ConcurrencyViolation"));
    let second = remove(&graph, &token, &key).await;
    assert_eq!(rejection(&second), rejected(400, "Request_BadRequest"));
    assert!(second.response().body.contains("concurrent requests"), "{second:?}");
    graph.time_scale(u32::MAX);
    assert_eq!(remove(&graph, &token, &key).await.response().status, 204);
}

#[tokio::test]
async fn a_fault_after_the_effect_leaves_a_secret_that_nobody_knows() {
    let (graph, entra, token) = start().await;
    for fault in [
        Fault::ProcessedThenReset,
        Fault::ProcessedThenTruncated,
        Fault::ProcessedThenHang(Duration::from_millis(1)),
        Fault::ProcessedThenStatus(503),
        Fault::ProcessedLate(Duration::from_millis(1)),
    ] {
        let before = graph.live_secrets(TENANT, CLIENT).len();
        graph.fail_op_next(Op::AddPassword, 1, fault.clone());
        assert_eq!(get(&graph, &token, &single()).await.status, 200, "reads are not concerned");
        let received = add(&graph, &token).await;
        let is_usable = matches!(&received, Received::Response(it) if it.status == 200 && it.is_whole());
        assert!(!is_usable, "{fault:?}: {received:?}");
        let happened = async {
            while graph.live_secrets(TENANT, CLIENT).len() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), happened).await.expect("it takes effect");
    }
    assert_eq!(entra.requests().len(), 0);
}

#[tokio::test]
async fn a_fault_before_the_effect_leaves_the_application_unchanged() {
    let (graph, _, token) = start().await;
    for fault in [
        Fault::Reset,
        Fault::Hang(Duration::from_millis(1)),
        Fault::Html503,
        Fault::Concurrent(500),
        Fault::Throttled(RetryAfter::Seconds(3)),
    ] {
        graph.fail_app_op_next(TENANT, CLIENT, Op::AddPassword, 1, fault.clone());
        let received = add(&graph, &token).await;
        let is_success = matches!(&received, Received::Response(it) if it.status == 200);
        assert!(!is_success, "{fault:?}: {received:?}");
    }
    assert!(graph.history(TENANT, CLIENT).is_empty());
    added(&graph, &token).await;
}

#[tokio::test]
async fn a_slow_write_takes_effect_after_its_client_disconnects() {
    let (graph, _, token) = start().await;
    graph.fail_op_next(Op::AddPassword, 1, Fault::Slow(Duration::from_millis(100)));
    let given_up = tokio::time::timeout(Duration::from_millis(20), add(&graph, &token)).await;
    assert!(given_up.is_err() && graph.history(TENANT, CLIENT).is_empty());
    let happened = async {
        while graph.history(TENANT, CLIENT).is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), happened).await.expect("it takes effect");
}

/// Waits until a token request with this secret has that status.
async fn wait_for_status(entra: &Entra, secret: &str, expected: u16) {
    let reached = async {
        while status(entra, secret).await != expected {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reached).await.expect("it propagates");
}

#[tokio::test]
async fn the_progress_of_a_write_can_be_followed() {
    let (graph, _, token) = start().await;
    graph.fail_op_next(Op::AddPassword, 1, Fault::ProcessedThenReset);
    let mut progress = graph.follow();
    add(&graph, &token).await;
    for point in [Point::Arrived, Point::Performed, Point::Answered] {
        let reached = progress.recv().await.expect("a point");
        assert_eq!((reached.client.as_str(), reached.op, reached.point), (CLIENT, Op::AddPassword, point));
    }
}

#[tokio::test]
async fn additions_and_removals_propagate_to_entra() {
    let (graph, entra, token) = start().await;
    let (hour, second) = (Duration::from_secs(3600), Duration::from_secs(1));
    graph.propagation(Propagation { tokens: hour, removal: hour, ..Propagation::default() });
    assert_eq!(status(&entra, &added(&graph, &token).await.1).await, 401);
    graph.propagation(Propagation { tokens: second, removal: hour, ..Propagation::default() });
    graph.time_scale(10);
    let (key, text) = added(&graph, &token).await;
    wait_for_status(&entra, &text, 200).await;
    graph.propagation(Propagation { removal: hour, ..Propagation::default() });
    assert_eq!(remove(&graph, &token, &key).await.response().status, 204);
    assert_eq!(status(&entra, &text).await, 200, "the removal has to propagate");
    graph.propagation(Propagation { removal: second, ..Propagation::default() });
    let (key, text) = added(&graph, &token).await;
    assert_eq!(status(&entra, &text).await, 200);
    remove(&graph, &token, &key).await;
    wait_for_status(&entra, &text, 401).await;
}

#[tokio::test]
async fn woodpecker_may_see_a_new_secret_later_or_earlier() {
    let (graph, entra, token) = start().await;
    let woodpecker = Woodpecker::start().await;
    woodpecker.add_account("team", "key");
    woodpecker.verify_with(&entra);
    let hour = Duration::from_secs(3600);
    for (propagation, of_token, of_woodpecker) in [
        (Propagation { tokens: hour, ..Propagation::default() }, 401, 201),
        (Propagation { woodpecker: hour, ..Propagation::default() }, 200, 422),
    ] {
        graph.propagation(propagation);
        let (_, text) = added(&graph, &token).await;
        assert_eq!(status(&entra, &text).await, of_token);
        let url = format!("{}/v2/mailboxes/microsoft/credentials", woodpecker.base_url());
        let headers = [("x-api-key", "key"), ("content-type", "application/json")];
        let body = json!({
            "tenant_id": TENANT, "client_id": CLIENT, "client_secret": text, "secret_expires_at": FAR
        });
        let registered = client::send("POST", &url, &headers, &body.to_string()).await;
        assert_eq!(registered.response().status, of_woodpecker);
    }
}
