//! The double of Graph over real HTTP: what a client sees, and what is recorded.

mod lag;
mod writes;

use serde_json::{Value, json};

use crate::double::client::{self, HttpResponse, Received};
use crate::entra::Entra;
use crate::graph::{Fault, Graph, Op, PasswordEntry, RetryAfter};

const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";
const IDENTITY: &str = "11111111-480e-4a17-9b85-3467967bd179";
const KEY: &str = "670007de-a1b2-4c3d-8e5f-678901234567";
const END: &str = "2027-11-28T10:00:00.0580414Z";

/// A token of an identity with these roles.
async fn token(tenant: &str, roles: &[&str]) -> String {
    let entra = Entra::start().await;
    entra.set_secrets(tenant, IDENTITY, &["s"]);
    entra.set_roles(tenant, IDENTITY, roles);
    let received = request_token(&entra, tenant, IDENTITY, "s").await;
    received.response().json()["access_token"].as_str().expect("a token").to_owned()
}

async fn request_token(entra: &Entra, tenant: &str, client: &str, secret: &str) -> Received {
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", client)
        .append_pair("client_secret", secret)
        .append_pair("scope", "https://graph.microsoft.com/.default")
        .finish();
    let url = format!("{}/{tenant}/oauth2/v2.0/token", entra.url());
    let header = ("content-type", "application/x-www-form-urlencoded");
    client::send("POST", &url, &[header], &form).await
}

async fn get(graph: &Graph, token: &str, path: &str) -> HttpResponse {
    let url = format!("{}/v1.0/{path}", graph.url());
    let bearer = format!("Bearer {token}");
    let received = client::send("GET", &url, &[("authorization", &bearer)], "").await;
    received.response().clone()
}

fn single() -> String {
    format!("applications(appId='{CLIENT}')?$select=id,appId,passwordCredentials")
}

fn list() -> String {
    format!("applications?$filter=appId%20eq%20'{CLIENT}'&$select=id,passwordCredentials")
}

fn principal() -> String {
    format!("servicePrincipals(appId='{CLIENT}')?$select=id,appOwnerOrganizationId,passwordCredentials")
}

async fn graph() -> Graph {
    let graph = Graph::start().await;
    graph.set_application(TENANT, CLIENT, &[PasswordEntry::of(KEY, "s3cret-one", END)]);
    graph
}

fn code(response: &HttpResponse) -> (u16, String) {
    (response.status, response.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn an_application_shows_its_secrets_without_their_text() {
    let graph = graph().await;
    let token = token(TENANT, &["Application.Read.All"]).await;
    let body = get(&graph, &token, &single()).await.json();
    let entry = &body["passwordCredentials"][0];
    assert_eq!((&entry["keyId"], &entry["hint"]), (&json!(KEY), &json!("s3c")));
    assert_eq!((&entry["endDateTime"], &entry["secretText"]), (&json!(END), &Value::Null));
    assert_eq!(get(&graph, &token, &list()).await.json()["value"][0]["appId"], CLIENT);
    assert_eq!(get(&graph, &token, &principal()).await.status, 404);
    graph.set_service_principal(TENANT, CLIENT, &[]);
    let body = get(&graph, &token, &principal()).await.json();
    assert_eq!((&body["appOwnerOrganizationId"], &body["passwordCredentials"]), (&json!(TENANT), &json!([])));
    let requests = graph.requests();
    assert_eq!((requests[0].op, requests[1].op), (Op::Application, Op::ListApplications));
    assert_eq!((requests[0].tenant.as_str(), requests[0].identity.as_str()), (TENANT, IDENTITY));
    assert_eq!((requests[0].status, requests[2].status), (Some(200), Some(404)));
    assert!(!format!("{requests:?}").contains(&token));
    assert_eq!(graph.count(TENANT, &CLIENT.to_uppercase()), 4);
}

#[tokio::test]
async fn the_token_decides_tenant_and_rights() {
    let graph = graph().await;
    for (roles, expected) in [
        (&[][..], (403, "Authorization_RequestDenied")),
        (&["Mail.Send"], (403, "Authorization_RequestDenied")),
        (&["Application.ReadWrite.OwnedBy"], (200, "")),
    ] {
        let found = code(&get(&graph, &token(TENANT, roles).await, &single()).await);
        assert_eq!((found.0, found.1.as_str()), expected, "{roles:?}");
    }
    let other = "cccccccc-aaf4-4f7c-9dc2-2c9160d1cb32";
    let elsewhere = get(&graph, &token(other, &["Application.Read.All"]).await, &single()).await;
    assert_eq!(code(&elsewhere), (404, "Request_ResourceNotFound".to_owned()));
    assert_eq!(code(&get(&graph, "a.b.c", &single()).await), (401, "InvalidAuthenticationToken".to_owned()));

    graph.forbid_single_reads();
    let owner = token(TENANT, &["Application.ReadWrite.OwnedBy"]).await;
    assert_eq!(get(&graph, &owner, &single()).await.status, 403);
    assert_eq!(get(&graph, &owner, &list()).await.status, 200);
    assert_eq!(get(&graph, &token(TENANT, &["Application.Read.All"]).await, &single()).await.status, 200);
}

#[tokio::test]
async fn reads_can_lag_behind_changes() {
    let graph = graph().await;
    let token = token(TENANT, &["Application.Read.All"]).await;
    graph.lag_next(TENANT, CLIENT, 2);
    graph.set_application(TENANT, CLIENT, &[]);
    let mut counts = Vec::new();
    for _ in 0..3 {
        let body = get(&graph, &token, &single()).await.json();
        counts.push(body["passwordCredentials"].as_array().expect("a list").len());
    }
    assert_eq!(counts, [1, 1, 0]);
    assert_eq!(graph.application(TENANT, CLIENT), Some(Vec::new()));
}

#[tokio::test]
async fn faults_come_first_and_in_order() {
    let graph = graph().await;
    let token = token(TENANT, &["Application.Read.All"]).await;
    graph.fail_next(1, Fault::Throttled(RetryAfter::Seconds(7)));
    graph.fail_app_next(TENANT, CLIENT, 1, Fault::Forbidden);
    assert_eq!(get(&graph, &token, &single()).await.status, 403);
    let throttled = get(&graph, &token, &single()).await;
    assert_eq!((throttled.status, throttled.header("retry-after")), (429, Some("7")));
    graph.fail_always(Fault::Html503);
    assert_eq!(get(&graph, &token, &single()).await.status, 503);
    graph.clear_faults();
    assert_eq!(get(&graph, &token, &single()).await.status, 200);
}

#[tokio::test]
async fn other_requests_are_unexpected() {
    let graph = graph().await;
    let token = token(TENANT, &["Application.Read.All"]).await;
    assert_eq!(get(&graph, &token, &format!("applications(appId='{CLIENT}')")).await.status, 404);
    assert_eq!(get(&graph, &token, "users").await.status, 404);
    assert_eq!(graph.unexpected_requests().len(), 2);
    assert!(graph.requests().is_empty());
}
