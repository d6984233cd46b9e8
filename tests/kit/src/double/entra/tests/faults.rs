//! Faults of the token endpoint: what the client sees.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::double::client::Answer;
use crate::entra::RetryAfter;

/// The response to a valid secret under `fault`.
async fn under(fault: Fault) -> (Entra, Seen) {
    let entra = entra().await;
    entra.fail_next(1, fault);
    let seen = ask(&entra, SECRET).await;
    (entra, seen)
}

fn shape(answer: &Answer) -> (u16, Option<&str>, bool) {
    let is_json = serde_json::from_str::<Value>(&answer.body).is_ok();
    (answer.status, answer.header("content-type"), is_json)
}

const JSON: Option<&str> = Some("application/json; charset=utf-8");
const HTML: Option<&str> = Some("text/html; charset=utf-8");

#[tokio::test]
async fn faults_have_the_response_that_they_are_named_after() {
    let (_, seen) = under(Fault::Html503).await;
    assert_eq!(shape(seen.answer()), (503, HTML, false));
    let (_, seen) = under(Fault::Empty504).await;
    assert_eq!((seen.answer().status, seen.answer().body.as_str()), (504, ""));
    let (_, seen) = under(Fault::TruncatedJson).await;
    assert_eq!(shape(seen.answer()), (200, JSON, false));
    assert!(seen.answer().is_whole());
    let (_, seen) = under(Fault::NotJson).await;
    assert_eq!(shape(seen.answer()), (200, HTML, false));
    let (_, seen) = under(Fault::Redirect307("http://127.0.0.1:1/".to_owned())).await;
    assert_eq!((seen.answer().status, seen.answer().header("location")), (307, Some("http://127.0.0.1:1/")));
    let (_, seen) = under(Fault::Throttled { retry_after: RetryAfter::Seconds(3) }).await;
    assert_eq!((seen.answer().status, seen.answer().header("retry-after")), (429, Some("3")));
    let odd = Fault::Status(418, "tea".to_owned(), vec![("x-pot".to_owned(), "1".to_owned())]);
    let (entra, seen) = under(odd).await;
    assert_eq!(
        (seen.answer().status, seen.answer().body.as_str(), seen.answer().header("x-pot")),
        (418, "tea", Some("1"))
    );
    assert_eq!(entra.requests()[0].outcome, Outcome::Fault("Status"));
    assert_eq!(ask(&entra, SECRET).await.answer().status, 200, "one request only");
}

#[tokio::test]
async fn faults_of_the_error_body_are_rejections_of_a_valid_secret() {
    let (_, seen) = under(Fault::MissingErrorCodes).await;
    let body = seen.answer().json();
    assert_eq!((seen.answer().status, &body["error"]), (401, &json!("invalid_client")));
    assert_eq!(body.get("error_codes"), None);

    let (_, seen) = under(Fault::UnknownCode(12_345, "brand_new".to_owned())).await;
    assert_eq!(rejection(&seen), rejected(400, "brand_new", 12_345));
}

#[tokio::test]
async fn hangs_and_slow_bodies_are_divided_by_the_time_scale() {
    let entra = entra().await;
    entra.time_scale(100);
    for (fault, expect_answer) in
        [(Fault::Hang(Duration::from_secs(5)), false), (Fault::SlowBody(Duration::from_secs(5)), true)]
    {
        entra.fail_next(1, fault);
        let start = Instant::now();
        let seen = ask(&entra, SECRET).await;
        let took = start.elapsed();
        assert!((50..2000).contains(&took.as_millis()), "{took:?}");
        if expect_answer {
            assert_eq!(seen.answer().status, 200);
            assert!(seen.answer().is_whole());
        } else {
            assert_eq!(seen, Seen::Reset);
        }
    }
    let (_, seen) = under(Fault::Reset).await;
    assert_eq!(seen, Seen::Reset);
}

#[tokio::test]
async fn faults_of_one_app_do_not_affect_other_apps() {
    let entra = entra().await;
    entra.set_secrets(TENANT, "other", &["s"]);
    entra.fail_app_always(TENANT, CLIENT, Fault::Html503);
    assert_eq!(ask(&entra, SECRET).await.answer().status, 503);
    assert_eq!(ask_as(&entra, TENANT, "other", "s").await.answer().status, 200);
    entra.clear_app_faults(TENANT, CLIENT);
    assert_eq!(ask(&entra, SECRET).await.answer().status, 200);

    entra.fail_always(Fault::Empty504);
    assert_eq!(ask(&entra, SECRET).await.answer().status, 504);
    assert_eq!(ask(&entra, SECRET).await.answer().status, 504);
    entra.clear_faults();
    assert_eq!(ask(&entra, SECRET).await.answer().status, 200);
}
