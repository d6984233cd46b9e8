//! The double of Entra over real HTTP: what a client sees, and what is recorded.

mod assertions;
mod faults;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::double::client::{self, Received};
use crate::entra::{AppState, Entra, Fault, Layout, Outcome};

const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";
const SECRET: &str = "aB3~+/=% \"";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

async fn entra() -> Entra {
    let entra = Entra::start().await;
    entra.set_secrets(TENANT, CLIENT, &[SECRET]);
    entra
}

async fn request_token_as(entra: &Entra, tenant: &str, client: &str, secret: &str) -> Received {
    let url = format!("{}/{tenant}/oauth2/v2.0/token", entra.url());
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", client)
        .append_pair("client_secret", secret)
        .append_pair("scope", "https://graph.microsoft.com/.default")
        .finish();
    client::send("POST", &url, &[FORM, ("client-request-id", "corr-1")], &form).await
}

async fn request_token(entra: &Entra, secret: &str) -> Received {
    request_token_as(entra, TENANT, CLIENT, secret).await
}

/// Status, `error` and first code of a rejection.
fn rejection(received: &Received) -> (u16, String, u64) {
    let response = received.response();
    let body = response.json();
    let error = body["error"].as_str().unwrap_or_default().to_owned();
    (response.status, error, body["error_codes"][0].as_u64().unwrap_or_default())
}

fn rejected(status: u16, error: &str, code: u64) -> (u16, String, u64) {
    (status, error.to_owned(), code)
}

#[tokio::test]
async fn a_known_secret_gets_a_bearer_token_with_ids_in_any_case() {
    let entra = entra().await;
    let received = request_token_as(&entra, &TENANT.to_uppercase(), &CLIENT.to_uppercase(), SECRET).await;
    let response = received.response();
    assert_eq!(response.status, 200);
    let body = response.json();
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!((&body["expires_in"], &body["ext_expires_in"]), (&json!(3599), &json!(3599)));
    assert_eq!(body["access_token"].as_str().map(|it| it.split('.').count()), Some(3));
    assert_eq!(entra.requests()[0].outcome, Outcome::Issued);
}

#[tokio::test]
async fn every_state_has_its_own_rejection() {
    let entra = entra().await;
    assert_eq!(rejection(&request_token(&entra, "wrong").await), rejected(401, "invalid_client", 7_000_215));
    assert_eq!(
        rejection(&request_token(&entra, &format!("{SECRET}\n")).await),
        rejected(401, "invalid_client", 7_000_215)
    );

    for (state, expected) in [
        (AppState::Disabled, rejected(400, "unauthorized_client", 7_000_112)),
        (AppState::WithoutServicePrincipal, rejected(401, "invalid_client", 7_000_229)),
        (AppState::PublicClient, rejected(401, "invalid_client", 700_025)),
        (AppState::BlockedByPolicy, rejected(400, "invalid_grant", 53_003)),
    ] {
        entra.set_state(TENANT, CLIENT, state);
        assert_eq!(rejection(&request_token(&entra, SECRET).await), expected);
    }
    entra.set_state(TENANT, CLIENT, AppState::Active);
    assert_eq!(request_token(&entra, SECRET).await.response().status, 200);

    entra.expire_secret(TENANT, CLIENT, SECRET);
    assert_eq!(rejection(&request_token(&entra, SECRET).await), rejected(401, "invalid_client", 7_000_222));
    entra.remove_secret(TENANT, CLIENT, SECRET);
    assert_eq!(rejection(&request_token(&entra, SECRET).await), rejected(401, "invalid_client", 7_000_215));
    entra.remove_app(TENANT, CLIENT);
    assert_eq!(
        rejection(&request_token(&entra, SECRET).await),
        rejected(400, "unauthorized_client", 700_016)
    );
    entra.remove_tenant(TENANT);
    assert_eq!(rejection(&request_token(&entra, SECRET).await), rejected(400, "invalid_tenant", 90_002));
    assert_eq!(
        rejection(&request_token_as(&entra, "common", CLIENT, SECRET).await),
        rejected(400, "invalid_request", 9_001_023)
    );
    assert_eq!(
        rejection(&request_token_as(&entra, "a_b", CLIENT, SECRET).await),
        rejected(400, "invalid_request", 900_023)
    );
}

#[tokio::test]
async fn a_wrong_scope_and_a_wrong_content_type_are_rejected() {
    let entra = entra().await;
    entra.accept_scope("https://graph.microsoft.us/.default");
    assert_eq!(rejection(&request_token(&entra, SECRET).await), rejected(400, "invalid_scope", 70_011));

    let url = format!("{}/{TENANT}/oauth2/v2.0/token", entra.url());
    let received = client::send("POST", &url, &[("content-type", "application/json")], "{}").await;
    assert_eq!(rejection(&received), rejected(400, "invalid_request", 900_144));
    assert_eq!(entra.requests().len(), 2);
}

