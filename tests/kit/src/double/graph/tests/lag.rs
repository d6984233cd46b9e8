//! Reads that lag behind writes by time.

use std::time::Duration;

use super::*;
use crate::graph::ReadLag;

const HOUR: Duration = Duration::from_secs(3600);
const END: &str = "2099-01-01T00:00:00Z";

/// An application with one secret that reads show, and how they lag behind later changes.
async fn start(lag: ReadLag) -> (Graph, String, String) {
    let graph = Graph::start().await;
    graph.set_application(TENANT, CLIENT, &[]);
    let token = token(TENANT, &["Application.ReadWrite.All"]).await;
    let first = graph.add_by_hand(TENANT, CLIENT, "first", END).expect("a valid end");
    assert_eq!(count(&graph, &token).await, 1);
    graph.read_lag(lag);
    (graph, token, first.key_id)
}

/// How many secrets the next read shows.
async fn count(graph: &Graph, token: &str) -> usize {
    let body = get(graph, token, &single()).await.json();
    body["passwordCredentials"].as_array().expect("a list").len()
}

/// Makes every delay as good as over.
fn end_delays(graph: &Graph) {
    graph.time_scale(u32::MAX);
}

#[tokio::test]
async fn additions_and_removals_are_shown_late() {
    let lag = ReadLag { adds: HOUR, removals: HOUR, alternates: false };
    let (graph, token, first) = start(lag).await;
    let second = graph.add_by_hand(TENANT, CLIENT, "second", END).expect("a valid end");
    assert_eq!((count(&graph, &token).await, graph.live_secrets(TENANT, CLIENT).len()), (1, 2));
    assert!(graph.remove_by_hand(TENANT, CLIENT, &first));
    let body = get(&graph, &token, &single()).await.json();
    assert_eq!(body["passwordCredentials"][0]["keyId"], first);
    assert_eq!(body["passwordCredentials"].as_array().map(Vec::len), Some(1));
    assert_eq!(graph.live_secrets(TENANT, CLIENT).len(), 1);
    end_delays(&graph);
    let body = get(&graph, &token, &single()).await.json();
    assert_eq!(body["passwordCredentials"].as_array().map(Vec::len), Some(1));
    assert_eq!(body["passwordCredentials"][0]["keyId"], second.key_id);
}

#[tokio::test]
async fn reads_can_alternate_between_the_past_and_the_present() {
    let lag = ReadLag { adds: HOUR, removals: HOUR, alternates: true };
    let (graph, token, first) = start(lag).await;
    assert!(graph.remove_by_hand(TENANT, CLIENT, &first));
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(count(&graph, &token).await);
    }
    assert_eq!(counts, [1, 0, 1, 0]);
}

#[tokio::test]
async fn a_removal_does_not_find_what_reads_do_not_show_yet() {
    let (graph, token, _) = start(ReadLag { adds: HOUR, ..ReadLag::default() }).await;
    let second = graph.add_by_hand(TENANT, CLIENT, "second", END).expect("a valid end");
    let url = format!("{}/v1.0/applications(appId='{CLIENT}')/removePassword", graph.url());
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = json!({"keyId": second.key_id}).to_string();
    let early = client::send("POST", &url, &headers, &body).await;
    assert_eq!(early.response().status, 400);
    assert!(early.response().body.contains("No password credential found"), "{early:?}");
    end_delays(&graph);
    assert_eq!(client::send("POST", &url, &headers, &body).await.response().status, 204);
    assert_eq!(count(&graph, &token).await, 1);
}
