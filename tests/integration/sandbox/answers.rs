//! The answers that magic secrets and ids provoke.

mod expected;

use std::time::Instant;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::expected::{Expected, Form};
use super::*;
use crate::rest_api::http::read;

/// How long a response may take to begin.
const RESPONSE: Duration = Duration::from_secs(20);

/// How long the answer `slow` takes at least, and silence lasts at least.
const LONG: Duration = Duration::from_secs(5);

/// How long a connection may take to be closed.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How a request ended.
#[derive(Debug)]
enum Outcome {
    /// With a response, which began after that time.
    Response(HttpResponse, Duration),
    Closed,
    /// Not within the time.
    Silent,
}

async fn outcome(
    sandbox: &Sandbox,
    (method, path): (&str, &str),
    body: Option<Value>,
    limit: Duration,
) -> Outcome {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {}\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        sandbox.address,
        body.len()
    );
    let mut connection = TcpStream::connect(&sandbox.address).await.unwrap();
    let began = Instant::now();
    connection.write_all(request.as_bytes()).await.unwrap();
    match timeout(limit, connection.peek(&mut [0])).await {
        Err(_elapsed) => Outcome::Silent,
        Ok(Ok(1..)) => {
            let took = began.elapsed();
            Outcome::Response(read(&mut connection).await.expect("a head"), took)
        }
        Ok(Ok(0) | Err(_)) => Outcome::Closed,
    }
}

/// Sends a request, and checks that it is answered as expected.
async fn check(sandbox: &Sandbox, expected: &Expected, (method, path): (&str, &str), body: Option<Value>) {
    let limit = match expected.form {
        Form::Closed => AT_ONCE,
        Form::Silent => LONG,
        _ => RESPONSE,
    };
    let outcome = outcome(sandbox, (method, path), body, limit).await;
    let is_as_expected = match (&outcome, expected.form) {
        (Outcome::Closed, Form::Closed) | (Outcome::Silent, Form::Silent) => true,
        (Outcome::Response(response, took), form) => {
            let is_in_time = !matches!(form, Form::Late) || *took >= LONG;
            is_in_time && is_form(response, form) && response.header("retry-after") == expected.retry_after()
        }
        _ => false,
    };
    assert!(is_as_expected, "{method} {path} {}: {:?}, not {outcome:?}", expected.name, expected.form);
}

