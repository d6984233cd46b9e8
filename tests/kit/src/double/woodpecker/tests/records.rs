//! What is recorded and measured.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::woodpecker::{Fault, Op};

#[tokio::test]
async fn a_request_is_recorded_without_its_secret() {
    let it = woodpecker().await;
    create(&it).await;
    let requests = it.requests("team");
    let request = &requests[0];
    assert_eq!((request.op, request.method.as_str()), (Op::Create, "POST"));
    assert_eq!(request.path, "/rest/v2/mailboxes/microsoft/credentials");
    assert_eq!((request.status, request.credential_id), (Some(201), Some(22_334_455)));
    assert_eq!(request.body_without_secret, without("client_secret"));
    assert!(request.had_secret && request.secret_is("canary") && !request.secret_is("x"));
    assert_eq!((request.in_flight_at_start, request.fault), (1, None));

    let printed = format!("{requests:?} {:?} {:?}", it.credentials("team"), it.summary(Timestamp::MIN));
    assert!(!printed.contains("canary"));
}

#[tokio::test]
async fn writes_lists_and_unauthenticated_requests_are_counted_separately() {
    let it = woodpecker().await;
    list(&it).await;
    it.fail_next(Op::Create, 1, Fault::ConnectionReset);
    create(&it).await;
    send(&it, "PATCH", "/1", json!({ "name": "n" })).await;
    send(&it, "DELETE", "/1", Value::Null).await;
    send(&it, "GET", "/1", Value::Null).await;
    send_with(&it, &[("x-api-key", "nobody")], "POST", "", create_body()).await;

    assert_eq!((it.writes("team"), it.lists("team")), (3, 1));
    let ops: Vec<Op> = it.requests("team").iter().map(|it| it.op).collect();
    assert_eq!(ops, [Op::List, Op::Create, Op::Rename, Op::Delete, Op::Other]);
    assert_eq!(it.unauthenticated_requests().len(), 1);
    it.revoke_key("key");
    list(&it).await;
    assert_eq!(it.requests("team").last().and_then(|it| it.status), Some(401));
}

#[tokio::test]
async fn a_summary_has_one_line_per_request() {
    let it = woodpecker().await;
    list(&it).await;
    let since = Timestamp::now();
    create(&it).await;
    let update = json!({ "client_secret": "s", "secret_expires_at": EXPIRY });
    send(&it, "PATCH", "/22334455", update).await;
    send(&it, "PATCH", "/22334455", json!({ "name": "mail/sales-eu" })).await;
    list(&it).await;
    it.fail_next(Op::Delete, 1, Fault::ProcessedThenReset);
    send(&it, "DELETE", "/22334455", Value::Null).await;
    send(&it, "GET", "/", Value::Null).await;
    assert_eq!(
        it.summary(since),
        [
            "POST credentials app=e1c6… name=\"mail/sales-eu [..]\" → 201 id=22334455",
            "PATCH credentials/22334455 secret expires=2027-11-28T23:59:59Z → 200",
            "PATCH credentials/22334455 name=\"mail/sales-eu\" → 200",
            "GET credentials → 200 (1 credential)",
            "DELETE credentials/22334455 → no response (ProcessedThenReset)",
            "GET /rest/v2/mailboxes/microsoft/credentials/ → 404",
        ]
    );
    it.add_account("other", "other-key");
    assert_eq!(it.summary(since)[3], "GET credentials account=team → 200 (1 credential)");
}

#[tokio::test]
async fn external_changes_appear_in_lists() {
    let it = woodpecker().await;
    let id = it.put("team", entry("external"));
    let mut renamed = it.credentials("team").remove(0);
    "renamed by hand".clone_into(&mut renamed.name);
    assert_eq!(it.put("team", renamed), id);
    let (_, body) = status_and_body(&list(&it).await);
    assert_eq!(body["credentials"][0]["name"], "renamed by hand");
    assert!(it.remove("team", id));
    assert!(!it.remove("team", id));
    assert_eq!(status_and_body(&list(&it).await).1, json!({ "credentials": [] }));
}

