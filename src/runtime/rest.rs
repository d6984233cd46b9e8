//! Runs the credentials REST API, alone (`serve`) or beside the controller. It loads the keyring itself, because it serves on
//! every replica, whether that leads or not.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use futures::FutureExt;
use futures::future::OptionFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::config::{ObjectName, RestSettings};
use crate::controller::RecordController;
use crate::core::error_chain::chain;
use crate::http::server::{Limits, Listen, ReloadingTls, Server, TlsFiles};
use crate::k8s::events::Events;
use crate::k8s::leadership::Leadership;
use crate::k8s::relist::Relist;
use crate::k8s::scope::Scope;
use crate::k8s::watch::WatchClient;
use crate::rest::{
    ApiKeysRef, AppState, Authenticator, Cluster, Credentials, ListLimit, Quota, RateLimiter, router,
};
use crate::runtime::keyring;
use crate::runtime::process::{Clients, Process};
use crate::runtime::record_controller::RecordControllerRunner;
use crate::runtime::retry;
use crate::store::keyring::KeyringCache;
use crate::store::repository::Repository;

/// The readiness component that is pending until requests are served.
pub(super) const GATE: &str = "rest";

const STOPPED: &str = "the process stops";

/// What the API needs.
#[derive(Clone, Copy)]
pub(super) struct RestDeps<'a> {
    pub(super) rest: &'a RestSettings,
    pub(super) address: SocketAddr,
    pub(super) process: &'a Process<'a>,
    pub(super) clients: &'a Clients,
    /// The operator's lease, if the process serves only the API: it runs the record controller while no operator leads.
    pub(super) lease: Option<&'a ObjectName>,
}

/// The API, ready to be served.
struct RestApi {
    server: Server,
    tls: Option<ReloadingTls>,
    state: AppState<Cluster>,
    authenticator: Arc<Authenticator>,
    keyring: Arc<KeyringCache>,
    record_controller: Option<RecordControllerRunner>,
    writes: TaskTracker,
    /// Counts the credentials of each account.
    _counting: AbortOnDropHandle<()>,
}

/// Serves the API beside the controller until the process stops. A failure is logged and retried, and does not stop the
/// controller.
pub(super) async fn serve_beside(deps: RestDeps<'_>) {
    retry::until_success(deps.process, GATE, async || {
        let problem = match AssertUnwindSafe(open_and_serve(&deps)).catch_unwind().await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => chain(error.as_ref()),
            Err(_) => "it panicked: this is a bug in the operator".to_owned(),
        };
        Err(anyhow!("the REST API is not served: {problem}"))
    })
    .await;
}

/// Starts the API and serves it until the process stops.
pub(super) async fn open_and_serve(deps: &RestDeps<'_>) -> anyhow::Result<()> {
    if let Some(api) = deps.process.stop.run_until_cancelled(Box::pin(open(deps))).await {
        Box::pin(serve(api?, deps.process)).await;
    }
    Ok(())
}

/// Reads the API keys and the keyring, and binds the address. Fails without an API key.
async fn open(deps: &RestDeps<'_>) -> anyhow::Result<RestApi> {
    let RestDeps { rest, address, clients, .. } = *deps;
    let Process { settings, timing, readiness, metrics, .. } = deps.process;
    readiness.pending(GATE, "the REST API is starting");
    let files = rest.tls_cert.clone().zip(rest.tls_key.clone());
    let tls = files
        .map(|(certificate, key)| ReloadingTls::open(TlsFiles { certificate, key, of: "rest" }))
        .transpose()?;
    let authenticator = Arc::new(read_api_keys(deps).await?);
    let keyring = keyring::wait(&clients.cluster, deps.process).await.context(STOPPED)?;
    let client = &clients.cluster.client;
    let relist = Relist::default();
    let record_controller = deps.lease.map(|lease| record_controller(deps, lease, &keyring, &relist));
    let limits = Limits { connections: rest.max_connections.into(), timing: *timing };
    let listen =
        Listen { address, flag: "--rest-bind-address", tls: tls.as_ref().map(ReloadingTls::acceptor) };
    let gauge_metrics = metrics.clone();
    let gauge = Arc::new(move |change| gauge_metrics.rest.add_connections(change));
    let server = Server::bind(listen, &limits, gauge).await?;
    let quota = Arc::new(Quota::new(rest.max_credentials.into()));
    let watching = WatchClient { client: client.clone(), timing: *timing, relist, metrics: metrics.clone() };
    let (is_counted, scopes) = (CancellationToken::new(), Scope::of(&settings.watch_namespaces));
    let watch = quota.clone().watch(watching, scopes, readiness.clone(), is_counted.clone());
    let counting = AbortOnDropHandle::new(tokio::spawn(watch));
    is_counted.cancelled().await;
    tracing::info!(address = %server.address(), "serving the credentials REST API");
    let writes = TaskTracker::new();
    let credentials = Arc::new(Credentials {
        backend: Cluster {
            client: client.clone(),
            authenticator: authenticator.clone(),
            repository: Repository::new(client.clone(), keyring.clone(), Leadership::always()),
            token_endpoint: clients.token_endpoint.clone(),
        },
        quota,
        writes: writes.clone(),
        list_limit: ListLimit::default(),
    });
    let rate_limiter = rest.emulate_rate_limits.then(|| Arc::new(RateLimiter::new(timing.rest_queue)));
    let state = AppState { credentials, rate_limiter, timing: *timing };
    Ok(RestApi { server, tls, state, authenticator, keyring, record_controller, writes, _counting: counting })
}