/// Whether a response has the form.
fn is_form(response: &HttpResponse, form: Form) -> bool {
    let announced: usize = response.header("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
    let is_truncated = announced > response.body.len();
    let (status, content_type) = (response.status, response.header("content-type"));
    let is = |expected, expected_type: Option<&str>| {
        (status, content_type, is_truncated) == (expected, expected_type, false)
    };
    let (json, text) = (Some("application/json"), String::from_utf8_lossy(&response.body));
    match form {
        Form::Rejected(constant) => is(422, json) && response.json() == json!({"message": constant}),
        Form::Problem(status, title, detail) => {
            response.is_problem(title, detail);
            is(status, json)
        }
        Form::Json(status, body) => {
            is(status, json) && response.json() == serde_json::from_str::<Value>(body).unwrap()
        }
        Form::Html(status, heading) => {
            is(status, Some("text/html")) && text.contains(&format!("<h1>{heading}</h1>"))
        }
        Form::Text(status, body) => is(status, Some("text/plain")) && text == body,
        Form::NoBody(status) => is(status, None) && text.is_empty(),
        Form::Late => is(201, json) && response.json()["credential_id"].is_number(),
        Form::Truncated => {
            (status, content_type, is_truncated) == (201, json, true)
                && announced / 2 == response.body.len()
                && text.starts_with("{\"")
        }
        Form::Closed | Form::Silent => false,
    }
}

/// Checks an answer to each of the requests: all at once, but those that are timed closely one by one.
async fn check_all<'a>(
    sandbox: &Sandbox,
    answers: impl Iterator<Item = &'a Expected>,
    request: impl Fn(&Expected) -> (&'static str, String, Option<Value>),
) {
    let (closed, others): (Vec<_>, Vec<_>) = answers.partition(|it| matches!(it.form, Form::Closed));
    let check = async |expected: &Expected| {
        let (method, path, body) = request(expected);
        check(sandbox, expected, (method, &path), body).await;
    };
    futures::future::join_all(others.into_iter().map(&check)).await;
    for expected in closed {
        check(expected).await;
    }
}

#[tokio::test]
async fn every_magic_secret_provokes_its_answer_and_saves_what_it_says() {
    let sandbox = Sandbox::start(&["--no-limits"]).await;
    let expected = expected::all();
    check_all(&sandbox, expected.iter(), |it| {
        let over = json!({"client_secret": it.secret(), "name": it.name});
        ("POST", PATH.to_owned(), Some(sample(over)))
    })
    .await;
    let mut names: Vec<_> = sandbox.listed().await.iter().map(|it| it["name"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    let mut saved: Vec<_> = expected.iter().filter(|it| it.is_saved).map(|it| json!(it.name)).collect();
    saved.sort_by_key(ToString::to_string);
    assert_eq!(names, saved);
}

#[tokio::test]
async fn the_table_of_answers_names_each_with_its_secret_and_ids() {
    let mut table = Sandbox::start(&[]).await.answers().await;
    for entry in &mut table {
        let entry = entry.as_object_mut().unwrap();
        assert!(entry.remove("meaning").is_some_and(|it| it.is_string()), "{entry:?}");
        assert!(entry.remove("source").is_some_and(|it| it.is_string()), "{entry:?}");
    }
    let mut expected: Vec<_> = expected::all().iter().map(Expected::listed).collect();
    table.sort_by_key(ToString::to_string);
    expected.sort_by_key(ToString::to_string);
    assert_eq!(table, expected);
}

#[tokio::test]
async fn every_magic_id_provokes_its_answer() {
    let sandbox = Sandbox::start(&["--no-limits"]).await;
    let expected = expected::all();
    let of_field = |field: &'static str| {
        check_all(&sandbox, expected.iter(), move |it| {
            let over = json!({field: it.guid()});
            ("POST", PATH.to_owned(), Some(sample(over)))
        })
    };
    tokio::join!(of_field("tenant_id"), of_field("client_id"));
    let of_method = |method: &'static str, body: Option<Value>| {
        let with_id = expected.iter().filter(|it| it.credential_id().is_some());
        check_all(&sandbox, with_id, move |it| {
            let path = format!("{PATH}/{}", it.credential_id().unwrap_or_default());
            (method, path, body.clone())
        })
    };
    tokio::join!(of_method("DELETE", None), of_method("PATCH", Some(json!({"name": "x"}))));
}

#[tokio::test]
async fn an_answer_can_be_planned_for_the_next_requests() {
    let sandbox = Sandbox::start(&[]).await;
    let plan = json!({"answer": "too-many-requests-retry-after", "times": 2});
    assert_eq!(sandbox.request("POST", "/sandbox/next", Some(plan)).await.status, 204);
    for _ in 0..2 {
        let rejected = sandbox.request("GET", PATH, None).await;
        assert_eq!((rejected.status, rejected.header("retry-after")), (429, Some("2")), "{rejected:?}");
    }
    assert_eq!(sandbox.listed().await, Vec::<Value>::new());
    sandbox.request("POST", "/sandbox/next", Some(json!({"answer": "internal-error-saved"}))).await;
    assert_eq!(sandbox.create(json!({})).await.status, 500);
    assert_eq!(sandbox.listed().await.len(), 1, "it was saved");
    sandbox.request("POST", "/sandbox/next", Some(json!({"answer": "internal-error-saved"}))).await;
    let invalid = sandbox.create(json!({"tenant_id": "x"})).await;
    assert_eq!(invalid.status, 422, "what was not saved does not look as if it was: {invalid:?}");
    for wrong in [json!({"answer": "x"}), json!({}), json!({"answer": "in-use", "times": 1001})] {
        assert_eq!(sandbox.request("POST", "/sandbox/next", Some(wrong)).await.status, 400);
    }
}
