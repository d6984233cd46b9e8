//! Faults: what the client sees, and whether the request took effect.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::woodpecker::{Fault, Op, RetryAfter};

const LONG: Duration = Duration::from_secs(5);

/// A create under `fault`: what the client sees, and the number of entries at that moment.
async fn create_under(fault: Fault) -> (Received, usize, Woodpecker) {
    let it = woodpecker().await;
    it.time_scale(100);
    it.fail_next(Op::Create, 1, fault);
    let received = create(&it).await;
    let stored = it.credentials("team").len();
    (received, stored, it)
}

#[tokio::test]
async fn faults_before_the_effect_leave_the_state_unchanged() {
    let refused = Fault::RefusedBefore(403, json!({ "code": "E_NO_PERMISSION" }));
    for (fault, expected) in [
        (refused, 403),
        (Fault::Http500Before, 500),
        (Fault::Html502, 502),
        (Fault::Unauthorized, 401),
        (Fault::Throttled { retry_after: None }, 429),
    ] {
        let name = format!("{fault:?}");
        let (received, stored, it) = create_under(fault).await;
        assert_eq!((status(&received), stored), (expected, 0), "{name}");
        assert!(!it.requests("team")[0].took_effect);
        assert_eq!(status(&create(&it).await), 201, "one request only");
    }
    for fault in [Fault::ConnectionReset, Fault::Hang(LONG)] {
        let (received, stored, _) = create_under(fault).await;
        assert_eq!((received, stored), (Received::Reset, 0));
    }
}

#[tokio::test]
async fn faults_before_the_effect_have_their_shapes() {
    let (received, ..) = create_under(Fault::RefusedBefore(403, json!({ "code": "X" }))).await;
    assert_eq!(received.response().json(), json!({ "code": "X" }));
    let (received, ..) = create_under(Fault::Html502).await;
    assert_eq!(received.response().header("content-type"), Some("text/html; charset=utf-8"));
    let (received, ..) = create_under(Fault::Http500Before).await;
    assert_eq!(
        received.response().json()["detail"],
        "An unexpected error has occurred. Please try again later."
    );
    let (received, ..) = create_under(Fault::Throttled { retry_after: None }).await;
    assert_eq!(received.response().header("retry-after"), None);
    let throttled = Fault::Throttled { retry_after: Some(RetryAfter::Seconds(9)) };
    let (received, ..) = create_under(throttled).await;
    assert_eq!(received.response().header("retry-after"), Some("9"));
}

#[tokio::test]
async fn faults_after_the_effect_leave_an_entry_behind() {
    let (received, stored, it) = create_under(Fault::ProcessedThenReset).await;
    assert_eq!((received, stored), (Received::Reset, 1));
    assert_eq!((it.requests("team")[0].status, it.requests("team")[0].took_effect), (None, true));

    let (received, stored, _) = create_under(Fault::ProcessedThenTruncated).await;
    assert_eq!((status(&received), received.response().is_whole(), stored), (201, false, 1));

    let (received, stored, _) = create_under(Fault::ProcessedThen500).await;
    assert_eq!((status(&received), stored), (500, 1));

    let (received, stored, _) = create_under(Fault::EmptyBody).await;
    assert_eq!((status(&received), received.response().body.as_str(), stored), (201, "", 1));

    let (received, stored, _) = create_under(Fault::WrongShape(json!([1]))).await;
    assert_eq!((status(&received), received.response().json(), stored), (201, json!([1]), 1));
}

#[tokio::test]
async fn a_hang_after_the_effect_has_stored_the_entry_from_its_start() {
    let it = woodpecker().await;
    it.fail_next(Op::Create, 1, Fault::ProcessedThenHang(Duration::from_secs(600)));
    let given_up = tokio::time::timeout(Duration::from_millis(200), create(&it)).await;
    assert!(given_up.is_err());
    assert_eq!(it.credentials("team").len(), 1);
}

#[tokio::test]
async fn a_late_effect_comes_after_the_reset() {
    let (received, stored, it) = create_under(Fault::ProcessedLate(LONG * 2)).await;
    assert_eq!((received, stored), (Received::Reset, 0));
    wait_for_an_entry(&it).await;
    let record = &it.requests("team")[0];
    assert_eq!((record.status, record.took_effect, record.credential_id), (None, true, Some(22_334_455)));
}

#[tokio::test]
async fn a_slow_request_takes_effect_after_its_client_disconnects() {
    let start = Instant::now();
    let (received, stored, it) = create_under(Fault::Slow(LONG)).await;
    assert_eq!((status(&received), stored), (201, 1));
    assert!(start.elapsed() >= LONG / 100);

    it.remove("team", 22_334_455);
    it.fail_next(Op::Create, 1, Fault::Slow(LONG * 4));
    let given_up = tokio::time::timeout(Duration::from_millis(100), create(&it)).await;
    assert!(given_up.is_err());
    assert_eq!(it.credentials("team").len(), 0);
    wait_for_an_entry(&it).await;
}

async fn wait_for_an_entry(it: &Woodpecker) {
    let stored = async {
        while it.credentials("team").is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stored).await.expect("an entry appears");
}

#[tokio::test]
async fn lists_can_be_wrong_in_four_ways() {
    let it = woodpecker().await;
    let kept = it.put("team", entry("kept"));
    let hidden = it.put("team", entry("hidden"));

    it.fail_next(Op::List, 1, Fault::ListingWithoutArray);
    assert_eq!(status_and_body(&list(&it).await), (200, json!({})));
    it.fail_next(Op::List, 1, Fault::ListingEmpty);
    assert_eq!(status_and_body(&list(&it).await), (200, json!({ "credentials": [] })));
    it.fail_next(Op::List, 1, Fault::ListingOmits(vec![hidden]));
    let (_, body) = status_and_body(&list(&it).await);
    assert_eq!(
        (body["credentials"].as_array().map(Vec::len), &body["credentials"][0]["credential_id"]),
        (Some(1), &json!(kept))
    );
    it.fail_next(Op::List, 1, Fault::ListingWithoutNames);
    let (_, body) = status_and_body(&list(&it).await);
    assert_eq!(
        (body["credentials"].as_array().map(Vec::len), body["credentials"][0].get("name")),
        (Some(2), None)
    );
    assert_eq!(it.credentials("team").len(), 2);
}

#[tokio::test]
async fn a_fault_strikes_its_operation_and_account_until_healed() {
    let it = woodpecker().await;
    it.add_account("other", "other-key");
    it.fail_always(Op::Rename, Fault::Http500Before);
    it.fail_account_always("team", Op::List, Fault::Html502);
    let id = it.put("team", entry("n"));
    let path = format!("/{id}");

    assert_eq!(status(&list(&it).await), 502);
    let other = send_with(&it, &[("x-api-key", "other-key")], "GET", "", Value::Null).await;
    assert_eq!(status(&other), 200);
    assert_eq!(status(&send(&it, "PATCH", &path, json!({ "name": "x" })).await), 500);
    let update = json!({ "client_secret": "s", "secret_expires_at": EXPIRY });
    assert_eq!(status(&send(&it, "PATCH", &path, update).await), 200, "an update is not a rename");

    it.fail_account_next("team", Op::Delete, 1, Fault::ProcessedThenTruncated);
    assert_eq!(send(&it, "DELETE", &path, Value::Null).await, Received::Reset, "204 has no body to cut");
    it.clear_faults();
    assert_eq!(status(&list(&it).await), 200);
}
