//! Starts the parts of a process, in order, and stops them.

pub(crate) mod core_dumps;
mod crds;
mod keyring;
mod leader;
mod metrics_server;
mod process;
mod record_controller;
mod rest;
mod retry;

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use futures::future::OptionFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::process::{Clients, Process};
use self::rest::RestDeps;
use crate::api::NamespacedName;
use crate::config::{RunSettings, ServeSettings};
use crate::controller::{
    self, Accounts, Context, ControllerError, Identities, Index, KnownRecords, KnownSecrets, QueueSenders,
    RecordController, Requeuer, Submissions,
};
use crate::core::model::OperatorPolicy;
use crate::core::timing::Timing;
use crate::entra::identity::{FederatedTokens, GraphTokens};
use crate::entra::{Authorities, EndpointConfig};
use crate::graph::{AppReader, AppWriter, GraphClient, GraphConfig, GraphRoots};
use crate::k8s::events::Events;
use crate::k8s::leader_election::{self, Candidate};
use crate::k8s::leadership::Leadership;
use crate::k8s::relist::Relist;
use crate::k8s::scope::Scope;
use crate::store::keyring::KeyringCache;
use crate::telemetry::logs::LogFilter;
use crate::woodpecker::{self, AccountQueues, SharedAccounts};

/// The readiness component that is pending until the watches are being opened.
const CONTROLLER: &str = "controller";

const NO_RANDOM: &str = "failed to generate random bytes";

/// Runs the operator until it is stopped.
pub async fn run(settings: RunSettings, log_filter: LogFilter) -> anyhow::Result<()> {
    settings.rest.listen.map_or(Ok(()), |address| settings.rest.check(address))?;
    let process = Process::open("run", &settings.process, settings.timing(), log_filter)?;
    process.readiness.pending(CONTROLLER, "the operator is starting");
    process.serve_admin_while(Box::pin(operate(&settings, &process))).await
}

/// Serves only the credentials REST API until it is stopped.
pub async fn serve(settings: ServeSettings, log_filter: LogFilter) -> anyhow::Result<()> {
    settings.rest.check(settings.address())?;
    let process = Process::open("serve", &settings.process, settings.timing(), log_filter)?;
    // Before /readyz is served.
    process.readiness.pending(rest::GATE, "the REST API is starting");
    let api = async {
        let Some(clients) = Clients::connect(&process).await? else { return Ok(()) };
        let lease = Some(&settings.lease.leader_election_lease);
        let (rest, address) = (&settings.rest, settings.address());
        let deps = RestDeps { rest, address, process: &process, clients: &clients, lease };
        Box::pin(clients.work_while_checking_dns(&process, rest::open_and_serve(&deps))).await?;
        tracing::info!("ended");
        Ok(())
    };
    process.serve_admin_while(Box::pin(api)).await
}

/// Runs the controller, and the REST API beside it if it is enabled.
async fn operate(settings: &RunSettings, process: &Process<'_>) -> anyhow::Result<()> {
    let Some(clients) = Clients::connect(process).await? else { return Ok(()) };
    if settings.identities.graph.entra_identities {
        let crds = crds::wait_for_identities(&clients.cluster.client, process);
        if process.stop.run_until_cancelled(crds).await.flatten().is_none() {
            return Ok(());
        }
    }
    if settings.mailboxes {
        let crds = crds::wait_for_mailboxes(&clients.cluster.client, process);
        if process.stop.run_until_cancelled(crds).await.flatten().is_none() {
            return Ok(());
        }
    }
    let (rest, clients) = (&settings.rest, &clients);
    let serving = OptionFuture::from(
        rest.listen
            .map(|address| rest::serve_beside(RestDeps { rest, address, process, clients, lease: None })),
    );
    let operator = Operator { settings, process, clients, relist: Relist::default() };
    let working = async {
        let ended = operator.run().await;
        // Also stops the REST API if the controller ended unexpectedly.
        process.stop.cancel();
        ended
    };
    let work = async { tokio::join!(serving, working).1 };
    Box::pin(clients.work_while_checking_dns(process, work)).await
}

