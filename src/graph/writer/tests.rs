use super::*;
use crate::entra::identity::testing::{HOME, OTHER, identity, tokens};
use crate::graph::testing::{PreparedGraph, json, with_header};
use crate::k8s::leadership::Leadership;

const APP: &str = "631a96bc-a705-4eda-9f99-fdaf9f54f6a2";
const OTHER_APP: &str = "731a96bc-a705-4eda-9f99-fdaf9f54f6a2";
const KEY: &str = "f0b0b335-1d71-4883-8f98-567911bfdca6";
const SPACING: Duration = Duration::from_secs(10);

/// A writer with a token in each tenant, and the tokens.
fn writer(graph: &PreparedGraph) -> (AppWriter, GraphTokens) {
    let tokens = tokens();
    for tenant in [HOME, OTHER] {
        tokens.hold(&identity(1), &tenant.parse().unwrap(), "t0ken");
    }
    let client = graph.client(Leadership::always());
    (AppWriter::new(client, tokens.clone(), &Timing::STANDARD), tokens)
}

fn key(tenant: &str, app: &str) -> AppKey {
    let at = TenantKey { cloud: identity(1).cloud, tenant: tenant.parse().unwrap() };
    AppKey { at, client: app.parse().unwrap() }
}

async fn remove(writer: &AppWriter) -> Result<(), AppWriteError> {
    writer.remove(&identity(1), &HOME.parse().unwrap(), &APP.parse().unwrap(), KEY).await
}

#[tokio::test(start_paused = true)]
async fn one_write_to_an_app_at_a_time_and_the_next_some_seconds_later() {
    let (writer, _) = writer(&PreparedGraph::start(Vec::new()).await);
    let turn = writer.take_turn(key(HOME, APP)).unwrap();
    assert_eq!(writer.take_turn(key(HOME, APP)).err(), Some(SPACING), "a write is in progress");
    assert!(writer.take_turn(key(HOME, OTHER_APP)).is_ok(), "another app");
    assert!(writer.take_turn(key(OTHER, APP)).is_ok(), "another tenant");
    tokio::time::advance(Duration::from_mins(1)).await;
    assert_eq!(writer.take_turn(key(HOME, APP)).err(), Some(SPACING), "it is still in progress");
    drop(turn);
    tokio::time::advance(Duration::from_secs(4)).await;
    assert_eq!(writer.clone().take_turn(key(HOME, APP)).err(), Some(Duration::from_secs(6)));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(writer.take_turn(key(HOME, APP)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn only_apps_with_a_recent_write_are_kept() {
    let (writer, _) = writer(&PreparedGraph::start(Vec::new()).await);
    let _in_progress = writer.take_turn(key(HOME, APP)).unwrap();
    for app in 0..50 {
        drop(writer.take_turn(key(HOME, &format!("00000000-0000-4000-8000-{app:012}"))));
    }
    assert_eq!(writer.0.turns.lock().len(), 51);
    tokio::time::advance(SPACING).await;
    drop(writer.take_turn(key(OTHER, APP)));
    assert_eq!(writer.0.turns.lock().len(), 2);
}

#[tokio::test]
async fn a_write_that_is_too_early_is_not_sent() {
    let gone = "HTTP/1.1 204 X\r\nconnection: close\r\n\r\n".to_owned();
    let graph = PreparedGraph::start(vec![gone]).await;
    let (writer, _) = writer(&graph);
    remove(&writer).await.unwrap();
    let new = NewSecret { display_name: "x".into(), expires_at: "2027-05-01T00:00:00Z".parse().unwrap() };
    let error = writer.add(&identity(1), &HOME.parse().unwrap(), &APP.parse().unwrap(), &new).await;
    let error = error.unwrap_err();
    assert!(matches!(error, AppWriteError::TooSoon { .. }) && error.is_not_applied(), "{error:?}");
    assert!(error.retry_after().is_some_and(|wait| wait > SPACING / 2 && wait <= SPACING), "{error:?}");
    assert_eq!(graph.requests().len(), 1);
}

#[tokio::test]
async fn a_longer_wait_that_graph_asks_for_is_kept() {
    let graph = PreparedGraph::start(vec![with_header(409, "retry-after: 40", "")]).await;
    let (writer, _) = writer(&graph);
    let first = remove(&writer).await.unwrap_err();
    assert!(first.is_not_applied() && first.retry_after() == Some(Duration::from_secs(40)), "{first:?}");
    let second = remove(&writer).await.unwrap_err();
    assert!(second.retry_after().is_some_and(|wait| wait > Duration::from_secs(30)), "{second:?}");
}

#[tokio::test]
async fn a_token_that_graph_denies_is_discarded_and_others_are_kept() {
    for (response, is_kept) in [
        (json(403, r#"{"error": {"code": "Authorization_RequestDenied"}}"#), false),
        (json(401, r#"{"error": {"code": "InvalidAuthenticationToken"}}"#), false),
        (json(403, r#"{"error": {"code": "Directory_ResourceSizeExceeded"}}"#), true),
        (json(500, ""), true),
    ] {
        let (writer, tokens) = writer(&PreparedGraph::start(vec![response.clone()]).await);
        let error = remove(&writer).await.unwrap_err();
        assert_eq!(error.is_not_applied(), !response.contains(" 500 "), "{response}");
        let token = tokens.token(&identity(1), &HOME.parse().unwrap()).await;
        assert_eq!(token.is_ok(), is_kept, "{response}");
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_turn_is_not_used_up() {
    let graph = PreparedGraph::start(Vec::new()).await;
    let client = graph.client(Leadership::always());
    let writer = AppWriter::new(client, tokens(), &Timing::STANDARD);
    let error = remove(&writer).await.unwrap_err();
    assert!(matches!(error, AppWriteError::Token(_)) && error.is_not_applied(), "{error:?}");
    assert!(writer.0.turns.lock().is_empty() && graph.requests().is_empty());
}
