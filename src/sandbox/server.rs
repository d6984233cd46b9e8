//! Serves the sandbox until a signal.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backend::Sandbox;
use super::data::DEFAULT_KEY;
use super::guard::Guard;
use super::request_log::{Recorder, record};
use super::{agency, control, mailboxes, me, openapi};
use crate::core::timing::Timing;
use crate::http::server::{Limits, Listen, Server};
use crate::platform;
use crate::rest::{AppState, Credentials, ListLimit, RateLimiter, UnknownFields, routes};

/// Most concurrent connections. An account has a quarter of them.
const CONNECTIONS: usize = 1024;

/// Longest request: longer than the slowest answer.
const REQUEST: Duration = Duration::from_mins(5);

/// What a sandbox is started with.
pub(crate) struct SandboxSettings {
    pub address: SocketAddr,
    /// Further names of this machine.
    pub hosts: Vec<String>,
    /// Where it keeps its data, if not only in memory.
    pub file: Option<PathBuf>,
    /// Whether unknown fields and headers are refused.
    pub is_strict: bool,
    /// Whether Woodpecker's limits are emulated.
    pub has_limits: bool,
}

pub(crate) async fn serve(settings: SandboxSettings) -> anyhow::Result<()> {
    let timing = Timing { rest_request: REQUEST, ..Timing::STANDARD };
    let received = platform::stop_signal().context("failed to listen for signals")?;
    let unknown = if settings.is_strict { UnknownFields::Reject } else { UnknownFields::Ignore };
    let sandbox = Arc::new(Sandbox::open(settings.file.as_deref(), unknown)?);
    let listen = Listen { address: settings.address, flag: "--address", tls: None };
    let limits = Limits { connections: CONNECTIONS, timing };
    let server = Server::bind(listen, &limits, Arc::new(|_| ())).await?;
    let address = server.address();
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "other hosts can use the sandbox, and its API key is public");
    }
    tracing::info!(%address, page = format!("http://{address}/"), api_key = DEFAULT_KEY, "serving the sandbox");
    let writes = TaskTracker::new();
    let router = router(&sandbox, &settings, &timing, writes.clone());
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        let signal = received.await;
        tracing::info!(signal, "stopping");
        stopping.cancel();
    });
    server.serve(router, stop).await;
    writes.close();
    writes.wait().await;
    Ok(())
}

fn router(
    sandbox: &Arc<Sandbox>,
    settings: &SandboxSettings,
    timing: &Timing,
    writes: TaskTracker,
) -> Router {
    let credentials = Credentials {
        backend: sandbox.clone(),
        quota: sandbox.quota.clone(),
        writes,
        list_limit: ListLimit::default(),
    };
    let rate_limiter = settings.has_limits.then(|| Arc::new(RateLimiter::new(timing.rest_queue)));
    let state = AppState { credentials: Arc::new(credentials), rate_limiter, timing: *timing };
    let api = routes(state, openapi::document().to_string(), |routes| {
        routes
            .route(me::PATH, get(me::me))
            .route(mailboxes::MAILBOXES, get(mailboxes::list))
            .route(mailboxes::BULK, post(mailboxes::connect))
            .route(agency::COMPANIES, get(agency::companies))
            .route(agency::API_KEYS, get(agency::api_keys).post(agency::create_api_key))
            .route(agency::EMAIL_ACCOUNTS, get(agency::email_accounts))
    });
    let guard = Guard { hosts: settings.hosts.clone(), is_strict: settings.is_strict };
    let recorder = Arc::new(Recorder { sandbox: sandbox.clone(), guard });
    api.merge(control::routes(sandbox.clone())).layer(middleware::from_fn_with_state(recorder, record))
}
