//! Wiring: what starts, in which order, and how it stops.

mod crds;
pub(crate) mod kubernetes;
mod leading;
pub(crate) mod memory;

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::controller::{
    self, Accounts, Broken, Calls, Claims, Context, Events, Holdings, Index, Makings, Rules, Scope, Scopes,
    Sightings,
};
use crate::http::{self, ClientError, DnsServers};
use crate::leader::{self, Candidate, ElectionParts, Lost};
use crate::leadership::{Leadership, since_boot};
use crate::microsoft::{Authorities, EndpointParts, TokenEndpoint};
use crate::settings::{RunSettings, Timing, TimingError};
use crate::store::keyring::{self, Keyring, KeyringPlace, LiveKeyring};
use crate::store::replicas::{Presence, PresenceParts};
use crate::telemetry::logs::{LogFilter, chain};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::probes::{ListenError, ProbeServer, Readiness};
use crate::woodpecker::{self, Commons, Lanes, OwnerKind};

/// What readiness waits for until the watches are being opened.
const CONTROLLER: &str = "controller";

/// Why the operator cannot start or go on.
#[derive(Debug, Error)]
pub enum AppError {
    /// The waits do not fit together.
    #[error("the timing cannot be used")]
    Timing(#[from] TimingError),
    /// The probes' address cannot be served.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// There is no way to the Kubernetes API.
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::ConnectError),
    /// The client for Microsoft and Woodpecker cannot be made.
    #[error(transparent)]
    Http(#[from] ClientError),
    /// The system gives no randomness.
    #[error("failed to draw random bytes")]
    Random(#[from] getrandom::Error),
    /// Signals cannot be received.
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
    /// Another replica leads, or may.
    #[error("leadership was lost: the program ends, to stand by when it is started again")]
    LeadershipLost(#[from] Lost),
    /// The controller ended without being told to.
    #[error("the controller ended by itself: the program ends, to be started again")]
    ControllerEnded(#[source] Broken),
    /// The controller failed as a whole.
    #[error("the controller failed: the program ends, to be started again")]
    ControllerFailed(#[source] JoinError),
    /// Work did not end in time after the request to stop.
    #[error("work was still under way {0:?} after the request to stop, and is left")]
    ShutdownTooSlow(Duration),
}

/// Runs the operator until it is told to stop.
pub async fn run(settings: RunSettings, log_filter: LogFilter) -> Result<(), AppError> {
    memory::close(settings.allow_core_dumps);
    let timing = settings.timing()?;
    tokio::spawn(log_filter.follow(timing.log_filter));
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let readiness = Readiness::default();
    note_time_scale(&settings, &readiness);
    readiness.wait_for(CONTROLLER, "the operator is starting");
    let metrics = Arc::new(Metrics::new());
    let probes = ProbeServer::bind(settings.listen).await?;
    tracing::info!(address = %probes.address(), "serving probes and metrics");
    let probes_stop = CancellationToken::new();
    let probes =
        tokio::spawn(probes.serve(readiness.clone(), metrics.clone(), probes_stop.clone().cancelled_owned()));

    let ended = serve(&settings, &timing, &readiness, &metrics, &stop).await;

    probes_stop.cancel();
    // A slow scraper must not hold up a program that must end.
    if let Ok(Ok(Err(error))) = tokio::time::timeout(timing.connect, probes).await {
        tracing::warn!(error = chain(&error), "serving probes and metrics ended badly");
    }
    ended
}

async fn serve(
    settings: &RunSettings,
    timing: &Timing,
    readiness: &Readiness,
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
) -> Result<(), AppError> {
    let http = http::client(
        timing,
        &DnsServers::listed_or_system(&settings.network.way_out.dns_servers),
        settings.network.way_out.extra_ca.as_deref(),
    )?;
    let cluster =
        kubernetes::connect_counted(settings.operator_namespace.as_deref(), timing, metrics).await?;
    let Some(()) = stop.run_until_cancelled(crds::wait(&cluster.client, timing, readiness)).await else {
        return Ok(());
    };
    let operator = Operator { settings, timing, readiness, metrics, stop, http, cluster };
    if !settings.leader.leader_elect {
        tracing::warn!("leader election is off (--leader-elect=false): this must be the only replica");
        return operator.work(Leadership::always()).await;
    }
    let candidate = Candidate::new(operator.election(), readiness.clone())?;
    readiness.arrived(CONTROLLER);
    leading::work_while_leading(candidate, stop, async |leadership| {
        readiness.wait_for(CONTROLLER, "this replica leads, and begins");
        readiness.arrived(leader::GATE);
        operator.work(leadership).await
    })
    .await
}

/// What the work needs, whoever leads.
struct Operator<'a> {
    settings: &'a RunSettings,
    timing: &'a Timing,
    readiness: &'a Readiness,
    metrics: &'a Arc<Metrics>,
    stop: &'a CancellationToken,
    http: reqwest::Client,
    cluster: kubernetes::Cluster,
}

// === impl Operator ===

impl Operator<'_> {
    fn election(&self) -> ElectionParts {
        ElectionParts {
            client: self.cluster.client.clone(),
            namespace: self.cluster.namespace.clone(),
            lease: self.settings.leader.lease.leader_election_lease.to_string(),
            instance: self.cluster.instance.clone(),
            clock: since_boot,
            timing: *self.timing,
            metrics: self.metrics.clone(),
        }
    }

    /// Loads the keyring and runs the controller until it is told to stop.
    async fn work(&self, leadership: Leadership) -> Result<(), AppError> {
        let Self { settings, timing, readiness, stop, cluster, .. } = self;
        let place =
            KeyringPlace { namespace: cluster.namespace.clone(), name: settings.keyring_secret.clone() };
        let wait = self.keyring(&place);
        let Some(keyring) = stop.run_until_cancelled(wait).await else { return Ok(()) };
        let scopes = Scope::of(&settings.watch_namespaces);
        let mut calls = Calls::default();
        let (known, watches) = Scopes::prepare(scopes.clone(), &mut calls);
        let keyring = Arc::new(LiveKeyring::new(cluster.client.clone(), place, keyring));
        let presence = self.presence(&keyring)?;
        let Some(()) = stop.run_until_cancelled(presence.join(readiness)).await else { return Ok(()) };
        let context = Arc::new(Context {
            rules: Rules { allow_unverified: settings.allow_unverified, timing: **timing },
            max_concurrent_passes: settings.max_concurrent_passes,
            keyring,
            token_endpoint: self.token_endpoint(&leadership),
            accounts: Accounts::new(
                self.http.clone(),
                Commons::new(self.lanes(&calls))?,
                settings.woodpecker.base_urls.clone(),
                scopes,
            ),
            leadership,
            claims: Claims::default(),
            holdings: Holdings::default(),
            sightings: Sightings::default(),
            makings: Makings::default(),
            index: Index::default(),
            calls,
            events: Events::new(
                cluster.client.clone(),
                cluster.instance.clone(),
                timing.kube_headers,
                timing.event_repeat,
            ),
            metrics: self.metrics.clone(),
            readiness: (*readiness).clone(),
            scopes: known,
            stop: (*stop).clone(),
            client: cluster.client.clone(),
        });
        let mut work = JoinSet::new();
        work.spawn(controller::run(context, watches));
        let over = CancellationToken::new();
        let presence = tokio::spawn(presence.keep(over.clone()));
        let ended = end_within(work, timing, stop).await;
        // Until here something may have been sealed.
        over.cancel();
        if let Err(error) = presence.await {
            tracing::error!(
                error = chain(&error),
                "acknowledging the keyring failed: this is a defect of the operator"
            );
        }
        ended
    }

    /// Waits until the keyring is there, or may be made.
    async fn keyring(&self, place: &KeyringPlace) -> Keyring {
        let (client, served) = (&self.cluster.client, &self.settings.watch_namespaces);
        let mut told = String::new();
        loop {
            match keyring::load_or_create(client, place, served).await {
                Ok(keyring) => {
                    self.readiness.arrived("keyring");
                    return keyring;
                }
                Err(error) => {
                    let text = error.to_string();
                    if told != text {
                        tracing::error!(error = chain(&error), "the keyring cannot be used; trying again");
                    }
                    self.readiness.wait_for("keyring", text.clone());
                    told = text;
                }
            }
            tokio::time::sleep(self.timing.startup_retry).await;
        }
    }

    /// This process among those that hold the keyring.
    fn presence(&self, keyring: &Arc<LiveKeyring>) -> Result<Presence, getrandom::Error> {
        Presence::new(PresenceParts {
            client: self.cluster.client.clone(),
            instance: self.cluster.instance.clone(),
            keyring: keyring.clone(),
            timing: *self.timing,
        })
    }

    /// The lanes, which wake whoever waits in them.
    fn lanes(&self, calls: &Calls) -> Lanes {
        let calls = calls.clone();
        let call: woodpecker::Call = Arc::new(move |owner| match owner.kind {
            OwnerKind::Credential => calls.credential(&owner.namespace, &owner.name),
            OwnerKind::Account => calls.account(&owner.namespace, &owner.name),
        });
        Lanes::new(self.timing, self.stop.clone(), self.metrics.clone(), call)
    }

    fn token_endpoint(&self, leadership: &Leadership) -> TokenEndpoint {
        let parts = EndpointParts {
            http: self.http.clone(),
            authorities: Authorities::new(self.settings.network.microsoft_authority.clone()),
            leadership: leadership.clone(),
            metrics: self.metrics.clone(),
        };
        TokenEndpoint::new(parts, self.timing)
    }
}

/// Waits for the work to end, for at most the shutdown time after the request to stop. What is not waited
/// for is aborted.
async fn end_within(
    mut work: JoinSet<Result<(), Broken>>,
    timing: &Timing,
    stop: &CancellationToken,
) -> Result<(), AppError> {
    let ended = async {
        match work.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(broken))) => Err(AppError::ControllerEnded(broken)),
            Some(Err(error)) => Err(AppError::ControllerFailed(error)),
        }
    };
    tokio::pin!(ended);
    tokio::select! {
        ended = &mut ended => return ended,
        () = stop.cancelled() => {}
    }
    tracing::info!(within = ?timing.shutdown, "ending: work under way is finished, nothing new is begun");
    let ended = tokio::time::timeout(timing.shutdown, ended).await;
    let ended = ended.unwrap_or(Err(AppError::ShutdownTooSlow(timing.shutdown)));
    if ended.is_ok() {
        tracing::info!("ended");
    }
    ended
}

fn note_time_scale(settings: &RunSettings, readiness: &Readiness) {
    if settings.time_scale > 1 {
        let scale = settings.time_scale;
        tracing::warn!(scale, "every wait is divided by --time-scale: for tests only");
        readiness
            .note("time-scale", format!("every wait is divided by {scale} (--time-scale): for tests only"));
    }
}

/// SIGTERM and SIGINT ask to stop; a second one changes nothing, for the bound runs already.
fn stop_on_signals(stop: CancellationToken) -> Result<(), AppError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(AppError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AppError::Signals)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM received"),
            _ = interrupt.recv() => tracing::info!("SIGINT received"),
        }
        stop.cancel();
    });
    Ok(())
}
