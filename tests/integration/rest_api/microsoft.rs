//! Microsoft's responses, and what happens to a request if Microsoft does not respond.

use std::time::Duration;

use kit::double::RetryAfter;
use kit::entra::{AppState, Fault};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::*;

#[tokio::test]
async fn a_rejection_by_microsoft_is_a_422_with_its_constant_and_saves_nothing() {
    let api = Api::start().await;
    let rejected = async |over: Value, word: &str| {
        let response = api.create(over).await;
        assert_eq!(
            (response.status, response.json()),
            (422, json!({"message": word})),
            "{}",
            api.server.log()
        );
    };
    let entra = &api.env.entra;
    rejected(json!({"client_secret": "wr0ng"}), "INVALID_CLIENT_SECRET").await;
    let quoted = api.create(json!({"client_secret": "'wr0ng'"})).await;
    let expected =
        json!({"message": "INVALID_CLIENT_SECRET", "detail": "the value is in quotation marks: remove them"});
    assert_eq!((quoted.status, quoted.json()), (422, expected));
    rejected(json!({"client_id": "00000000-0000-4000-8000-000000000001"}), "APPLICATION_NOT_FOUND").await;
    rejected(json!({"tenant_id": "00000000-0000-4000-8000-000000000002"}), "TENANT_NOT_FOUND").await;
    entra.expire_secret(TENANT, CLIENT, "s3cret-old");
    rejected(json!({"client_secret": "s3cret-old"}), "CLIENT_SECRET_EXPIRED").await;
    entra.set_state(TENANT, CLIENT, AppState::Disabled);
    rejected(json!({}), "APPLICATION_DISABLED").await;
    entra.set_state(TENANT, CLIENT, AppState::WithoutServicePrincipal);
    rejected(json!({}), "SERVICE_PRINCIPAL_MISSING").await;
    entra.set_state(TENANT, CLIENT, AppState::Active);
    entra.fail_next(1, Fault::UnknownCode(4_711, "invalid_request".into()));
    rejected(json!({}), "REJECTED_BY_MICROSOFT").await;
    assert_eq!(api.records().await, []);
}

#[tokio::test]
async fn a_failure_of_microsoft_is_a_500_and_saves_nothing() {
    let api = Api::start().await;
    let other = "00000000-0000-4000-8000-000000000003";
    api.env.entra.add_app(TENANT, other);
    api.env.entra.set_secrets(TENANT, other, &["s3cret-one"]);
    let faults = [
        Fault::Html503,
        Fault::Empty504,
        Fault::Redirect307(api.env.woodpecker.base_url()),
        Fault::TruncatedJson,
        Fault::NotJson,
        Fault::Hang(Duration::from_secs(60)),
        Fault::SlowBody(Duration::from_secs(60)),
        Fault::Reset,
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        api.env.entra.fail_next(1, fault.clone());
        // The number of attempts for one app is limited.
        let response = api.create(json!({"client_id": if at % 2 == 0 { CLIENT } else { other }})).await;
        assert_eq!(response.status, 500, "{fault:?}");
        let detail = "An unexpected error has occurred. Please try again later.";
        response.is_problem("Internal server error", detail);
    }
    assert_eq!(api.records().await, []);
    api.created(json!({})).await;
}

#[tokio::test]
async fn throttling_by_microsoft_is_a_429_with_retry_after() {
    let api = Api::start().await;
    api.env.entra.fail_next(1, Fault::Throttled { retry_after: RetryAfter::Seconds(7) });
    let response = api.create(json!({})).await;
    assert_eq!((response.status, response.header("retry-after")), (429, Some("7")), "{response:?}");
    response.is_problem("Too Many Requests", "Too many requests; please try again later");
    assert_eq!(api.records().await, []);
}

#[tokio::test]
async fn a_client_that_disconnects_during_the_verification_saves_nothing() {
    let api = Api::start().await;
    api.env.entra.service_time(Duration::from_millis(400));
    let body = sample(json!({})).to_string();
    let mut connection = TcpStream::connect(&api.address).await.unwrap();
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    eventually("Microsoft receives a request", || async {
        if api.env.entra.in_flight() > 0 { Ok(()) } else { Err(api.server.log()) }
    })
    .await;
    drop(connection);
    api.server.wait_for_log("ended without a response", Duration::from_secs(30)).await.unwrap();
    api.env.entra.service_time(Duration::ZERO);
    let id = api.created(json!({"name": "the only one"})).await;
    let names: Vec<_> = api.records().await.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, [format!("r-{id}")]);
    let metrics = send_get(&api.server, "/metrics").await.1;
    assert!(metrics.contains("code=\"client_gone\""), "{metrics}");
}