/// What the controller needs, independent of leadership.
struct Operator<'a> {
    settings: &'a RunSettings,
    process: &'a Process<'a>,
    clients: &'a Clients,
    relist: Relist,
}

// === impl Operator ===

impl Operator<'_> {
    /// Works while this replica leads, or at once without leader election.
    async fn run(&self) -> anyhow::Result<()> {
        if !self.settings.leader.leader_elect {
            tracing::warn!("leader election is off (--leader-elect=false): this must be the only replica");
            return self.work(Leadership::always()).await;
        }
        let Process { readiness, stop, .. } = self.process;
        let lease = self.settings.leader.lease.leader_election_lease.to_string();
        let election = self.clients.election(self.process, lease, &self.relist);
        let candidate = Candidate::new(election, readiness.clone()).context(NO_RANDOM)?;
        readiness.done(CONTROLLER);
        Box::pin(leader::run_while_leader(candidate, stop, async |leadership| {
            readiness.pending(CONTROLLER, "this replica is the leader, and is starting");
            readiness.done(leader_election::GATE);
            self.work(leadership).await
        }))
        .await
    }

    /// Loads the keyring and runs the controller until it is stopped.
    async fn work(&self, leadership: Leadership) -> anyhow::Result<()> {
        let Process { timing, stop, .. } = self.process;
        let wait = keyring::wait(&self.clients.cluster, self.process);
        let Some(keyring) = stop.run_until_cancelled(wait).await.flatten() else { return Ok(()) };
        let Some(events) = stop.run_until_cancelled(self.events()).await else { return Ok(()) };
        let _publishing = AbortOnDropHandle::new(tokio::spawn(events.clone().run()));
        let _reading = AbortOnDropHandle::new(tokio::spawn(keyring.clone().run(stop.clone())));
        let context = Arc::new(self.context(leadership, keyring, events.clone())?);
        let stop_records = stop.child_token();
        let records = self.record_controller(context.clone(), stop_records.clone());
        let work = AbortOnDropHandle::new(tokio::spawn(controller::run(context)));
        let records = AbortOnDropHandle::new(tokio::spawn(async move { records.run().await }));
        let ended = end_within(work, timing, stop).await;
        events.drain(timing.event_drain).await;
        stop_records.cancel();
        // It had as much time to end as the controller.
        let _left = tokio::time::timeout(timing.event, records).await;
        ended
    }

    fn context(
        &self,
        leadership: Leadership,
        keyring: Arc<KeyringCache>,
        events: Events,
    ) -> anyhow::Result<Context> {
        let Self { settings, clients, relist, .. } = self;
        let Process { timing, readiness, metrics, stop, .. } = self.process;
        let senders = QueueSenders::default();
        let identity_namespace =
            settings.identities.graph.entra_identities.then(|| clients.cluster.namespace.clone());
        let index = Index::new(Scope::of(&settings.process.watch_namespaces));
        let index = match &identity_namespace {
            Some(namespace) => index.with_identities(namespace.clone()),
            None => index,
        };
        let index = Arc::new(if settings.mailboxes { index.with_mailboxes() } else { index });
        let queues = self.account_queues(&senders);
        let graph_tokens = self.graph_tokens(leadership.clone());
        Ok(Context {
            policy: OperatorPolicy {
                allow_unverified: settings.allow_unverified,
                sets_finalizers: settings.finalizers.enable_finalizers,
                timing: *timing,
            },
            max_concurrent_reconciles: settings.max_concurrent_reconciles,
            keyring,
            token_endpoint: clients.token_endpoint.with_leadership(leadership.clone()),
            identity_namespace,
            connects_mailboxes: settings.mailboxes,
            // This process has just become the leader.
            submissions: Submissions::new(timing),
            identities: self.identities(leadership.clone(), graph_tokens.clone()),
            graph_tokens,
            accounts: Accounts::new(
                clients.http.clone(),
                SharedAccounts::new(queues.clone(), timing).context(NO_RANDOM)?,
                settings.woodpecker.allowed_urls.clone(),
                index.clone(),
            ),
            leadership,
            verification_slots: senders.verification_slots(settings.max_concurrent_reconciles),
            graph_slots: senders.graph_slots(settings.max_concurrent_reconciles),
            secrets: KnownSecrets::default(),
            records: KnownRecords::default(),
            relist: relist.clone(),
            requeuer: Requeuer::new(senders, index.clone(), queues, relist.clone(), timing.count_pace),
            index,
            events,
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            stop: stop.clone(),
            client: clients.cluster.client.clone(),
        })
    }

    /// Tokens for Microsoft Graph while this replica leads.
    fn graph_tokens(&self, leadership: Leadership) -> GraphTokens {
        let Self { settings, clients, .. } = self;
        let config = EndpointConfig {
            http: clients.http.clone(),
            authorities: Authorities::new(settings.process.network.microsoft_authority.clone()),
            leadership,
            metrics: self.process.metrics.clone(),
        };
        let federated = FederatedTokens::new(&settings.identities.federated);
        GraphTokens::new(config, clients.cluster.client.clone(), federated, &self.process.timing)
    }

    /// Reads and changes apps while this replica leads.
    fn identities(&self, leadership: Leadership, tokens: GraphTokens) -> Identities {
        let Self { settings, clients, process, .. } = self;
        let config = GraphConfig {
            http: clients.http.clone(),
            roots: GraphRoots::new(settings.identities.graph.microsoft_graph.clone()),
            leadership,
            metrics: process.metrics.clone(),
        };
        let timing = &process.timing;
        let client = GraphClient::new(config, timing);
        let writer = AppWriter::new(client.clone(), tokens.clone(), timing);
        Identities::new(AppReader::new(client, tokens, timing.app_reading_max_age), writer)
    }

    fn record_controller(&self, context: Arc<Context>, stop: CancellationToken) -> RecordController {
        RecordController {
            client: context.client.clone(),
            served: self.settings.process.watch_namespaces.clone(),
            keyring: context.keyring.clone(),
            token_endpoint: self.clients.token_endpoint.with_leadership(context.leadership.clone()),
            leadership: context.leadership.clone(),
            events: context.events.clone(),
            metrics: context.metrics.clone(),
            relist: context.relist.clone(),
            timing: context.policy.timing,
            observer: Some(controller::observer(context)),
            stop,
        }
    }

    /// Emits events about objects, and also on the operator's Deployment if that is known.
    async fn events(&self) -> Events {
        let (cluster, timing) = (&self.clients.cluster, &self.process.timing);
        let (client, instance) = (cluster.client.clone(), cluster.instance.clone());
        let events = Events::new(client, instance, timing.event, timing.event_repeat);
        match &self.settings.events_deployment {
            Some(name) => events.with_deployment(&cluster.namespace, name.as_str()).await,
            None => events,
        }
    }

    /// The account queues, which requeue an object when its permit is ready.
    fn account_queues(&self, senders: &QueueSenders) -> AccountQueues {
        let senders = senders.clone();
        let waker: woodpecker::Waker = Arc::new(move |requester| {
            let own = NamespacedName { namespace: requester.namespace.clone(), name: requester.name.clone() };
            senders.of(requester.kind).enqueue(own);
        });
        let Process { timing, metrics, stop, .. } = self.process;
        AccountQueues::new(timing, stop.clone(), metrics.clone(), waker)
    }
}

/// Waits for the work to end, for at most the shutdown time after `stop`; then aborts it.
async fn end_within(
    work: AbortOnDropHandle<Result<(), ControllerError>>,
    timing: &Timing,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let ended = async {
        work.await
            .context("the controller panicked: the process exits so that it is restarted")?
            .context("the controller ended unexpectedly: the process exits so that it is restarted")
    };
    tokio::pin!(ended);
    tokio::select! {
        ended = &mut ended => return ended,
        () = stop.cancelled() => {}
    }
    tracing::info!(within = ?timing.shutdown, "stopping: finishing work in progress, starting nothing new");
    let ended = tokio::time::timeout(timing.shutdown, ended).await;
    let ended = ended.unwrap_or_else(|_elapsed| {
        Err(anyhow!(
            "work was still in progress {:?} after the request to stop, and was aborted",
            timing.shutdown
        ))
    });
    if ended.is_ok() {
        tracing::info!("ended");
    }
    ended
}
