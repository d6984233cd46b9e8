use super::*;
use crate::api::Cloud;
use crate::graph::testing::{self, PreparedGraph, json, with_header};
use crate::k8s::leadership::Leadership;
use crate::k8s::leadership::testing::clock;

/// From Microsoft's documentation of addPassword.
const ADDED: &str = r#"{
    "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#microsoft.graph.passwordCredential",
    "customKeyIdentifier": null,
    "endDateTime": "2021-09-09T19:50:29.3086381Z",
    "keyId": "F0B0B335-1d71-4883-8f98-567911bfdca6",
    "startDateTime": "2019-09-09T19:50:29.3086381Z",
    "secretText": "[6gyXA5S20@MN+WRXAJ]I-TO7g1:h2P8",
    "hint": "[6g",
    "displayName": "Password friendly name"
}"#;
const KEY: &str = "f0b0b335-1d71-4883-8f98-567911bfdca6";

fn at() -> TenantKey {
    TenantKey { cloud: Cloud::Global, tenant: "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap() }
}

fn app() -> ClientId {
    "631a96bc-a705-4eda-9f99-fdaf9f54f6a2".parse().unwrap()
}

fn new_secret() -> NewSecret {
    NewSecret {
        display_name: "graph-credential-operator/\"1\"".into(),
        expires_at: "2027-05-01T00:00:00.5Z".parse().unwrap(),
    }
}

async fn add(client: &GraphClient) -> Result<AddedSecret> {
    client.add_password(&at(), &GraphToken::testing("t0ken"), &app(), &new_secret()).await
}

async fn remove(client: &GraphClient) -> Result<()> {
    client.remove_password(&at(), &GraphToken::testing("t0ken"), &app(), KEY).await
}

/// The failure of a call that gets this response, and how long Graph asks to wait.
async fn failure(response: String) -> (WriteFailure, Option<Duration>) {
    let graph = PreparedGraph::start(vec![response]).await;
    let WriteError::Graph { failure, retry_after } =
        add(&graph.client(Leadership::always())).await.unwrap_err()
    else {
        panic!("this replica leads")
    };
    assert_eq!(graph.requests().len(), 1, "nothing is repeated");
    (failure, retry_after)
}

#[tokio::test]
async fn a_secret_is_added_with_an_end_but_no_start() {
    let graph = PreparedGraph::start(vec![json(200, ADDED)]).await;
    let added = add(&graph.client(Leadership::always())).await.unwrap();
    assert_eq!(added.key_id, KEY);
    assert_eq!(added.secret.expose(), "[6gyXA5S20@MN+WRXAJ]I-TO7g1:h2P8");
    assert_eq!(added.expires_at.to_string(), "2021-09-09T19:50:29Z");
    assert!(!format!("{added:?}").contains("6g"), "{added:?}");

    let request = graph.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let path = "/v1.0/applications(appId='631a96bc-a705-4eda-9f99-fdaf9f54f6a2')/addPassword";
    assert!(head.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{head}");
    assert!(head.contains("authorization: Bearer t0ken") && head.contains("content-length: "), "{head}");
    assert!(head.contains("client-request-id: ") && !head.contains("x-ms-throttle-priority"), "{head}");
    let sent: Value = serde_json::from_str(body).unwrap();
    let expected = json!({"passwordCredential": {
        "displayName": "graph-credential-operator/\"1\"", "endDateTime": "2027-05-01T00:00:00Z"
    }});
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn a_removal_is_confirmed_by_204_alone() {
    let gone = "HTTP/1.1 204 X\r\nconnection: close\r\n\r\n".to_owned();
    let graph = PreparedGraph::start(vec![gone, json(200, "{}")]).await;
    let client = graph.client(Leadership::always());
    remove(&client).await.unwrap();
    let error = remove(&client).await.unwrap_err();
    assert!(matches!(error, WriteError::Graph { failure: WriteFailure::Unknown, .. }), "{error:?}");
    let request = graph.requests().remove(0);
    assert!(request.contains("/removePassword HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with(&format!("{{\"keyId\":\"{KEY}\"}}")), "{request}");
}

#[tokio::test]
async fn a_response_that_is_lost_or_unreadable_does_not_tell_whether_the_secret_was_added() {
    let cut = json(200, ADDED).replace("content-length: ", "content-length: 1");
    for response in [
        String::new(),
        "HTTP/1.1 200 X\r\n".to_owned(),
        cut,
        json(200, "{}"),
        json(200, "<html>"),
        json(200, &ADDED.replace(KEY.trim_start_matches("f0b0b335"), "")),
        json(200, &ADDED.replace("2021-09-09T19:50:29.3086381Z", "soon")),
        json(200, &ADDED.replace("[6gyXA5S20@MN+WRXAJ]I-TO7g1:h2P8", "")),
        json(202, "{}"),
        json(500, ""),
        json(503, "<html>"),
    ] {
        assert_eq!(failure(response.clone()).await.0, WriteFailure::Unknown, "{response}");
    }
}

#[tokio::test]
async fn what_a_proxy_adds_behind_the_response_does_not_lose_the_secret() {
    let graph = PreparedGraph::start(vec![json(200, &format!("{ADDED}<html></html>"))]).await;
    assert_eq!(add(&graph.client(Leadership::always())).await.unwrap().key_id, KEY);
}

#[tokio::test]
async fn a_rejection_says_that_nothing_was_added() {
    let concurrent = r#"{"error": {"code": "Request_BadRequest",
        "message": "Error due to concurrent requests being made to the tenant. Please wait briefly and retry."}}"#;
    let insufficient =
        r#"{"error": {"code": "Authorization_RequestDenied", "message": "Insufficient privileges"}}"#;
    let cut = json(403, insufficient).replace("content-length: ", "content-length: 1");
    for (response, expected) in [
        (json(400, concurrent), WriteRejection::Concurrent),
        (json(403, insufficient), WriteRejection::Forbidden),
        (cut, WriteRejection::Forbidden),
        (json(404, "<html>"), WriteRejection::Other(404)),
    ] {
        assert_eq!(failure(response.clone()).await.0, WriteFailure::NotApplied(expected), "{response}");
    }
    let (busy, wait) = failure(with_header(409, "retry-after: 12", "")).await;
    assert_eq!(busy, WriteFailure::NotApplied(WriteRejection::Concurrent));
    assert_eq!(wait, Some(Duration::from_secs(12)));
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let error = add(&testing::client(&root, Leadership::always())).await.unwrap_err();
    let unreachable = WriteFailure::NotApplied(WriteRejection::Unreachable);
    assert!(matches!(error, WriteError::Graph { failure, .. } if failure == unreachable), "{error:?}");
}

#[tokio::test]
async fn nothing_is_sent_while_graph_asks_to_wait() {
    let graph = PreparedGraph::start(vec![with_header(429, "retry-after: 60", "")]).await;
    let client = graph.client(Leadership::always());
    for _ in 0..2 {
        let WriteError::Graph { failure, retry_after } = add(&client).await.unwrap_err() else { panic!() };
        assert_eq!(failure, WriteFailure::NotApplied(WriteRejection::Throttled));
        assert!(retry_after.is_some_and(|wait| wait > Duration::from_secs(50)), "{retry_after:?}");
    }
    assert_eq!(graph.requests().len(), 1);
}

#[tokio::test]
async fn after_several_writes_without_a_response_none_is_sent_for_a_while() {
    let graph = PreparedGraph::start(vec![String::new(); 5]).await;
    let client = graph.client(Leadership::always());
    for _ in 0..5 {
        let error = add(&client).await.unwrap_err();
        assert!(matches!(error, WriteError::Graph { failure: WriteFailure::Unknown, .. }), "{error:?}");
    }
    let WriteError::Graph { failure, retry_after } = add(&client).await.unwrap_err() else { panic!() };
    assert_eq!(failure, WriteFailure::NotApplied(WriteRejection::Unreachable));
    assert!(retry_after.is_some() && graph.requests().len() == 5, "{retry_after:?}");
}

#[tokio::test]
async fn only_a_leader_sends_and_only_requests_that_end_in_time() {
    let graph = PreparedGraph::start(vec![json(200, ADDED)]).await;
    let leadership = Leadership::none(clock, Duration::from_secs(5));
    let client = graph.client(leadership.clone());
    for left in [0, 19] {
        leadership.extend(clock() + Duration::from_secs(left));
        assert!(matches!(add(&client).await, Err(WriteError::NotLeading(_))), "{left} s are left");
        assert!(matches!(remove(&client).await, Err(WriteError::NotLeading(_))), "{left} s are left");
    }
    assert!(graph.requests().is_empty());
    leadership.extend(clock() + Duration::from_secs(30));
    assert!(add(&client).await.is_ok());
}

/// A token of the double of Entra, with permission to change every app.
async fn token() -> GraphToken {
    let (entra, identity) = (kit::entra::Entra::start().await, "11111111-480e-4a17-9b85-3467967bd179");
    entra.set_secrets(at().tenant.as_str(), identity, &["s"]);
    entra.set_roles(at().tenant.as_str(), identity, &["Application.ReadWrite.All"]);
    let form = format!(
        "grant_type=client_credentials&client_id={identity}&client_secret=s\
         &scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"
    );
    let url = format!("{}/{}/oauth2/v2.0/token", entra.url(), at().tenant);
    let request = reqwest::Client::new().post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let body = request.body(form).send().await.unwrap().bytes().await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    GraphToken::testing(body["access_token"].as_str().unwrap())
}

#[tokio::test]
async fn the_double_of_graph_makes_a_secret_and_removes_it() {
    let graph = kit::graph::Graph::start().await;
    let client = testing::client(&graph.url(), Leadership::always());
    let (tenant, app) = (at().tenant, app());
    graph.set_application(tenant.as_str(), app.as_str(), &[]);
    let token = token().await;
    let new = NewSecret { expires_at: "2099-05-01T00:00:00Z".parse().unwrap(), ..new_secret() };
    let added = client.add_password(&at(), &token, &app, &new).await.unwrap();
    assert_eq!(added.expires_at, new.expires_at);
    let live = graph.live_secrets(tenant.as_str(), app.as_str());
    assert_eq!((live.len(), live[0].key_id.as_str()), (1, added.key_id.as_str()));
    assert_eq!(live[0].display_name.as_deref(), Some(new.display_name.as_str()));
    assert!(live[0].secret_is(added.secret.expose()));
    client.remove_password(&at(), &token, &app, &added.key_id).await.unwrap();
    assert!(graph.live_secrets(tenant.as_str(), app.as_str()).is_empty());
    let again = client.remove_password(&at(), &token, &app, &added.key_id).await.unwrap_err();
    let absent = WriteFailure::NotApplied(WriteRejection::KeyNotFound);
    assert!(matches!(again, WriteError::Graph { failure, .. } if failure == absent), "{again:?}");
    assert!(graph.unexpected_requests().is_empty());
}
