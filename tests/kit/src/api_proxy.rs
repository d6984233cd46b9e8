//! A reverse proxy for a Kubernetes API on loopback. It can delay watches, stop in the middle of a response,
//! fail writes, and switch to another API server.
//!
//! It sends requests with the rights of the given client, so its own clients need none.

use std::future::pending;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::{fs, io};

use http::header::{AUTHORIZATION, CONNECTION, HOST, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body as KubeBody;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use self::response::{ForwardedBody, rejection};
use crate::double::lock;

mod response;

/// A proxy. Stops when dropped.
#[derive(Debug)]
pub struct ApiProxy {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    state: watch::Sender<State>,
    /// Requests for Secrets other than watches.
    secret_requests: AtomicUsize,
    /// Connections that carried one of these requests.
    secret_connections: AtomicUsize,
    /// The writes that failed, by path.
    failed_writes: Mutex<Vec<(String, WriteFailure)>>,
}

#[derive(Clone)]
struct State {
    client: Client,
    /// How often it switched to another API server.
    switches: usize,
    /// Watches whose path contains this are delayed.
    held: Option<String>,
    stalled: Option<Stall>,
    failing: Vec<FailingWrites>,
}

/// How a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WriteFailure {
    /// The API server rejects it with 500, and it has no effect.
    Rejected,
    /// The API server rejects it with 409, as if the object had changed, and it has no effect.
    Conflict,
    /// The connection breaks before the API server receives it.
    NotSent,
    /// It takes effect, and the connection breaks before the response.
    ResponseLost,
}

/// The next writes whose path contains this fail.
#[derive(Clone)]
struct FailingWrites {
    path: String,
    left: usize,
    failure: WriteFailure,
}

/// What happens to requests whose path contains this.
#[derive(Clone)]
struct Stall {
    path: String,
    /// Whether the response that stops before its end has begun.
    has_begun: bool,
}

/// How many bytes are missing at the end of a stalled response.
const WITHHELD: usize = 2;

// === impl ApiProxy ===

