//! A proxy to the API server that delays and fails requests and loses responses on demand.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http_body_util::BodyExt;
use kit::cluster::User;
use kube::Client;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::harness::TestEnv;

/// A proxy between a process and the API server of its test environment.
pub struct FaultProxy {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    is_silent: AtomicBool,
    failing: Mutex<Option<(String, StatusCode)>>,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<String>>,
}

/// What happens to the next request of that method whose path contains that part.
struct Rule {
    method: &'static str,
    part: &'static str,
    kind: Kind,
}

enum Kind {
    LoseAnswer,
    Conflict,
    Hold { reached: oneshot::Sender<Vec<u8>>, released: oneshot::Receiver<()> },
}

/// A request that is delayed before the API server sees it.
pub struct Held {
    reached: Option<oneshot::Receiver<Vec<u8>>>,
    release: oneshot::Sender<()>,
}

// === impl FaultProxy ===

impl FaultProxy {
    /// Directs the processes of the test environment through the proxy from now on.
    pub async fn before(env: &mut TestEnv) -> Self {
        let shared = Arc::new(Shared {
            client: env.cluster.client_for(User::Operator).unwrap(),
            is_silent: AtomicBool::new(false),
            failing: Mutex::default(),
            rules: Mutex::default(),
            seen: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fault_proxy",
            "clusters": [{"name": "fault_proxy", "cluster": {
                "server": format!("http://{}", listener.local_addr().unwrap())
            }}],
            "users": [{"name": "fault_proxy", "user": {"token": "nobody"}}],
            "contexts": [{"name": "fault_proxy", "context": {"cluster": "fault_proxy", "user": "fault_proxy"}}]
        });
        let path: PathBuf = env.cluster.dir().join(format!("{}-fault_proxy.kubeconfig", env.namespace));
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        env.user = Some(path);
        let router = Router::new().fallback(handle).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { shared }
    }

    /// Stops answering all requests.
    pub fn stop_responding(&self) {
        self.shared.is_silent.store(true, Ordering::SeqCst);
    }

    /// Answers requests whose path contains `part` with 503.
    pub fn fail(&self, part: &str) {
        self.respond_with(part, StatusCode::SERVICE_UNAVAILABLE);
    }

    /// Answers requests with this status whose method and path, such as `GET /api`, contain `part`.
    pub fn respond_with(&self, part: &str, status: StatusCode) {
        *self.shared.failing.lock().unwrap() = Some((part.to_owned(), status));
    }

    /// Forwards everything again.
    pub fn recover(&self) {
        *self.shared.failing.lock().unwrap() = None;
    }

    /// Delays the next request of that method whose path contains `part`.
    pub fn hold(&self, method: &'static str, part: &'static str) -> Held {
        let (reached, arrival) = oneshot::channel();
        let (release, released) = oneshot::channel();
        let kind = Kind::Hold { reached, released };
        self.shared.rules.lock().unwrap().push(Rule { method, part, kind });
        Held { reached: Some(arrival), release }
    }

    /// Forwards the next such request and drops its response.
    pub fn lose_response(&self, method: &'static str, part: &'static str) {
        self.shared.rules.lock().unwrap().push(Rule { method, part, kind: Kind::LoseAnswer });
    }

    /// Answers the next `times` such requests with a conflict.
    pub fn conflict(&self, method: &'static str, part: &'static str, times: usize) {
        let mut rules = self.shared.rules.lock().unwrap();
        rules.extend((0..times).map(|_| Rule { method, part, kind: Kind::Conflict }));
    }

    /// The number of requests of that method whose path contains `part`.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().filter(|line| line.starts_with(method) && line.contains(part)).count()
    }
}

// === impl Held ===

impl Held {
    /// Waits until the request arrives, and returns its body.
    pub async fn reached(&mut self) -> Vec<u8> {
        let reached = self.reached.take().expect("it is waited for once");
        let reached = tokio::time::timeout(crate::harness::QUIET_TIME, reached).await;
        reached.expect("a delayed request").unwrap()
    }

    /// Forwards the request.
    pub fn release(self) {
        let _is_waited_for = self.release.send(());
    }
}

// === impl Shared ===

impl Shared {
    fn rule(&self, method: &str, path: &str) -> Option<Kind> {
        let mut rules = self.rules.lock().unwrap();
        let at = rules.iter().position(|rule| rule.method == method && path.contains(rule.part))?;
        Some(rules.remove(at).kind)
    }

    async fn forward(&self, head: http::request::Parts, body: Vec<u8>) -> Response {
        let path = head.uri.path_and_query().unwrap().as_str();
        let mut request = http::Request::builder().method(head.method).uri(path);
        for (name, value) in &head.headers {
            let is_of_this_hop = [AUTHORIZATION, HOST, CONTENT_LENGTH, TRANSFER_ENCODING, ACCEPT_ENCODING];
            if !is_of_this_hop.contains(name) {
                request = request.header(name, value);
            }
        }
        match self.client.send(request.body(body.into()).unwrap()).await {
            Ok(response) => {
                let (mut head, body) = response.into_parts();
                head.headers.remove(TRANSFER_ENCODING);
                Response::from_parts(head, Body::new(body))
            }
            Err(_) => StatusCode::BAD_GATEWAY.into_response(),
        }
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let (method, path) = (head.method.to_string(), head.uri.path().to_owned());
    let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
    shared.seen.lock().unwrap().push(format!("{method} {path}"));
    if shared.is_silent.load(Ordering::SeqCst) {
        return std::future::pending().await;
    }
    let failing =
        shared.failing.lock().unwrap().clone().filter(|(part, _)| format!("{method} {path}").contains(part));
    if let Some((_, status)) = failing {
        return status.into_response();
    }
    match shared.rule(&method, &path) {
        None => shared.forward(head, body).await,
        Some(Kind::LoseAnswer) => {
            shared.forward(head, body).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Some(Kind::Conflict) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "code": 409,
                "message": "the object has been modified"
            });
            (StatusCode::CONFLICT, axum::Json(status)).into_response()
        }
        Some(Kind::Hold { reached, released }) => {
            let _is_waited_for = reached.send(body.clone());
            let _is_released = released.await;
            shared.forward(head, body).await
        }
    }
}
