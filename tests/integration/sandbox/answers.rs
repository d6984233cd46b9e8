//! The answers that magic secrets and ids provoke.

use tokio::time::timeout;

use super::*;

/// Longer than any answer that is not silent for a minute.
const SOON: Duration = Duration::from_secs(20);

/// How a request ends: with its status, `truncated` or `none`.
async fn outcome(sandbox: &Sandbox, method: &str, path: &str, body: Option<Value>) -> String {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {}\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        sandbox.address,
        body.len()
    );
    let response = timeout(SOON, crate::rest_api::http::send_raw(&sandbox.address, head.as_bytes())).await;
    let Ok(Some(response)) = response else { return "none".to_owned() };
    let announced: Option<usize> = response.header("content-length").and_then(|it| it.parse().ok());
    match announced {
        Some(length) if length > response.body.len() => "truncated".to_owned(),
        _ => response.status.to_string(),
    }
}

/// Whether the outcome is the one of the table.
fn is_as_listed(answer: &Value, outcome: &str) -> bool {
    let listed = answer["status"].as_str().unwrap();
    match listed {
        "2xx" if answer["answer"] == "truncated-saved" => outcome == "truncated",
        "2xx" => outcome == "201",
        listed => outcome == listed,
    }
}

#[tokio::test]
async fn every_magic_secret_provokes_its_answer_and_saves_what_it_says() {
    let sandbox = Sandbox::start(&["--no-limits"]).await;
    let answers = sandbox.answers().await;
    assert!(answers.len() > 45, "{}", answers.len());
    let requests = answers.iter().map(|answer| {
        let over = json!({"client_secret": answer["client_secret"], "name": answer["answer"]});
        outcome(&sandbox, "POST", PATH, Some(sample(over)))
    });
    let outcomes = futures::future::join_all(requests).await;
    for (answer, outcome) in answers.iter().zip(&outcomes) {
        assert!(is_as_listed(answer, outcome), "{answer}: {outcome}");
    }
    let names = |all: &[Value], key: &str| -> Vec<String> {
        let mut names: Vec<_> = all.iter().map(|it| it[key].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let saved: Vec<Value> = answers.iter().filter(|it| it["saved"] == true).cloned().collect();
    assert_eq!(names(&sandbox.listed().await, "name"), names(&saved, "answer"));
}

#[tokio::test]
async fn every_magic_id_provokes_its_answer() {
    let sandbox = Sandbox::start(&["--no-limits"]).await;
    let answers = sandbox.answers().await;
    // Those that are silent have been tried with their secrets.
    let quick: Vec<_> = answers.iter().filter(|it| it["status"] != "none").collect();
    for field in ["tenant_id", "client_id"] {
        let requests = quick.iter().map(|answer| {
            let over = json!({field: answer["tenant_or_client_id"]});
            outcome(&sandbox, "POST", PATH, Some(sample(over)))
        });
        let outcomes = futures::future::join_all(requests).await;
        for (answer, outcome) in quick.iter().zip(&outcomes) {
            assert!(is_as_listed(answer, outcome), "{field} {answer}: {outcome}");
        }
    }
    for answer in quick.iter().filter(|it| it["credential_id"].is_number()) {
        let path = format!("{PATH}/{}", answer["credential_id"]);
        let deleted = outcome(&sandbox, "DELETE", &path, None).await;
        let changed = outcome(&sandbox, "PATCH", &path, Some(json!({"name": "x"}))).await;
        assert!(
            is_as_listed(answer, &deleted) && is_as_listed(answer, &changed),
            "{answer}: {deleted} {changed}"
        );
    }
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
