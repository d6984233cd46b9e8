//! Faults of the token endpoint: what the client sees.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::double::client::HttpResponse;
use crate::entra::RetryAfter;

/// The response to a valid secret under `fault`.
async fn under(fault: Fault) -> (Entra, Received) {
    let entra = entra().await;
    entra.fail_next(1, fault);
    let received = request_token(&entra, SECRET).await;
    (entra, received)
}

fn shape(response: &HttpResponse) -> (u16, Option<&str>, bool) {
    let is_json = serde_json::from_str::<Value>(&response.body).is_ok();
    (response.status, response.header("content-type"), is_json)
}

const JSON: Option<&str> = Some("application/json; charset=utf-8");
const HTML: Option<&str> = Some("text/html; charset=utf-8");

#[tokio::test]
async fn faults_have_the_response_that_they_are_named_after() {
    let (_, received) = under(Fault::Html503).await;
    assert_eq!(shape(received.response()), (503, HTML, false));
    let (_, received) = under(Fault::Empty504).await;
    assert_eq!((received.response().status, received.response().body.as_str()), (504, ""));
    let (_, received) = under(Fault::TruncatedJson).await;
    assert_eq!(shape(received.response()), (200, JSON, false));
    assert!(received.response().is_whole());
    let (_, received) = under(Fault::NotJson).await;
    assert_eq!(shape(received.response()), (200, HTML, false));
    let (_, received) = under(Fault::Redirect307("http://127.0.0.1:1/".to_owned())).await;
    assert_eq!(
        (received.response().status, received.response().header("location")),
        (307, Some("http://127.0.0.1:1/"))
    );
    let (_, received) = under(Fault::Throttled { retry_after: RetryAfter::Seconds(3) }).await;
    assert_eq!((received.response().status, received.response().header("retry-after")), (429, Some("3")));
    let odd = Fault::Status(418, "tea".to_owned(), vec![("x-pot".to_owned(), "1".to_owned())]);
    let (entra, received) = under(odd).await;
    assert_eq!(
        (received.response().status, received.response().body.as_str(), received.response().header("x-pot")),
        (418, "tea", Some("1"))
    );
    assert_eq!(entra.requests()[0].outcome, Outcome::Fault("Status"));
    assert_eq!(request_token(&entra, SECRET).await.response().status, 200, "one request only");
}

#[tokio::test]
async fn faults_of_the_error_body_are_rejections_of_a_valid_secret() {
    let (_, received) = under(Fault::MissingErrorCodes).await;
    let body = received.response().json();
    assert_eq!((received.response().status, &body["error"]), (401, &json!("invalid_client")));
    assert_eq!(body.get("error_codes"), None);

    let (_, received) = under(Fault::UnknownCode(12_345, "brand_new".to_owned())).await;
    assert_eq!(rejection(&received), rejected(400, "brand_new", 12_345));
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
        let received = request_token(&entra, SECRET).await;
        let took = start.elapsed();
        assert!((50..2000).contains(&took.as_millis()), "{took:?}");
        if expect_answer {
            assert_eq!(received.response().status, 200);
            assert!(received.response().is_whole());
        } else {
            assert_eq!(received, Received::Reset);
        }
    }
    let (_, received) = under(Fault::Reset).await;
    assert_eq!(received, Received::Reset);
}

#[tokio::test]
async fn faults_of_one_app_do_not_affect_other_apps() {
    let entra = entra().await;
    entra.set_secrets(TENANT, "other", &["s"]);
    entra.fail_app_always(TENANT, CLIENT, Fault::Html503);
    assert_eq!(request_token(&entra, SECRET).await.response().status, 503);
    assert_eq!(request_token_as(&entra, TENANT, "other", "s").await.response().status, 200);
    entra.clear_app_faults(TENANT, CLIENT);
    assert_eq!(request_token(&entra, SECRET).await.response().status, 200);

    entra.fail_always(Fault::Empty504);
    assert_eq!(request_token(&entra, SECRET).await.response().status, 504);
    assert_eq!(request_token(&entra, SECRET).await.response().status, 504);
    entra.clear_faults();
    assert_eq!(request_token(&entra, SECRET).await.response().status, 200);
}
