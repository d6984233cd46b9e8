//! The credentials REST API as a part of the process: alone as `serve`, or beside the controller. It reads the keyring by
//! itself, because it serves on every replica, whoever leads.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::OptionFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::caretaker::Caretaker;
use super::frame::{Base, Frame};
use super::keyring;
use crate::controller::{RecordController, Scope};
use crate::events::Events;
use crate::k8s::relist::Relist;
use crate::k8s::watch::Watching;
use crate::leadership::Leadership;
use crate::rest::{Credentials, Doorkeeper, KeysPlace, Listings, Quota, Shared, Turns, router};
use crate::serving::{Limits, Listen, Server, Tls, TlsFiles};
use crate::settings::{ObjectName, RestSettings};
use crate::store::keyring::LiveKeyring;
use crate::store::repository::Repository;
use crate::telemetry::logs::chain;

/// What readiness waits for until requests are served.
pub(super) const GATE: &str = "rest";

/// What the API is made of.
#[derive(Clone, Copy)]
pub(super) struct RestParts<'a> {
    pub(super) rest: &'a RestSettings,
    pub(super) address: SocketAddr,
    pub(super) frame: &'a Frame<'a>,
    /// The clients of the cluster and of Microsoft, which do not depend on who leads.
    pub(super) base: &'a Base,
    /// The operator's lease, for a process that serves the API alone: it runs the record controller while nobody holds that.
    pub(super) lease: Option<&'a ObjectName>,
}

/// The API, ready to be served.
struct RestApi {
    server: Server,
    tls: Option<Tls>,
    shared: Shared,
    keyring: Arc<LiveKeyring>,
    caretaker: Option<Caretaker>,
    writes: TaskTracker,
    /// Counts the credentials of each account.
    _counting: AbortOnDropHandle<()>,
}

/// Serves the API beside the controller until the process stops. A problem with it is logged and does not stop the controller:
/// serving is tried again.
pub(super) async fn serve_beside(parts: RestParts<'_>) {
    let Frame { timing, readiness, stop, .. } = parts.frame;
    // Each try shows at first that the API is starting.
    let mut told = String::new();
    while !stop.is_cancelled() {
        let serving = open_and_serve(&parts);
        let problem = match AssertUnwindSafe(serving).catch_unwind().await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => chain(error.as_ref()),
            Err(_) => "it failed: this is a defect of the operator".to_owned(),
        };
        if problem != told {
            tracing::error!(problem, "the REST API is not served; trying again");
        }
        readiness.wait_for(GATE, &format!("the REST API is not served: {problem}"));
        told = problem;
        stop.run_until_cancelled(tokio::time::sleep(timing.startup_retry)).await;
    }
}

/// Serves the API until the end.
pub(super) async fn open_and_serve(parts: &RestParts<'_>) -> anyhow::Result<()> {
    if let Some(api) = parts.frame.stop.run_until_cancelled(Box::pin(open(parts))).await {
        Box::pin(serve(api?, parts.frame)).await;
    }
    Ok(())
}

/// Reads API keys and keyring, and binds the address. Nothing is served without an API key.
async fn open(parts: &RestParts<'_>) -> anyhow::Result<RestApi> {
    let RestParts { rest, address, base, .. } = *parts;
    let Frame { process, timing, readiness, metrics, .. } = parts.frame;
    readiness.wait_for(GATE, "the REST API is starting");
    let files = rest.tls_cert.clone().zip(rest.tls_key.clone());
    let tls =
        files.map(|(certificate, key)| Tls::open(TlsFiles { certificate, key, of: "rest" })).transpose()?;
    let doorkeeper = Arc::new(open_door(parts).await?);
    let keyring = keyring::wait(&base.cluster, parts.frame).await;
    let client = &base.cluster.client;
    let relist = Relist::default();
    let caretaker = parts.lease.map(|lease| caretaker(parts, lease, &keyring, &relist));
    let limits = Limits { connections: rest.max_connections.into(), timing: *timing };
    let listen = Listen { address, flag: "--rest-listen", tls: tls.as_ref().map(Tls::acceptor) };
    let counted = metrics.clone();
    let count = Arc::new(move |change| counted.rest.connections(change));
    let server = Server::bind(listen, &limits, count).await?;
    let quota = Arc::new(Quota::new(rest.max_credentials.into()));
    let watching = Watching { client: client.clone(), timing: *timing, relist, metrics: metrics.clone() };
    let (is_counted, scopes) = (CancellationToken::new(), Scope::of(&process.watch_namespaces));
    let watch = quota.clone().watch(watching, scopes, readiness.clone(), is_counted.clone());
    let counting = AbortOnDropHandle::new(tokio::spawn(watch));
    is_counted.cancelled().await;
    tracing::info!(address = %server.address(), "serving the credentials REST API");
    let writes = TaskTracker::new();
    let credentials = Arc::new(Credentials {
        client: client.clone(),
        repository: Repository::new(client.clone(), keyring.clone(), Leadership::always()),
        quota,
        token_endpoint: base.token_endpoint.clone(),
        writes: writes.clone(),
        listings: Listings::default(),
    });
    let turns = rest.emulate_limits.then(|| Arc::new(Turns::new(timing.rest_queue)));
    let shared = Shared { doorkeeper, credentials, turns, metrics: metrics.clone(), timing: *timing };
    Ok(RestApi { server, tls, shared, keyring, caretaker, writes, _counting: counting })
}

