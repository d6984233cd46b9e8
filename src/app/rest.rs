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
use super::{keyring, kubernetes};
use crate::controller::{RecordController, Scope};
use crate::events::Events;
use crate::k8s::relist::Relist;
use crate::k8s::watch::Watching;
use crate::leadership::Leadership;
use crate::microsoft::TokenEndpoint;
use crate::rest::{Credentials, CredentialsParts, Doorkeeper, KeysPlace, Quota, Shared, Turns, router};
use crate::serving::{Limits, Listen, Server, Tls, TlsFiles};
use crate::settings::{ObjectName, ProcessSettings, RestSettings, Timing};
use crate::store::keyring::LiveKeyring;
use crate::store::repository::Repository;
use crate::telemetry::logs::chain;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::probes::Readiness;

/// What readiness waits for until requests are served.
pub(super) const GATE: &str = "rest";

/// What the API is made of.
#[derive(Clone)]
pub(super) struct RestParts<'a> {
    /// What the process was told.
    pub(super) process: &'a ProcessSettings,
    /// What was said of the API.
    pub(super) rest: &'a RestSettings,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// The waits.
    pub(super) timing: &'a Timing,
    /// What is not there yet.
    pub(super) readiness: &'a Readiness,
    /// Where requests are counted.
    pub(super) metrics: &'a Arc<Metrics>,
    /// The cluster.
    pub(super) cluster: &'a kubernetes::Cluster,
    /// What proves secrets, whoever leads.
    pub(super) token_endpoint: TokenEndpoint,
    /// The operator's lease, for a process that serves the API alone: it runs the record controller while nobody holds that.
    pub(super) lease: Option<&'a ObjectName>,
}

/// The API, ready to be served.
pub(super) struct RestApi {
    server: Server,
    tls: Option<Tls>,
    shared: Shared,
    doorkeeper: Arc<Doorkeeper>,
    keyring: Arc<LiveKeyring>,
    caretaker: Option<Caretaker>,
    writes: TaskTracker,
    /// Counts the credentials of each account.
    counting: AbortOnDropHandle<()>,
    timing: Timing,
    readiness: Readiness,
}

// === impl RestApi ===

impl RestApi {
    /// Reads API keys and keyring, and binds the address. Nothing is served without an API key.
    pub(super) async fn open(parts: RestParts<'_>) -> anyhow::Result<Self> {
        let RestParts { process, rest, cluster, timing, readiness, metrics, .. } = parts;
        readiness.wait_for(GATE, "the REST API is starting");
        let files = rest.tls_cert.clone().zip(rest.tls_key.clone());
        let tls = files
            .map(|(certificate, key)| Tls::open(TlsFiles { certificate, key, of: "rest" }))
            .transpose()?;
        let doorkeeper = Arc::new(open_door(&parts).await?);
        let keyring = keyring::wait(cluster, process, timing, readiness).await;
        let served = &process.watch_namespaces;
        let (relist, instance) = (Relist::default(), cluster.instance.clone());
        let events =
            || Events::new(cluster.client.clone(), instance.clone(), timing.event, timing.event_repeat);
        let caretaker = parts.lease.map(|lease| Caretaker {
            records: RecordController {
                client: cluster.client.clone(),
                served: served.clone(),
                keyring: keyring.clone(),
                token_endpoint: parts.token_endpoint.clone(),
                // It takes a lease first.
                leadership: Leadership::always(),
                events: events(),
                metrics: metrics.clone(),
                relist: relist.clone(),
                timing: *timing,
                observer: None,
                stop: CancellationToken::new(),
            },
            namespace: cluster.namespace.clone(),
            instance: instance.clone(),
            lease: lease.to_string(),
        });
        let limits = Limits { connections: rest.max_connections.into(), timing: *timing };
        let listen =
            Listen { address: parts.address, flag: "--rest-listen", tls: tls.as_ref().map(Tls::acceptor) };
        let counted = metrics.clone();
        let count = Arc::new(move |change| counted.rest.connections(change));
        let bound = Server::bind(listen, limits, count).await?;
        let quota = Arc::new(Quota::new(rest.max_credentials.into()));
        let watching = Watching {
            client: cluster.client.clone(),
            timing: *timing,
            relist: relist.clone(),
            metrics: metrics.clone(),
        };
        let (is_counted, scopes) = (CancellationToken::new(), Scope::of(served));
        let watch = quota.clone().watch(watching, scopes, readiness.clone(), is_counted.clone());
        let counting = AbortOnDropHandle::new(tokio::spawn(watch));
        is_counted.cancelled().await;
        tracing::info!(address = %bound.address(), "serving the credentials REST API");
        let writes = TaskTracker::new();
        let credentials = Credentials::new(CredentialsParts {
            client: cluster.client.clone(),
            repository: Repository::new(cluster.client.clone(), keyring.clone(), Leadership::always()),
            quota,
            token_endpoint: parts.token_endpoint,
            writes: writes.clone(),
        });
        let turns = rest.emulate_limits.then(|| Arc::new(Turns::new(timing.rest_queue)));
        let shared = Shared {
            doorkeeper: doorkeeper.clone(),
            credentials,
            turns,
            metrics: metrics.clone(),
            timing: *timing,
        };
        Ok(Self {
            server: bound,
            tls,
            shared,
            doorkeeper,
            keyring,
            caretaker,
            writes,
            counting,
            timing: *timing,
            readiness: readiness.clone(),
        })
    }

