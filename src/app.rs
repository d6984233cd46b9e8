//! Wiring: what starts, in which order, and how it stops.

mod caretaker;
mod crds;
mod frame;
mod keyring;
pub(crate) mod kubernetes;
mod leading;
pub(crate) mod memory;
mod rest;
mod scraping;

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use futures::future::OptionFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::frame::{Base, Frame};
use self::rest::RestParts;
use crate::controller::{
    self, Accounts, Broken, Calls, Context, Index, KnownRecords, KnownSecrets, RecordController, Rules, Scope,
};
use crate::events::Events;
use crate::k8s::relist::Relist;
use crate::leader::{self, Candidate};
use crate::leadership::Leadership;
use crate::resources::Named;
use crate::settings::{RunSettings, ServeSettings, Timing};
use crate::telemetry::logs::LogFilter;
use crate::woodpecker::{self, Commons, Lanes};

/// What readiness waits for until the watches are being opened.
const CONTROLLER: &str = "controller";

/// Why nothing that needs randomness can begin.
const NO_RANDOM: &str = "failed to draw random bytes";

/// Runs the operator until it is told to stop.
pub async fn run(settings: RunSettings, log_filter: LogFilter) -> anyhow::Result<()> {
    settings.rest.listen.map_or(Ok(()), |address| settings.rest.check(address))?;
    let frame = Frame::open("run", &settings.process, settings.timing(), log_filter)?;
    frame.readiness.wait_for(CONTROLLER, "the operator is starting");
    frame.probed(Box::pin(operate(&settings, &frame))).await
}

/// Serves the credentials REST API alone until it is told to stop.
pub async fn serve(settings: ServeSettings, log_filter: LogFilter) -> anyhow::Result<()> {
    settings.rest.check(settings.address())?;
    let frame = Frame::open("serve", &settings.process, settings.timing(), log_filter)?;
    // Before anybody can ask.
    frame.readiness.wait_for(rest::GATE, "the REST API is starting");
    let api = async {
        let Some(base) = Base::find(&frame).await? else { return Ok(()) };
        let lease = Some(&settings.lease.leader_election_lease);
        let (rest, address) = (&settings.rest, settings.address());
        rest::open_and_serve(&RestParts { rest, address, frame: &frame, base: &base, lease }).await?;
        tracing::info!("ended");
        Ok(())
    };
    frame.probed(Box::pin(api)).await
}

/// Runs the controller, and the REST API beside it where that is asked for.
async fn operate(settings: &RunSettings, frame: &Frame<'_>) -> anyhow::Result<()> {
    let Some(base) = Base::find(frame).await? else { return Ok(()) };
    let (rest, base) = (&settings.rest, &base);
    let serving = OptionFuture::from(
        rest.listen.map(|address| rest::serve_beside(RestParts { rest, address, frame, base, lease: None })),
    );
    let operator = Operator { settings, frame, base, relist: Relist::default() };
    let working = async {
        let ended = operator.run().await;
        // Also where the controller ended unexpectedly.
        frame.stop.cancel();
        ended
    };
    tokio::join!(serving, working).1
}

/// What the work needs, whoever leads.
struct Operator<'a> {
    settings: &'a RunSettings,
    frame: &'a Frame<'a>,
    base: &'a Base,
    relist: Relist,
}

// === impl Operator ===

