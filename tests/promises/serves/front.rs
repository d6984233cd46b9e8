//! A way to the API server that holds requests up, fails and loses answers when a test says so.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

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

use crate::stage::Stage;

/// Stands between a process and the API server of its stage.
pub struct Front {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    is_silent: AtomicBool,
    failing: Mutex<Option<(String, StatusCode)>>,
    traps: Mutex<Vec<Trap>>,
    seen: Mutex<Vec<String>>,
}

/// What happens to the next request of that method whose path holds that.
struct Trap {
    method: &'static str,
    part: &'static str,
    kind: Kind,
}

enum Kind {
    LoseAnswer,
    Conflict,
    Hold { reached: oneshot::Sender<Vec<u8>>, released: oneshot::Receiver<()> },
}

/// A request that is held up before the API server sees it.
pub struct Held {
    reached: Option<oneshot::Receiver<Vec<u8>>>,
    release: oneshot::Sender<()>,
}

// === impl Front ===

impl Front {
    /// From now on the stage's processes go through it.
    pub async fn before(stage: &mut Stage) -> Self {
        let shared = Arc::new(Shared {
            client: stage.cluster.client_for(User::Operator).unwrap(),
            is_silent: AtomicBool::new(false),
            failing: Mutex::default(),
            traps: Mutex::default(),
            seen: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "front",
            "clusters": [{"name": "front", "cluster": {
                "server": format!("http://{}", listener.local_addr().unwrap())
            }}],
            "users": [{"name": "front", "user": {"token": "nobody"}}],
            "contexts": [{"name": "front", "context": {"cluster": "front", "user": "front"}}]
        });
        let path: PathBuf = stage.cluster.dir().join(format!("{}-front.kubeconfig", stage.namespace));
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        stage.user = Some(path);
        let router = Router::new().fallback(pass).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { shared }
    }

    /// No request is answered any more.
    pub fn fall_silent(&self) {
        self.shared.is_silent.store(true, Ordering::SeqCst);
    }

    /// Requests whose path holds that get a 503.
    pub fn fail(&self, part: &str) {
        self.answer(part, StatusCode::SERVICE_UNAVAILABLE);
    }

    /// Requests whose path holds that get this status.
    pub fn answer(&self, part: &str, status: StatusCode) {
        *self.shared.failing.lock().unwrap() = Some((part.to_owned(), status));
    }

    /// Everything is passed on again.
    pub fn mend(&self) {
        *self.shared.failing.lock().unwrap() = None;
    }

    /// Holds the next request of that method up whose path holds that.
    pub fn hold(&self, method: &'static str, part: &'static str) -> Held {
        let (reached, arrival) = oneshot::channel();
        let (release, released) = oneshot::channel();
        let kind = Kind::Hold { reached, released };
        self.shared.traps.lock().unwrap().push(Trap { method, part, kind });
        Held { reached: Some(arrival), release }
    }

    /// Carries the next such request out and says nothing of what became of it.
    pub fn lose_answer(&self, method: &'static str, part: &'static str) {
        self.shared.traps.lock().unwrap().push(Trap { method, part, kind: Kind::LoseAnswer });
    }

    /// Answers the next such requests, so many of them, as if another change had got ahead.
    pub fn conflict(&self, method: &'static str, part: &'static str, times: usize) {
        let mut traps = self.shared.traps.lock().unwrap();
        traps.extend((0..times).map(|_| Trap { method, part, kind: Kind::Conflict }));
    }

    /// How many requests of that method came whose path holds that.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().filter(|line| line.starts_with(method) && line.contains(part)).count()
    }
}

// === impl Held ===

impl Held {
    /// Waits until the request is there, and returns its body.
    pub async fn reached(&mut self) -> Vec<u8> {
        let reached = self.reached.take().expect("it is waited for once");
        let reached = tokio::time::timeout(crate::stage::A_WHILE, reached).await;
        reached.expect("a request that is held up").unwrap()
    }

    /// Lets it go on.
    pub fn release(self) {
        let _is_waited_for = self.release.send(());
    }
}

// === impl Shared ===

impl Shared {
    fn trap(&self, method: &str, path: &str) -> Option<Kind> {
        let mut traps = self.traps.lock().unwrap();
        let at = traps.iter().position(|trap| trap.method == method && path.contains(trap.part))?;
        Some(traps.remove(at).kind)
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
            Ok(answer) => {
                let (mut head, body) = answer.into_parts();
                head.headers.remove(TRANSFER_ENCODING);
                Response::from_parts(head, Body::new(body))
            }
            Err(_) => StatusCode::BAD_GATEWAY.into_response(),
        }
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let (method, path) = (head.method.to_string(), head.uri.path().to_owned());
    let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
    shared.seen.lock().unwrap().push(format!("{method} {path}"));
    if shared.is_silent.load(Ordering::SeqCst) {
        return std::future::pending().await;
    }
    let failing = shared.failing.lock().unwrap().clone().filter(|(part, _)| path.contains(part));
    if let Some((_, status)) = failing {
        return status.into_response();
    }
    match shared.trap(&method, &path) {
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
