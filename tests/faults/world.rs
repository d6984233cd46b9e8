//! A world: one namespace, doubles of its own, and an operator that serves many runs side by side, each with an account of its
//! own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use graph_credential_operator::resources::{MicrosoftGraphCredential, RECONCILE_REQUESTED_AT};
use kit::api_proxy::{ApiProxy, write_kubeconfig};
use kit::cluster::{Cluster, User};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::crew::{Crew, OPERATORS};
use crate::kind::{Hold, Kind};
use crate::moment::{Eye, Moment};
use crate::outcome::LATE;
use crate::run::Run;
use crate::stage::{self, Stage};
use crate::witness::Witness;

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
    pub witness: Arc<Witness>,
    /// Before each operator, where its watches are held back or the API server is restored.
    proxies: Vec<ApiProxy>,
    /// Before the test itself, where the API server is restored.
    own_proxy: Option<ApiProxy>,
    /// What the API server was restored to.
    copy: Mutex<Option<&'static Cluster>>,
    watching: Mutex<Watching>,
    kicks: AtomicU64,
    asking: JoinHandle<()>,
}

/// The objects as a watch of the world's own shows them.
struct Watching {
    store: Store<MicrosoftGraphCredential>,
    task: JoinHandle<()>,
}

// === impl World ===

impl World {
    /// Doubles, and the operators as they start.
    pub async fn set(kind: Kind) -> Self {
        let (mut stage, own_proxy) = match kind {
            Kind::Restored => {
                // Never dropped: it ends with the world.
                let cluster: &'static Cluster =
                    Box::leak(Box::new(Cluster::start().await.expect("it starts")));
                stage::prepare(cluster).await;
                let proxy = ApiProxy::start(cluster.client().unwrap()).await.unwrap();
                (Stage::on(cluster).await, Some(proxy))
            }
            Kind::Plain | Kind::HeldBack => (Stage::bare().await, None),
        };
        if let Some(proxy) = &own_proxy {
            stage.client = proxy.client().unwrap();
        }
        let mut proxies = Vec::new();
        let mut kubeconfigs = Vec::new();
        if kind != Kind::Plain {
            for number in 0..OPERATORS {
                let proxy = ApiProxy::start(stage.cluster.client_for(User::Operator).unwrap()).await.unwrap();
                let path = stage.cluster.dir().join(format!("{}-{number}.kubeconfig", stage.namespace));
                write_kubeconfig(&path, &proxy.url(), None).unwrap();
                kubeconfigs.push(path);
                proxies.push(proxy);
            }
        }
        stage.time_scale = TIME_SCALE;
        stage.log_filter = "info";
        stage.woodpecker.time_scale(TIME_SCALE);
        stage.entra.time_scale(TIME_SCALE);
        let stage = Arc::new(stage);
        let moments = broadcast::Sender::new(4096);
        let witness = Arc::new(Witness::default());
        witness.follow(&stage.woodpecker, stage.api());
        let watching = Mutex::new(watch(&stage, moments.clone(), Arc::clone(&witness)));
        let asking = follow(&stage, moments.clone());
        let crew = Crew::start(stage.clone(), kubeconfigs).await;
        let (kicks, copy) = (AtomicU64::new(0), Mutex::default());
        Self { stage, crew, moments, witness, proxies, own_proxy, copy, watching, kicks, asking }
    }

    /// Carries out the holds of a world that began at `start`.
    pub async fn hold_back(&self, holds: &[Hold], start: Instant) {
        for hold in holds {
            tokio::time::sleep_until(start + Duration::from_millis(hold.from)).await;
            let proxy = &self.proxies[self.crew.number(hold.of_leader).await];
            proxy.hold_watches(hold.path);
            tokio::time::sleep(Duration::from_millis(hold.lasts)).await;
            proxy.release_watches();
        }
    }