impl ApiProxy {
    /// Starts on a free port of 127.0.0.1 and forwards with that client.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub async fn start(client: Client) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let state = State { client, switches: 0, held: None, stalled: None, failing: Vec::new() };
        let shared = Arc::new(Shared {
            state: watch::Sender::new(state),
            secret_requests: AtomicUsize::new(0),
            secret_connections: AtomicUsize::new(0),
            failed_writes: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { port, shared, task })
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its URL, without TLS.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A client of the proxy.
    ///
    /// # Errors
    ///
    /// The client cannot be set up.
    pub fn client(&self) -> Result<Client, kube::Error> {
        let uri: Uri = self
            .url()
            .parse()
            .map_err(|error: http::uri::InvalidUri| kube::Error::HttpError(error.into()))?;
        Client::try_from(kube::Config::new(uri))
    }

    /// From now on, delays everything that arrives through watches whose path contains this. The order is
    /// kept. An empty text matches every path.
    pub fn hold_watches(&self, path: &str) {
        self.shared.state.send_modify(|state| state.held = Some(path.to_owned()));
    }

    /// Forwards what was delayed.
    pub fn release_watches(&self) {
        self.shared.state.send_modify(|state| state.held = None);
    }

    /// Stops the next response for a path that contains this just before its end, and answers no later
    /// request for such a path.
    pub fn stall(&self, path: &str) {
        let stall = Stall { path: path.to_owned(), has_begun: false };
        self.shared.state.send_modify(|state| state.stalled = Some(stall));
    }

    /// Whether the response that stops before its end has begun.
    pub fn is_stalling(&self) -> bool {
        self.shared.state.borrow().stalled.as_ref().is_some_and(|stall| stall.has_begun)
    }

    /// Ends the stall for new requests.
    pub fn recover(&self) {
        self.shared.state.send_modify(|state| state.stalled = None);
    }

    /// Fails the next `n` writes whose path contains this.
    pub fn fail_writes(&self, path: &str, n: usize, failure: WriteFailure) {
        let failing = FailingWrites { path: path.to_owned(), left: n, failure };
        self.shared.state.send_modify(|state| state.failing.push(failing));
    }

    /// From now on, no write fails.
    pub fn end_write_failures(&self) {
        self.shared.state.send_modify(|state| state.failing.clear());
    }

    /// The writes that failed, by path.
    #[must_use]
    pub fn failed_writes(&self) -> Vec<(String, WriteFailure)> {
        lock(&self.shared.failed_writes).clone()
    }

    /// Cuts every connection, and forwards with that client from now on.
    pub fn switch_to(&self, client: Client) {
        self.shared.state.send_modify(|state| {
            state.client = client;
            state.switches += 1;
        });
    }

    /// The number of requests for Secrets other than watches, and of connections that carried them.
    pub fn secret_traffic(&self) -> (usize, usize) {
        let Shared { secret_requests, secret_connections, .. } = &*self.shared;
        (secret_requests.load(Ordering::Relaxed), secret_connections.load(Ordering::Relaxed))
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Writes a kubeconfig for a server without authentication; with TLS, including its authority's certificate.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_kubeconfig(path: &Path, server: &str, authority: Option<&str>) -> io::Result<()> {
    use base64::Engine as _;
    let authority = authority.map(|pem| base64::engine::general_purpose::STANDARD.encode(pem));
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
        "clusters": [{"name": "proxy", "cluster": {
            "server": server, "certificate-authority-data": authority,
        }}],
        "users": [{"name": "proxy", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
    });
    fs::write(path, kubeconfig.to_string())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((connection, _)) = accepted {
                    connections.spawn(serve(connection, shared.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(connection: TcpStream, shared: Arc<Shared>) {
    let _ = connection.set_nodelay(true);
    let carried_secrets = AtomicBool::new(false);
    let mut state = shared.state.subscribe();
    let switches = state.borrow_and_update().switches;
    let service = service_fn(|request| {
        if is_secret_request(request.uri()) {
            shared.secret_requests.fetch_add(1, Ordering::Relaxed);
            if !carried_secrets.swap(true, Ordering::Relaxed) {
                shared.secret_connections.fetch_add(1, Ordering::Relaxed);
            }
        }
        response(request, shared.clone())
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(connection), service);
    tokio::select! {
        _ = serving => {}
        // Ends like a connection to a server that was killed.
        _ = state.wait_for(|state| state.switches != switches) => {}
    }
}

async fn response(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<ForwardedBody>, kube::Error> {
    let (mut parts, body) = request.into_parts();
    for header in [HOST, AUTHORIZATION, CONNECTION, TRANSFER_ENCODING] {
        parts.headers.remove(header);
    }
    let stalls = shared.stalls(&parts.uri);
    if stalls == Some(false) {
        pending::<()>().await;
    }
    let watched = is_watch(&parts.uri).then(|| parts.uri.path().to_owned());
    let failure = (parts.method != Method::GET).then(|| shared.write_failure(parts.uri.path())).flatten();
    match failure {
        Some(WriteFailure::Rejected) => return Ok(rejection(StatusCode::INTERNAL_SERVER_ERROR)),
        Some(WriteFailure::Conflict) => return Ok(rejection(StatusCode::CONFLICT)),
        Some(WriteFailure::NotSent) => return Err(broken()),
        Some(WriteFailure::ResponseLost) | None => {}
    }
    let body = body.collect().await.map_err(kube::Error::HyperError)?.to_bytes();
    let client = shared.state.borrow().client.clone();
    let response = client.send(Request::from_parts(parts, KubeBody::from(body.to_vec()))).await?;
    if failure.is_some() {
        return Err(broken());
    }
    let (mut parts, body) = response.into_parts();
    for header in [CONNECTION, TRANSFER_ENCODING] {
        parts.headers.remove(header);
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = forward(body, &sender, watched, stalls.is_some(), &shared) => {}
            () = sender.closed() => {}
        }
    });
    Ok(Response::from_parts(parts, ForwardedBody::new(receiver)))
}

async fn forward(
    mut body: KubeBody,
    sender: &mpsc::Sender<Result<Frame<Bytes>, io::Error>>,
    watched: Option<String>,
    stalls: bool,
    shared: &Shared,
) {
    if stalls {
        let whole = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let begun = whole.slice(..whole.len().saturating_sub(WITHHELD));
        let _ = sender.send(Ok(Frame::data(begun))).await;
        return pending().await;
    }
    let mut state = shared.state.subscribe();
    while let Some(frame) = body.frame().await {
        if let Some(path) = &watched {
            let may_forward = |state: &State| state.held.as_ref().is_none_or(|held| !path.contains(held));
            let _ = state.wait_for(may_forward).await;
        }
        if sender.send(frame.map_err(io::Error::other)).await.is_err() {
            return;
        }
    }
}

/// The error that ends a connection without a response.
fn broken() -> kube::Error {
    kube::Error::Service("the proxy ends this connection".into())
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1"))
}

fn is_secret_request(uri: &Uri) -> bool {
    uri.path().starts_with("/api/v1/") && uri.path().contains("/secrets") && !is_watch(uri)
}

// === impl Shared ===

impl Shared {
    /// How this write fails, if it does.
    fn write_failure(&self, path: &str) -> Option<WriteFailure> {
        let mut failure = None;
        self.state.send_if_modified(|state| {
            let next = state.failing.iter_mut().find(|it| it.left > 0 && path.contains(&it.path));
            if let Some(next) = next {
                next.left -= 1;
                failure = Some(next.failure);
            }
            state.failing.retain(|it| it.left > 0);
            false
        });
        let failure = failure?;
        lock(&self.failed_writes).push((path.to_owned(), failure));
        Some(failure)
    }

    /// Whether a response for this path stops before its end (`true`) or does not begin (`false`).
    fn stalls(&self, uri: &Uri) -> Option<bool> {
        let mut stalls = None;
        self.state.send_if_modified(|state| {
            if let Some(stall) = state.stalled.as_mut().filter(|it| uri.path().contains(&it.path)) {
                stalls = Some(!stall.has_begun);
                stall.has_begun = true;
            }
            stalls == Some(true)
        });
        stalls
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