#[tokio::test]
async fn requests_that_overlap_are_measured_per_account() {
    let it = woodpecker().await;
    it.add_account("other", "other-key");
    it.service_time(Duration::from_millis(50));
    let other = send_with(&it, &[("x-api-key", "other-key")], "GET", "", Value::Null);
    tokio::join!(list(&it), list(&it), other);
    assert_eq!((it.max_in_flight("team"), it.max_in_flight("other")), (2, 1));
    let at_start: Vec<usize> = it.requests("team").iter().map(|it| it.in_flight_at_start).collect();
    assert_eq!(at_start, [1, 2]);
    assert_eq!(it.in_flight("team"), 0);
}

#[tokio::test]
async fn sequential_requests_never_overlap() {
    let it = woodpecker().await;
    for _ in 0..200 {
        list(&it).await;
    }
    it.fail_next(Op::List, 3, Fault::ConnectionReset);
    for _ in 0..6 {
        list(&it).await;
    }
    it.fail_next(Op::List, 10, Fault::Hang(Duration::from_secs(600)));
    it.fail_next(Op::List, 10, Fault::Slow(Duration::from_secs(600)));
    for _ in 0..20 {
        drop(delayed_list(&it).await);
    }
    list(&it).await;
    assert_eq!(it.max_in_flight("team"), 1);
}

#[tokio::test]
async fn the_vendors_concurrency_limit_can_be_enforced() {
    let it = Arc::new(woodpecker().await);
    it.enforce_concurrency(true);
    it.service_time(Duration::from_millis(50));
    let all: Vec<_> = (0..9)
        .map(|_| {
            let it = Arc::clone(&it);
            tokio::spawn(async move { status(&list(&it).await) })
        })
        .collect();
    let mut statuses = Vec::new();
    for one in all {
        statuses.push(one.await.expect("joins"));
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 429, 429]);
    assert_eq!(status(&list(&it).await), 200, "the queue is free again");
}

/// A list request that has met its fault and is still open.
async fn delayed_list(it: &Woodpecker) -> impl Future<Output = Received> {
    let before = it.requests("team").len();
    let mut request = Box::pin(list(it));
    let fault_applied = async {
        while it.requests("team").get(before).is_none_or(|it| it.fault.is_none()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        received = &mut request => panic!("answered: {received:?}"),
        () = fault_applied => request,
    }
}

/// How many requests count as open for a list request whose predecessor under `fault` disconnects one millisecond
/// after the list request has arrived.
async fn open_during_a_disconnect(fault: Fault) -> usize {
    let it = woodpecker().await;
    it.fail_next(Op::List, 1, fault);
    let waiting = delayed_list(&it).await;
    let disconnecting = async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(waiting);
    };
    tokio::join!(list(&it), disconnecting);
    it.requests("team")[1].in_flight_at_start
}

#[tokio::test]
async fn a_disconnected_client_does_not_overlap_its_next_request() {
    let long = Duration::from_secs(600);
    for fault in [Fault::Hang(long), Fault::ProcessedThenHang(long), Fault::Slow(long)] {
        // A busy machine may notice late, but not five times in a row.
        let mut open = Vec::new();
        while open.len() < 5 && open.last() != Some(&1) {
            open.push(open_during_a_disconnect(fault.clone()).await);
        }
        assert_eq!(open.last(), Some(&1), "{fault:?}: {open:?}");
    }
}

#[tokio::test]
async fn a_request_overlaps_a_delayed_one() {
    let it = woodpecker().await;
    it.fail_next(Op::List, 1, Fault::Hang(Duration::from_secs(600)));
    let waiting = delayed_list(&it).await;
    list(&it).await;
    drop(waiting);
    assert_eq!((it.requests("team")[1].in_flight_at_start, it.max_in_flight("team")), (2, 2));
}
