//! A world: one namespace, doubles of its own, and an operator that serves many runs side by side, each with an account of its
//! own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use graph_credential_operator::resources::{MicrosoftGraphCredential, RECONCILE_REQUESTED_AT};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::crew::Crew;
use crate::moment::{Eye, Moment};
use crate::outcome::LATE;
use crate::run::Run;
use crate::stage::Stage;

/// How many times faster all clocks run.
pub const TIME_SCALE: u32 = 40;

/// How long a world, or a case, may take to settle: some times the longest back-off (15 minutes) and the time between two
/// listings (as much), in which a late duplicate is found. Only what fails takes so long.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// What takes longer to settle is told.
const LONG: Duration = Duration::from_secs(20);

pub struct World {
    pub stage: Arc<Stage>,
    pub crew: Arc<Crew>,
    pub moments: broadcast::Sender<Moment>,
    store: Store<MicrosoftGraphCredential>,
    kicks: AtomicU64,
    followers: Vec<JoinHandle<()>>,
}

// === impl World ===

impl World {
    /// Doubles, and the operator as it starts.
    pub async fn set() -> Self {
        let mut stage = Stage::bare().await;
        stage.time_scale = TIME_SCALE;
        stage.log_filter = "info";
        stage.woodpecker.time_scale(TIME_SCALE);
        stage.entra.time_scale(TIME_SCALE);
        let stage = Arc::new(stage);
        let moments = broadcast::Sender::new(4096);
        let (store, watching) = watch(&stage, moments.clone());
        let asking = follow(&stage, moments.clone());
        let crew = Crew::start(stage.clone()).await;
        let kicks = AtomicU64::new(0);
        Self { stage, crew, moments, store, kicks, followers: vec![watching, asking] }
    }

    /// The object as last seen.
    pub fn seen(&self, name: &str) -> Option<Arc<MicrosoftGraphCredential>> {
        self.store.get(&ObjectRef::new(name).within(&self.stage.namespace))
    }

    /// Ends all faults, waits until every run has settled, and checks them all once more when the last has: what went wrong,
    /// by run.
    pub async fn verdict(&self, runs: &[Run]) -> Vec<(usize, String)> {
        self.stage.woodpecker.heal();
        tokio::time::sleep(LATE / TIME_SCALE + Duration::from_millis(200)).await;
        let deadline = Instant::now() + PATIENCE;
        let (begun, mut last_kick, mut told) = (Instant::now(), Instant::now(), String::new());
        loop {
            let troubles: Vec<&Run> = runs.iter().filter(|run| self.trouble(run).is_some()).collect();
            if troubles.is_empty() || Instant::now() >= deadline {
                break;
            }
            told = troubles.iter().filter_map(|run| self.trouble(run)).collect::<Vec<_>>().join("\n");
            if last_kick.elapsed() >= Duration::from_secs(1) {
                for run in troubles {
                    self.acknowledge_refusals(run).await;
                }
                last_kick = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if begun.elapsed() > LONG {
            eprintln!("settled {} s after the last fault; before that: {told}", begun.elapsed().as_secs());
        }
        let all = self.stage.api::<MicrosoftGraphCredential>().list(&ListParams::default()).await;
        let all = all.expect("the objects can be listed").items;
        let find = |name: &str| {
            all.iter().find(|it| it.metadata.name.as_deref() == Some(name)).cloned().map(Arc::new)
        };
        let judged = runs.iter().map(|run| {
            let trouble = run.trouble(&self.stage.woodpecker, &find);
            trouble.or_else(|| run.misconduct(&self.stage.woodpecker, &self.crew.times()))
        });
        judged.enumerate().filter_map(|(index, trouble)| Some((index, trouble?))).collect()
    }

    /// What of a run is not as it should be, by what was last seen.
    pub fn trouble(&self, run: &Run) -> Option<String> {
        run.trouble(&self.stage.woodpecker, &|name| self.seen(name))
    }

    /// Does what a person does about a definite refusal once its cause has gone: asks for another try.
    pub async fn acknowledge_refusals(&self, run: &Run) {
        for name in run.names() {
            if self.seen(&name).is_some_and(|object| is_refused(&object)) {
                self.request(&name).await;
            }
        }
    }

    async fn request(&self, name: &str) {
        let value = self.kicks.fetch_add(1, Ordering::Relaxed).to_string();
        let patch = json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: value}}});
        let api = self.stage.api::<MicrosoftGraphCredential>();
        // It may have gone meanwhile.
        let _ = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    }

    /// Ends the operator, and checks that it ends well.
    pub async fn end(self) {
        self.crew.end().await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for follower in &self.followers {
            follower.abort();
        }
    }
}

/// Whether Woodpecker has refused something, which the operator tries again only after a day.
fn is_refused(object: &MicrosoftGraphCredential) -> bool {
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let refusals = ["RejectedByWoodpecker", "UpdateRejected", "InUse"];
    conditions.iter().any(|condition| refusals.contains(&condition.reason.as_str()))
}

fn watch(
    stage: &Stage,
    moments: broadcast::Sender<Moment>,
) -> (Store<MicrosoftGraphCredential>, JoinHandle<()>) {
    let writer = reflector::store::Writer::default();
    let store = writer.as_reader();
    let watched = watcher(stage.api(), watcher::Config::default()).default_backoff().reflect(writer);
    let watching = tokio::spawn(async move {
        let mut eye = Eye::default();
        let mut objects = std::pin::pin!(watched.touched_objects());
        loop {
            match objects.try_next().await {
                Ok(Some(object)) => {
                    for moment in eye.see(&object) {
                        let _ = moments.send(moment);
                    }
                }
                Ok(None) => return,
                Err(_) => {}
            }
        }
    });
    (store, watching)
}

fn follow(stage: &Stage, moments: broadcast::Sender<Moment>) -> JoinHandle<()> {
    let mut progress = stage.woodpecker.follow();
    tokio::spawn(async move {
        loop {
            match progress.recv().await {
                Ok(step) => {
                    if let Some(moment) = Moment::of(&step) {
                        let _ = moments.send(moment);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    })
}