/// Runs the record controller while no operator leads.
fn record_controller(
    deps: &RestDeps<'_>,
    lease: &ObjectName,
    keyring: &Arc<KeyringCache>,
    relist: &Relist,
) -> RecordControllerRunner {
    let (Process { settings, timing, metrics, .. }, clients) = (deps.process, deps.clients);
    let (client, instance) = (clients.cluster.client.clone(), clients.cluster.instance.clone());
    RecordControllerRunner {
        records: RecordController {
            client: client.clone(),
            served: settings.watch_namespaces.clone(),
            keyring: keyring.clone(),
            token_endpoint: clients.token_endpoint.clone(),
            // Replaced once the lease is acquired.
            leadership: Leadership::always(),
            events: Events::new(client, instance, timing.event, timing.event_repeat),
            metrics: metrics.clone(),
            relist: relist.clone(),
            timing: *timing,
            observer: None,
            stop: CancellationToken::new(),
        },
        election: clients.election(deps.process, format!("{lease}-records"), relist),
        lease: lease.to_string(),
    }
}

/// Serves until the process stops, and then until open requests and writes have ended, for a bounded time.
async fn serve(api: RestApi, process: &Process<'_>) {
    let (Process { timing, readiness, .. }, stop) = (process, process.stop.child_token());
    // Dropping this future stops its parts.
    let _stop_on_drop = stop.clone().drop_guard();
    tokio::spawn(api.keyring.run(stop.clone()));
    let mut record_controller =
        tokio::spawn(OptionFuture::from(api.record_controller.map(|it| it.run(stop.clone()))));
    readiness.done(GATE);
    let tls_reload = OptionFuture::from(api.tls.as_ref().map(|tls| tls.watch(timing, readiness, &stop)));
    tokio::join!(
        tls_reload,
        api.authenticator.watch(timing, readiness, &stop),
        api.server.serve(router(api.state, process.metrics.clone()), stop.clone())
    );
    api.writes.close();
    let saved = tokio::time::timeout(timing.rest_drain, api.writes.wait()).await;
    let controller_ended = tokio::time::timeout(timing.lease_call, &mut record_controller).await;
    if saved.is_err() || controller_ended.is_err() {
        tracing::warn!(writes = api.writes.len(), "aborted writes of records that were still in progress");
        record_controller.abort();
    }
    if let Ok(Err(error)) = controller_ended
        && error.is_panic()
    {
        tracing::error!(
            error = chain(&error),
            "the record controller panicked: this is a bug in the operator"
        );
    }
}

/// Reads the API keys, and tries again while the API server fails.
async fn read_api_keys(deps: &RestDeps<'_>) -> anyhow::Result<Authenticator> {
    let secret = ApiKeysRef {
        client: deps.clients.cluster.client.clone(),
        namespace: deps.clients.cluster.namespace.clone(),
        name: deps.rest.api_keys_secret.to_string(),
        served: deps.process.settings.watch_namespaces.clone(),
    };
    retry::until_success(deps.process, GATE, async || match Authenticator::new(secret.clone()).await {
        Err(error) if error.is_transient() => Err(error.into()),
        authenticator => Ok(authenticator),
    })
    .await
    .context(STOPPED)?
    .map_err(anyhow::Error::from)
}