    /// A backup of the API server, ready to take its place.
    pub async fn save(&self) -> Cluster {
        self.stage.cluster.copy().await.expect("the cluster can be copied")
    }

    /// Puts the backup in place of the API server. Nobody is told but by connections that break.
    pub async fn restore(&self, copy: Cluster) {
        let copy: &'static Cluster = Box::leak(Box::new(copy));
        for proxy in &self.proxies {
            proxy.move_to(copy.client_for(User::Operator).unwrap());
        }
        self.own_proxy.as_ref().expect("a world to be restored").move_to(copy.client().unwrap());
        self.stage.cluster.end().expect("the cluster can be ended");
        *self.copy.lock().unwrap() = Some(copy);
        // The test's own connections broke as well.
        let objects = self.stage.api::<MicrosoftGraphCredential>();
        tokio::time::sleep(Duration::from_millis(100)).await;
        while objects.list(&ListParams::default().limit(1)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.witness.forget();
        // This watch would wait for versions that are yet to come.
        let watching = watch(&self.stage, self.moments.clone(), Arc::clone(&self.witness));
        std::mem::replace(&mut *self.watching.lock().unwrap(), watching).task.abort();
    }

    /// The object as last seen.
    pub fn seen(&self, name: &str) -> Option<Arc<MicrosoftGraphCredential>> {
        let store = self.watching.lock().unwrap().store.clone();
        store.get(&ObjectRef::new(name).within(&self.stage.namespace))
    }

    /// Ends all faults and waits until every run has settled.
    pub async fn settle(&self, runs: &[Run]) {
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
    }

    /// Waits until every run has settled, and checks them all once more when the last has: what went wrong, by run.
    pub async fn verdict(&self, runs: &[Run]) -> Vec<(usize, String)> {
        self.settle(runs).await;
        let all = self.stage.api::<MicrosoftGraphCredential>().list(&ListParams::default()).await;
        let all = all.expect("the objects can be listed").items;
        let find = |name: &str| {
            all.iter().find(|it| it.metadata.name.as_deref() == Some(name)).cloned().map(Arc::new)
        };
        let judged = runs.iter().map(|run| {
            let trouble = run.trouble(&self.stage.woodpecker, &find);
            // What is deleted wrongly comes first: the rest may follow from it.
            self.witness
                .objection(&run.account)
                .or(trouble)
                .or_else(|| run.misconduct(&self.stage.woodpecker, &self.crew.times()))
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
        if let Some(copy) = *self.copy.lock().unwrap() {
            copy.end().expect("the cluster can be ended");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.asking.abort();
        self.watching.lock().unwrap().task.abort();
    }
}

/// Whether Woodpecker has refused something, which the operator tries again only after a day.
fn is_refused(object: &MicrosoftGraphCredential) -> bool {
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let refusals = ["RejectedByWoodpecker", "UpdateRejected", "InUse"];
    conditions.iter().any(|condition| refusals.contains(&condition.reason.as_str()))
}

fn watch(stage: &Stage, moments: broadcast::Sender<Moment>, witness: Arc<Witness>) -> Watching {
    let writer = reflector::store::Writer::default();
    let store = writer.as_reader();
    let watched = watcher(stage.api(), watcher::Config::default()).default_backoff().reflect(writer);
    let task = tokio::spawn(async move {
        let mut eye = Eye::default();
        let mut events = std::pin::pin!(watched);
        loop {
            let object: MicrosoftGraphCredential = match events.try_next().await {
                Ok(Some(Event::Apply(object) | Event::InitApply(object))) => object,
                Ok(Some(Event::Delete(object))) => {
                    witness.note(&object.name_any(), None);
                    continue;
                }
                Ok(None) => return,
                Ok(Some(Event::Init | Event::InitDone)) | Err(_) => continue,
            };
            for moment in eye.see(&object) {
                let _ = moments.send(moment);
            }
            witness.note(&object.name_any(), Some(Arc::new(object)));
        }
    });
    Watching { store, task }
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