    /// Serves until `stop`, and then until open requests and writes have ended, for a bounded time.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let Self { server, tls, shared, doorkeeper, keyring, caretaker, writes, counting, timing, readiness } =
            self;
        let stop = stop.child_token();
        // Whatever ends this ends its parts.
        let (_ending, _counting) = (stop.clone().drop_guard(), counting);
        tokio::spawn(keyring.run(stop.clone()));
        let mut caretaker = tokio::spawn(OptionFuture::from(caretaker.map(|it| it.run(stop.clone()))));
        readiness.arrived(GATE);
        let renewal = async {
            if let Some(tls) = &tls {
                tls.watch(&timing, &readiness, &stop).await;
            }
        };
        tokio::join!(
            renewal,
            doorkeeper.watch(&timing, &readiness, &stop),
            server.serve(router(shared), stop.clone())
        );
        writes.close();
        let saved = tokio::time::timeout(timing.rest_drain, writes.wait()).await;
        let looked_after = tokio::time::timeout(timing.lease_call, &mut caretaker).await;
        if saved.is_err() || looked_after.is_err() {
            tracing::warn!(writes = writes.len(), "records were still being written, and are left");
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
}

/// Serves the API beside the controller until `stop`. Whatever is wrong with it is told, and leaves the controller at its
/// work: it is tried again.
pub(super) async fn serve_beside(parts: RestParts<'_>, stop: &CancellationToken) {
    let mut told = String::new();
    while !stop.is_cancelled() {
        let serving = Box::pin(open_and_serve(parts.clone(), stop));
        let served = AssertUnwindSafe(serving).catch_unwind().await;
        let problem = match served {
            Ok(Ok(())) => return,
            Ok(Err(error)) => chain(error.as_ref()),
            Err(_) => "it failed: this is a defect of the operator".to_owned(),
        };
        if problem != told {
            tracing::error!(problem, "the REST API is not served; trying again");
        }
        parts.readiness.wait_for(GATE, format!("the REST API is not served: {problem}"));
        told = problem;
        stop.run_until_cancelled(tokio::time::sleep(parts.timing.startup_retry)).await;
    }
}

async fn open_and_serve(parts: RestParts<'_>, stop: &CancellationToken) -> anyhow::Result<()> {
    if let Some(api) = stop.run_until_cancelled(RestApi::open(parts)).await {
        api?.serve(stop.clone()).await;
    }
    Ok(())
}

/// Reads the API keys, again while the API server has a failure.
async fn open_door(parts: &RestParts<'_>) -> anyhow::Result<Doorkeeper> {
    let place = KeysPlace {
        client: parts.cluster.client.clone(),
        namespace: parts.cluster.namespace.clone(),
        name: parts.rest.keys_secret.to_string(),
        served: parts.process.watch_namespaces.clone(),
    };
    loop {
        match Doorkeeper::new(place.clone()).await {
            Ok(doorkeeper) => return Ok(doorkeeper),
            Err(error) if error.is_passing() => {
                tracing::warn!(error = chain(&error), "the API keys cannot be read; trying again");
                parts.readiness.wait_for(GATE, error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(parts.timing.startup_retry).await;
    }
}
