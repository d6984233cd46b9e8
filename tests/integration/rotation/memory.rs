//! Client secrets that the operator created, in its memory.

use std::time::Duration;

use base64::Engine as _;

use super::*;
use crate::harness::API_KEY;
use crate::memory_zeroing::find_in;

/// Longer than the lifetime of anything that a reconcile leaves behind.
const A_WHILE: Duration = Duration::from_secs(10);

/// The mark of each client secret that the double makes, as it is and in base64 at each offset. The outer characters in
/// base64 depend on what is beside it.
fn traces() -> Vec<String> {
    let encode = |padding: &str| {
        let text = format!("{padding}{}", kit::graph::SECRET_MARK);
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(text);
        encoded[4..encoded.len() - 2].to_owned()
    };
    let plain = kit::graph::SECRET_MARK.to_owned();
    vec![plain, encode(""), encode("x"), encode("xx")]
}

#[tokio::test]
async fn no_created_client_secret_is_in_memory_ten_seconds_after_its_registration() {
    let (mut env, graph) = bare().await;
    // Only root can read the memory of a process that is not dumpable.
    env.extra_args.push("--allow-core-dumps".to_owned());
    // At this pace the reading that follows a registration comes after the search.
    env.time_scale = 5;
    graph.time_scale(5);
    env.start_operator().await;
    identity(&env, json!([grant(&env.namespace, TENANT, CLIENT)])).await;
    env.account("agency", json!({})).await;
    env.credential("sales-eu", rotating()).await;
    eventually("the client secret is registered", || async {
        if env.remote().len() == 1 { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let history = graph.history(TENANT, CLIENT);
    assert!(history.iter().any(|it| it.is_in(&env.remote()[0])), "the registered one is the created one");
    env.wait_until_ready("sales-eu").await;
    tokio::time::sleep(A_WHILE).await;
    let operator = env.operator.as_ref().expect("it runs");
    assert!(!find_in(operator, &[API_KEY.to_owned()]).hits.is_empty(), "the search finds what is there");
    let found = find_in(operator, &traces());
    assert!(found.hits.is_empty(), "{:#?}", found.hits);
    assert_eq!(found.unread, 0, "every writable page was read");
}
