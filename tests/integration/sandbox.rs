//! `sandbox`: the credentials REST API in memory. It needs neither a cluster nor the doubles.

mod answers;
mod beside;
mod documented;
mod guard;
mod hostile;
mod neighbors;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kit::process::Process;
use serde_json::{Value, json};

use crate::harness::{CLIENT, EXPIRY, TENANT, address, eventually};
use crate::rest_api::http::{HttpResponse, send, send_raw};
use crate::rest_api::{PATH, sample};

/// The default API key, as the page shows it.
pub const KEY: &str = "1000001.sandboxsandboxsandbox";

/// Sandboxes and folders so far.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// A running sandbox with a folder of its own.
pub struct Sandbox {
    pub process: Process,
    pub address: String,
    pub folder: PathBuf,
}

// === impl Sandbox ===

impl Sandbox {
    pub async fn start(args: &[&str]) -> Self {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("sandbox-{}-{number}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self::start_in(folder, args).await
    }

    /// Starts it in a folder, with the arguments `--file state.json` resolved there.
    async fn start_in(folder: PathBuf, args: &[&str]) -> Self {
        let process = Process::builder(env!("CARGO_BIN_EXE_graph-credential-operator"))
            // Nothing of the machine's environment counts.
            .clear_env()
            .args(["sandbox", "--address", "127.0.0.1:0", "--log-format", "json"])
            .args(["--log-level", "info,graph_credential_operator=trace"])
            .args(args)
            .current_dir(&folder)
            .log(folder.join(format!("{}.log", STARTED.fetch_add(1, Ordering::Relaxed))))
            .spawn()
            .await
            .unwrap();
        let address = eventually("the sandbox is served", || async {
            address(&process, "serving the sandbox").ok_or_else(|| process.log())
        })
        .await;
        Self { process, address, folder }
    }

    pub async fn request(&self, method: &str, path: &str, body: Option<Value>) -> HttpResponse {
        self.request_with(&[("x-api-key", KEY)], method, path, body).await
    }

    async fn request_with(
        &self,
        headers: &[(&str, &str)],
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> HttpResponse {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let usual = [("content-type", "application/json"), ("connection", "close")];
        send(&self.address, method, path, &[&usual, headers].concat(), body.as_bytes()).await
    }

    async fn create(&self, over: Value) -> HttpResponse {
        self.request("POST", PATH, Some(sample(over))).await
    }

    pub async fn listed(&self) -> Vec<Value> {
        let response = self.request("GET", PATH, None).await;
        assert_eq!(response.status, 200, "{response:?}\n{}", self.process.log());
        response.json()["credentials"].as_array().unwrap().clone()
    }

    /// The table of answers.
    pub async fn answers(&self) -> Vec<Value> {
        let answers = self.request_with(&[], "GET", "/sandbox/answers", None).await.json();
        answers.as_array().unwrap().clone()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Only if the test has not failed: its log is of use then.
        if !std::thread::panicking() {
            let _best_effort = std::fs::remove_dir_all(&self.folder);
        }
    }
}

#[tokio::test]
async fn the_sandbox_keeps_credentials_as_serve_does() {
    let sandbox = Sandbox::start(&[]).await;
    let created = sandbox.create(json!({"client_secret": "any secret will do"})).await;
    let id = created.json()["credential_id"].as_i64().unwrap();
    let shown = json!({
        "credential_id": id, "tenant_id": TENANT, "client_id": CLIENT, "secret_expires_at": EXPIRY,
        "name": "MS Graph app"
    });
    assert_eq!((created.status, created.json()), (201, shown.clone()));
    assert_eq!(sandbox.listed().await, [shown]);
    let path = format!("{PATH}/{id}");
    let renamed = sandbox.request("PATCH", &path, Some(json!({"name": "Sales"}))).await;
    assert_eq!((renamed.status, &renamed.json()["name"]), (200, &json!("Sales")), "{renamed:?}");
    let half = sandbox.request("PATCH", &path, Some(json!({"client_secret": "x"}))).await;
    assert_eq!((half.status, half.json()), (422, json!({"message": "SECRET_AND_EXPIRY_REQUIRED_TOGETHER"})));
    let later = json!({"client_secret": "another", "secret_expires_at": "2028-01-31T00:00:00Z"});
    let rotated = sandbox.request("PATCH", &path, Some(later)).await;
    assert_eq!((rotated.status, &rotated.json()["name"]), (200, &json!("Sales")), "{rotated:?}");
    assert_eq!(rotated.json()["secret_expires_at"], "2028-01-31T00:00:00Z");
    let removed = sandbox.request("DELETE", &path, None).await;
    assert_eq!((removed.status, removed.body.as_slice()), (204, &b""[..]));
    let gone = sandbox.request("DELETE", &path, None).await;
    assert_eq!(gone.status, 404);
    gone.is_problem("Not Found", "Requested resource does not exist");
    let unknown = sandbox.request_with(&[("x-api-key", "1000001.another")], "GET", PATH, None).await;
    assert_eq!(unknown.status, 401);
    unknown.is_problem("Unauthorized", "Invalid api key");
    let me = sandbox.request("GET", "/rest/v1/me", None).await;
    assert_eq!((me.status, &me.json()["firm_id"]), (200, &json!(1_000_001)), "{me:?}");
    assert_eq!(sandbox.request_with(&[], "GET", "/rest/v1/me", None).await.status, 401);
}

#[tokio::test]
async fn what_is_in_the_file_survives_a_restart_and_is_encrypted() {
    let mut first = Sandbox::start(&["--file", "state.json"]).await;
    let created = first.create(json!({"client_secret": "canary-in-a-file"})).await;
    assert_eq!(created.status, 201, "{created:?}");
    let moved = first.request("POST", "/sandbox/clock", Some(json!({"advance": "P30D"}))).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    let listed = first.listed().await;
    let folder = first.folder.clone();
    let page = first.request("GET", "/", None).await;
    assert!(String::from_utf8_lossy(&page.body).contains("protects nothing"), "the page says so");
    assert!(first.process.stop().await.unwrap().success());
    // What is left belongs to the second one.
    first.folder = PathBuf::new();
    let stored = std::fs::read_to_string(folder.join("state.json")).unwrap();
    assert!(stored.contains(TENANT) && !stored.contains("canary-in-a-file"), "{stored}");

    let second = Sandbox::start_in(folder.clone(), &["--file", "state.json"]).await;
    assert_eq!(second.listed().await, listed);
    let id = &listed[0]["credential_id"];
    let renamed = second.request("PATCH", &format!("{PATH}/{id}"), Some(json!({"name": "b"}))).await;
    assert_eq!(renamed.status, 200, "its envelope still opens: {renamed:?}\n{}", second.process.log());
    let now: jiff::Timestamp =
        second.request("GET", "/sandbox/clock", None).await.json()["now"].as_str().unwrap().parse().unwrap();
    let ahead = now.duration_since(jiff::Timestamp::now()).as_hours();
    assert!((29 * 24..=30 * 24).contains(&ahead), "{ahead}");
}

#[tokio::test]
async fn the_clock_moves_and_a_reset_restores_it_and_creates_what_it_is_given() {
    let sandbox = Sandbox::start(&[]).await;
    sandbox.create(json!({})).await;
    let moved = sandbox.request("POST", "/sandbox/clock", Some(json!({"now": "2030-01-01T00:00:00Z"}))).await;
    assert!(moved.json()["now"].as_str().unwrap().starts_with("2030-01-01T00:00"), "{moved:?}");
    let late = sandbox.create(json!({})).await;
    assert_eq!((late.status, late.json()), (422, json!({"message": "SECRET_EXPIRES_AT_IN_PAST"})));
    for invalid in
        [json!({"now": "soon"}), json!({"now": "2030-01-01T00:00:00Z", "advance": "P1D"}), json!({"a": 1})]
    {
        assert_eq!(sandbox.request("POST", "/sandbox/clock", Some(invalid)).await.status, 400);
    }
    let expired = sample(json!({"secret_expires_at": "2020-01-01T00:00:00Z", "name": "expired"}));
    let seed = json!({"credentials": [sample(json!({})), expired]});
    let reset = sandbox.request("POST", "/sandbox/reset", Some(seed)).await;
    let ids = reset.json()["credential_ids"].clone();
    let mut expected: Vec<i64> = serde_json::from_value(ids).unwrap();
    expected.sort_unstable();
    let mut found: Vec<i64> =
        sandbox.listed().await.iter().map(|it| it["credential_id"].as_i64().unwrap()).collect();
    found.sort_unstable();
    assert_eq!((found, expected.len()), (expected, 2));
    assert_eq!(sandbox.create(json!({})).await.status, 201, "the clock is the machine's again");
    let wrong = json!({"credentials": [sample(json!({"tenant_id": "x"}))]});
    let rejected = sandbox.request("POST", "/sandbox/reset", Some(wrong)).await;
    assert_eq!(rejected.status, 400, "{rejected:?}");
    assert_eq!(sandbox.listed().await.len(), 3, "a rejected reset changes nothing");
}

#[tokio::test]
async fn requests_wait_for_each_other_and_the_eighth_is_rejected_unless_there_are_no_limits() {
    for (args, is_limited) in [(&[][..], true), (&["--no-limits"], false)] {
        let sandbox = Sandbox::start(args).await;
        let slow = sandbox.create(json!({"client_secret": "sandbox-slow-saved"}));
        let others = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            futures::future::join_all((0..7).map(|_| sandbox.request("GET", PATH, None))).await
        };
        let began = std::time::Instant::now();
        let (slow, others) = tokio::join!(slow, others);
        assert_eq!(slow.status, 201);
        assert!(began.elapsed() >= Duration::from_secs(5));
        let rejected: Vec<_> = others.iter().filter(|it| it.status != 200).collect();
        assert_eq!(rejected.len(), usize::from(is_limited), "{rejected:?}");
        assert!(
            rejected.iter().all(|it| it.status == 429 && it.header("retry-after").is_none()),
            "{rejected:?}"
        );
    }
}

#[tokio::test]
async fn secrets_are_in_no_log_and_on_no_page() {
    let sandbox = Sandbox::start(&["--file", "state.json"]).await;
    let canary = "canary-of-the-sandbox";
    let created = sandbox.create(json!({"client_secret": canary})).await;
    let id = created.json()["credential_id"].clone();
    let change = json!({"client_secret": canary, "secret_expires_at": EXPIRY});
    sandbox.request("PATCH", &format!("{PATH}/{id}"), Some(change)).await;
    sandbox.request("GET", &format!("{PATH}/{canary}?secret={canary}"), None).await;
    sandbox.request(canary, &format!("/{canary}"), Some(json!({canary: canary}))).await;
    sandbox.request("POST", PATH, Some(json!({"client_secret": canary, "tenant_id": canary}))).await;
    sandbox.request_with(&[("x-api-key", canary)], "GET", PATH, None).await;
    let seed = json!({"credentials": [sample(json!({"client_secret": canary})), {"client_secret": canary}]});
    let reset = sandbox.request("POST", "/sandbox/reset", Some(seed)).await;
    let log = sandbox.request("GET", "/sandbox/log", None).await;
    assert_eq!(log.json()["requests"].as_array().unwrap().len(), 6, "{log:?}");
    let page = sandbox.request("GET", "/", None).await;
    for shown in [&reset.body, &log.body, &page.body] {
        assert!(!String::from_utf8_lossy(shown).contains(canary));
    }
    assert!(!sandbox.process.log().contains(canary), "{}", sandbox.process.log());
    let stored = std::fs::read_to_string(sandbox.folder.join("state.json")).unwrap();
    assert!(!stored.contains(canary), "{stored}");
}

#[tokio::test]
async fn the_log_shows_requests_in_their_order_and_a_reader_can_continue() {
    let sandbox = Sandbox::start(&[]).await;
    sandbox.create(json!({"client_secret": "sandbox-bad-gateway"})).await;
    sandbox.request("DELETE", &format!("{PATH}/7"), None).await;
    let entries = sandbox.request("GET", "/sandbox/log", None).await.json()["requests"].clone();
    let seen: Vec<_> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|it| json!([it["number"], it["method"], it["route"], it["status"], it["account"], it["answer"]]))
        .collect();
    let item = format!("{PATH}/{{credential_id}}");
    let expected =
        [json!([1, "POST", PATH, 502, "main", "bad-gateway"]), json!([2, "DELETE", item, 404, "main", null])];
    assert_eq!(seen, expected);
    let rest = sandbox.request("GET", "/sandbox/log?after=1", None).await.json();
    assert_eq!(rest["requests"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_log_names_the_company_and_the_answer_that_closed_the_connection() {
    let sandbox = Sandbox::start(&[]).await;
    let company = "20000001";
    let headers = [("x-api-key", KEY), ("x-company-id", company)];
    assert_eq!(sandbox.request_with(&headers, "GET", PATH, None).await.status, 200);
    let body = sample(json!({"client_secret": "sandbox-closed"})).to_string();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: {}\r\nx-api-key: {KEY}\r\nx-company-id: {company}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        sandbox.address,
        body.len()
    );
    assert!(send_raw(&sandbox.address, head.as_bytes()).await.is_none(), "the connection is closed");
    let expected = [
        json!(["GET", 200, format!("company-{company}"), null]),
        json!(["POST", null, format!("company-{company}"), "closed"]),
    ];
    eventually("both are in the log", || async {
        let entries = sandbox.request("GET", "/sandbox/log", None).await.json()["requests"].clone();
        let shown = |it: &Value| json!([it["method"], it["status"], it["account"], it["answer"]]);
        let seen: Vec<_> = entries.as_array().unwrap().iter().map(shown).collect();
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

#[tokio::test]
async fn what_a_client_writes_is_not_logged_and_errors_are_in_the_words_of_the_api() {
    let sandbox = Sandbox::start(&["--strict"]).await;
    let keys = "/rest/v2/agency/companies/20000001/api_keys";
    let key = sandbox.request("POST", keys, Some(json!({"label": "canary-label"}))).await.json();
    let headers = [("x-api-key", key["api_key"].as_str().unwrap())];
    assert_eq!(sandbox.request_with(&headers, "GET", PATH, None).await.status, 200);
    assert!(!sandbox.process.log().contains("canary-label"), "{}", sandbox.process.log());

    let message = |response: HttpResponse| response.json()["detail"].as_str().unwrap().to_owned();
    let seed = json!({"credentials": [sample(json!({"tenant_id": "x"}))]});
    let rejected = sandbox.request("POST", "/sandbox/reset", Some(seed)).await;
    assert_eq!(message(rejected), "credentials[0]: INVALID_TENANT_ID");
    let rejected = sandbox.request("POST", "/sandbox/clock", Some(json!({"advance": "P1M"}))).await;
    assert_eq!(message(rejected), "advance has weeks, days and smaller units only");

    let refused = [("x-api-key", KEY), ("x-flavor", "red")];
    assert_eq!(sandbox.request_with(&refused, "GET", PATH, None).await.status, 400);
    let log = sandbox.request("GET", "/sandbox/log", None).await.json();
    let last = log["requests"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["route"], &last["status"]), (&json!(PATH), &json!(400)), "what is refused is shown");
}

#[tokio::test]
async fn a_planned_answer_waits_for_a_request_that_it_fits() {
    let sandbox = Sandbox::start(&[]).await;
    let plan =
        |answer: &'static str| sandbox.request("POST", "/sandbox/next", Some(json!({"answer": answer})));
    assert_eq!(plan("bad-gateway-saved").await.status, 204);
    assert_eq!(sandbox.request("DELETE", &format!("{PATH}/7"), None).await.status, 404);
    assert_eq!(sandbox.create(json!({})).await.status, 502);
    let id = sandbox.listed().await[0]["credential_id"].clone();
    for odd in [format!("0{id}"), format!("+{id}"), "009000050000".to_owned()] {
        assert_eq!(sandbox.request("DELETE", &format!("{PATH}/{odd}"), None).await.status, 404, "{odd}");
    }
    // There is no body to cut in half.
    assert_eq!(plan("truncated-saved").await.status, 204);
    let head =
        format!("DELETE {PATH}/{id} HTTP/1.1\r\nhost: {}\r\nx-api-key: {KEY}\r\n\r\n", sandbox.address);
    assert!(send_raw(&sandbox.address, head.as_bytes()).await.is_none(), "the connection is closed");
    assert!(sandbox.listed().await.is_empty());
}

#[tokio::test]
async fn magic_addresses_and_companies_are_on_the_page_and_in_json() {
    let sandbox = Sandbox::start(&[]).await;
    let page = String::from_utf8(sandbox.request("GET", "/", None).await.body).unwrap();
    let addresses = sandbox.request("GET", "/sandbox/addresses", None).await.json();
    assert!(addresses.as_array().unwrap().len() >= 7, "{addresses}");
    for shown in addresses.as_array().unwrap().iter().map(|it| it["address"].as_str().unwrap()) {
        assert!(page.contains(shown), "{shown}");
    }
    assert!(page.contains("20000005.sandboxsandboxsandbox"), "the API keys of companies");
}