/// What looks after the records while no operator leads.
fn caretaker(
    parts: &RestParts<'_>,
    lease: &ObjectName,
    keyring: &Arc<LiveKeyring>,
    relist: &Relist,
) -> Caretaker {
    let (Frame { process, timing, metrics, .. }, base) = (parts.frame, parts.base);
    let (client, instance) = (base.cluster.client.clone(), base.cluster.instance.clone());
    Caretaker {
        records: RecordController {
            client: client.clone(),
            served: process.watch_namespaces.clone(),
            keyring: keyring.clone(),
            token_endpoint: base.token_endpoint.clone(),
            // It takes a lease first.
            leadership: Leadership::always(),
            events: Events::new(client, instance, timing.event, timing.event_repeat),
            metrics: metrics.clone(),
            relist: relist.clone(),
            timing: *timing,
            observer: None,
            stop: CancellationToken::new(),
        },
        election: base.election(parts.frame, format!("{lease}-records"), relist),
        lease: lease.to_string(),
    }
}

/// Serves until the end, and then until open requests and writes have ended, for a bounded time.
async fn serve(api: RestApi, frame: &Frame<'_>) {
    let (Frame { timing, readiness, .. }, stop) = (frame, frame.stop.child_token());
    // Whatever ends this ends its parts.
    let _ending = stop.clone().drop_guard();
    tokio::spawn(api.keyring.run(stop.clone()));
    let mut caretaker = tokio::spawn(OptionFuture::from(api.caretaker.map(|it| it.run(stop.clone()))));
    readiness.arrived(GATE);
    let renewal = OptionFuture::from(api.tls.as_ref().map(|tls| tls.watch(timing, readiness, &stop)));
    let doorkeeper = api.shared.doorkeeper.clone();
    tokio::join!(
        renewal,
        doorkeeper.watch(timing, readiness, &stop),
        api.server.serve(router(api.shared), stop.clone())
    );
    api.writes.close();
    let saved = tokio::time::timeout(timing.rest_drain, api.writes.wait()).await;
    let looked_after = tokio::time::timeout(timing.lease_call, &mut caretaker).await;
    if saved.is_err() || looked_after.is_err() {
        tracing::warn!(writes = api.writes.len(), "records were still being written, and are left");
        caretaker.abort();
    }
    if let Ok(Err(error)) = looked_after
        && error.is_panic()
    {
        tracing::error!(
            error = chain(&error),
            "looking after the records failed: this is a defect of the operator"
        );
    }
}

/// Reads the API keys, again while the API server has a failure.
async fn open_door(parts: &RestParts<'_>) -> anyhow::Result<Doorkeeper> {
    let place = KeysPlace {
        client: parts.base.cluster.client.clone(),
        namespace: parts.base.cluster.namespace.clone(),
        name: parts.rest.keys_secret.to_string(),
        served: parts.frame.process.watch_namespaces.clone(),
    };
    loop {
        match Doorkeeper::new(place.clone()).await {
            Ok(doorkeeper) => return Ok(doorkeeper),
            Err(error) if error.is_passing() => {
                if parts.frame.readiness.wait_for(GATE, &error.to_string()) {
                    tracing::warn!(error = chain(&error), "the API keys cannot be read; trying again");
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(parts.frame.timing.startup_retry).await;
    }
}