fn description(body: &Value) -> &str {
    body["error_description"].as_str().expect("a description")
}

#[tokio::test]
async fn error_bodies_are_complete_in_both_layouts() {
    let entra = entra().await;
    let first = request_token(&entra, "wrong").await.response().json();
    entra.layout(Layout::OneLine);
    let second = request_token(&entra, "wrong").await.response().json();

    let lines: Vec<&str> = description(&first).split("\r\n").collect();
    assert!(lines[0].starts_with("AADSTS7000215: Invalid client secret"), "{lines:?}");
    assert_eq!(lines[1], format!("Trace ID: {}", first["trace_id"].as_str().expect("id")));
    assert_eq!(lines[2], "Correlation ID: corr-1");
    assert_eq!(lines[3], format!("Timestamp: {}", first["timestamp"].as_str().expect("time")));
    assert!(!description(&second).contains(['\r', '\n']));
    assert!(description(&second).contains(" Trace ID: "));

    assert_eq!(first["correlation_id"], "corr-1");
    assert_ne!(first["trace_id"], second["trace_id"]);
    assert_eq!(first["error_uri"], "https://login.microsoftonline.com/error?code=7000215");
    let timestamp = first["timestamp"].as_str().expect("time");
    assert!(jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%SZ", timestamp).is_ok(), "{timestamp}");
}

#[tokio::test]
async fn a_propagating_secret_is_rejected_as_often_as_configured() {
    let entra = entra().await;
    entra.propagate_after(TENANT, CLIENT, "new", 2);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(request_token(&entra, "new").await.response().status);
    }
    assert_eq!(statuses, [401, 401, 200, 200]);
    assert_eq!(request_token(&entra, SECRET).await.response().status, 200, "the old one still works");
}

#[tokio::test]
async fn recorded_requests_do_not_print_their_secret() {
    let entra = entra().await;
    request_token(&entra, "canary").await;
    request_token_as(&entra, TENANT, "other", "x").await;
    let requests = entra.requests();
    assert_eq!(entra.count(TENANT, &CLIENT.to_uppercase()), 1);
    assert_eq!((requests[0].tenant.as_str(), requests[0].client.as_str()), (TENANT, CLIENT));
    assert_eq!(requests[0].scope, "https://graph.microsoft.com/.default");
    assert_eq!(requests[0].client_request_id.as_deref(), Some("corr-1"));
    assert!(requests[0].headers.contains(&("host".to_owned(), "double".to_owned())));
    let rejected = Outcome::Rejected { status: 401, error: "invalid_client".to_owned(), code: 7_000_215 };
    assert_eq!(requests[0].outcome, rejected);
    assert!(requests[0].secret_is("canary") && !requests[0].secret_is("x"));
    assert!(!format!("{requests:?}").contains("canary"));

    let url = format!("{}/{TENANT}/oauth2/v2.0/token", entra.url());
    client::send("POST", &url, &[FORM, ("authorization", "Basic canary")], "").await;
    assert!(!format!("{:?}", entra.requests()).contains("canary"));
}

#[tokio::test]
async fn requests_to_other_paths_are_unexpected() {
    let entra = entra().await;
    let url = format!("{}/{TENANT}/oauth2/token", entra.url());
    assert_eq!(client::send("POST", &url, &[FORM], "").await.response().status, 404);
    assert_eq!(entra.unexpected_requests(), [format!("POST /{TENANT}/oauth2/token")]);
    assert!(entra.requests().is_empty());
}

#[tokio::test]
async fn open_requests_are_counted_until_answered_or_disconnected() {
    let entra = entra().await;
    entra.service_time(Duration::from_millis(30));
    let (a, b) = tokio::join!(request_token(&entra, SECRET), request_token(&entra, SECRET));
    assert_eq!((a.response().status, b.response().status), (200, 200));
    assert_eq!((entra.max_in_flight(), entra.in_flight()), (2, 0));

    entra.fail_next(1, Fault::Hang(Duration::from_secs(600)));
    let given_up = tokio::time::timeout(Duration::from_millis(100), request_token(&entra, SECRET)).await;
    assert!(given_up.is_err());
    let noticed = async {
        while entra.in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), noticed).await.expect("the disconnect is noticed");
}

#[tokio::test]
async fn every_issued_token_differs() {
    let entra = entra().await;
    let mut tokens = BTreeSet::new();
    for _ in 0..3 {
        tokens.insert(request_token(&entra, SECRET).await.response().body.clone());
    }
    assert_eq!(tokens.len(), 3);
}