impl Operator<'_> {
    /// Works while this replica leads, or at once where there is no election.
    async fn run(&self) -> anyhow::Result<()> {
        if !self.settings.leader.leader_elect {
            tracing::warn!("leader election is off (--leader-elect=false): this must be the only replica");
            return self.work(Leadership::always()).await;
        }
        let Frame { readiness, stop, .. } = self.frame;
        let lease = self.settings.leader.lease.leader_election_lease.to_string();
        let election = self.base.election(self.frame, lease, &self.relist);
        let candidate = Candidate::new(election, readiness.clone()).context(NO_RANDOM)?;
        readiness.arrived(CONTROLLER);
        Box::pin(leading::work_while_leading(candidate, stop, async |leadership| {
            readiness.wait_for(CONTROLLER, "this replica leads, and begins");
            readiness.arrived(leader::GATE);
            self.work(leadership).await
        }))
        .await
    }

    /// Loads the keyring and runs the controller until it is told to stop.
    async fn work(&self, leadership: Leadership) -> anyhow::Result<()> {
        let Self { settings, frame, base, relist } = self;
        let (Frame { timing, readiness, metrics, stop, .. }, cluster) = (*frame, &base.cluster);
        let wait = keyring::wait(cluster, frame);
        let Some(keyring) = stop.run_until_cancelled(wait).await else { return Ok(()) };
        let scopes = Scope::of(&settings.process.watch_namespaces);
        let calls = Calls::default();
        let index = Arc::new(Index::new(scopes));
        let Some(events) = stop.run_until_cancelled(self.events()).await else { return Ok(()) };
        let _publishing = AbortOnDropHandle::new(tokio::spawn(events.clone().run()));
        let _reading = AbortOnDropHandle::new(tokio::spawn(keyring.clone().run(stop.clone())));
        let context = Arc::new(Context {
            rules: Rules {
                allow_unverified: settings.allow_unverified,
                sets_finalizers: settings.finalizers,
                timing: *timing,
            },
            max_concurrent_passes: settings.max_concurrent_passes,
            keyring: keyring.clone(),
            token_endpoint: base.token_endpoint.acting_as(leadership.clone()),
            accounts: Accounts::new(
                base.http.clone(),
                Commons::new(self.lanes(&calls)).context(NO_RANDOM)?,
                settings.woodpecker.base_urls.clone(),
                index.clone(),
            ),
            leadership: leadership.clone(),
            index,
            verifications: calls.verifications(settings.max_concurrent_passes),
            secrets: KnownSecrets::default(),
            records: KnownRecords::default(),
            relist: relist.clone(),
            calls,
            events: events.clone(),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            stop: stop.clone(),
            client: cluster.client.clone(),
        });
        let looking_after = stop.child_token();
        let records = RecordController {
            client: cluster.client.clone(),
            served: settings.process.watch_namespaces.clone(),
            keyring,
            token_endpoint: base.token_endpoint.acting_as(leadership.clone()),
            leadership,
            events: events.clone(),
            metrics: metrics.clone(),
            relist: relist.clone(),
            timing: *timing,
            observer: Some(controller::observer(context.clone())),
            stop: looking_after.clone(),
        };
        let work = AbortOnDropHandle::new(tokio::spawn(controller::run(context)));
        let records = AbortOnDropHandle::new(tokio::spawn(async move { records.run().await }));
        let ended = end_within(work, timing, stop).await;
        events.drain(timing.event_drain).await;
        looking_after.cancel();
        // It has had as long as the controller to end by itself.
        let _left = tokio::time::timeout(timing.event, records).await;
        ended
    }

    /// Events, told at home too where that is known.
    async fn events(&self) -> Events {
        let (cluster, timing) = (&self.base.cluster, &self.frame.timing);
        let (client, instance) = (cluster.client.clone(), cluster.instance.clone());
        let events = Events::new(client, instance, timing.event, timing.event_repeat);
        match &self.settings.operator_deployment {
            Some(name) => events.with_home(&cluster.namespace, name.as_str()).await,
            None => events,
        }
    }

    /// The lanes, which wake whoever waits in them.
    fn lanes(&self, calls: &Calls) -> Lanes {
        let calls = calls.clone();
        let call: woodpecker::Call = Arc::new(move |owner| {
            let own = Named { namespace: owner.namespace.clone(), name: owner.name.clone() };
            calls.of(owner.kind).now(own);
        });
        let Frame { timing, metrics, stop, .. } = self.frame;
        Lanes::new(timing, stop.clone(), metrics.clone(), call)
    }
}

/// Waits for the work to end, for at most the shutdown time after the request to stop. What is not waited
/// for is aborted.
async fn end_within(
    work: AbortOnDropHandle<Result<(), Broken>>,
    timing: &Timing,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let ended = async {
        work.await
            .context("the controller failed: the program ends, to be started again")?
            .context("the controller ended unexpectedly: the program ends so that it is started again")
    };
    tokio::pin!(ended);
    tokio::select! {
        ended = &mut ended => return ended,
        () = stop.cancelled() => {}
    }
    tracing::info!(within = ?timing.shutdown, "ending: work under way is finished, nothing new is begun");
    let ended = tokio::time::timeout(timing.shutdown, ended).await;
    let ended = ended.unwrap_or_else(|_elapsed| {
        Err(anyhow!("work was still under way {:?} after the request to stop, and is left", timing.shutdown))
    });
    if ended.is_ok() {
        tracing::info!("ended");
    }
    ended
}
