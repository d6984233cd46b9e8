//! The environment of many runs: one namespace, its own doubles, and an operator that serves all runs, each
//! with its own account.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use graph_credential_operator::api::{MicrosoftGraphCredential, RECONCILE_REQUESTED_AT};
use kit::api_proxy::{ApiProxy, WriteFailure, write_kubeconfig};
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

use crate::harness::{self, TestEnv};
use crate::kill_point::{EventTap, KillPoint};
use crate::kind::{FailedWrites, Hold, Kind};
use crate::outcome::LATE;
use crate::processes::{OPERATORS, OperatorProcesses};
use crate::run::Run;
use crate::witness::Witness;

/// How many times faster all clocks run.
pub const TIME_SCALE: u32 = 40;

/// How long an environment, or a case, may take to settle: several times the longest back-off (15 minutes)
/// and the time between two lists (the same), in which a late duplicate is found. Only a failure takes so
/// long.
pub const TIMEOUT: Duration = Duration::from_mins(3);

/// A longer time to settle is printed.
pub const LONG: Duration = Duration::from_secs(20);

pub struct Environment {
    pub env: Arc<TestEnv>,
    pub processes: Arc<OperatorProcesses>,
    pub kill_points: broadcast::Sender<KillPoint>,
    pub witness: Arc<Witness>,
    /// In front of each operator, if its watches are delayed, its writes fail, or the API server is restored.
    proxies: Vec<ApiProxy>,
    /// In front of the test itself, if the API server is restored.
    own_proxy: Option<ApiProxy>,
    /// The cluster that replaced the API server.
    copy: Mutex<Option<&'static Cluster>>,
    watching: Mutex<Watching>,
    retries: AtomicU64,
    following: JoinHandle<()>,
}

/// The objects as the environment's own watch shows them.
struct Watching {
    store: Store<MicrosoftGraphCredential>,
    task: JoinHandle<()>,
}

// === impl Environment ===

impl Environment {
    /// Starts the doubles and the operators.
    pub async fn start(kind: Kind) -> Self {
        Self::start_with(kind, kind != Kind::Plain, |_| {}).await
    }

    /// The same with a preparation before the operators start. Behind a proxy they can be disturbed.
    pub async fn start_with(kind: Kind, through_proxy: bool, prepare: impl FnOnce(&mut TestEnv)) -> Self {
        let (mut env, own_proxy) = match kind {
            Kind::Restored => {
                // Never dropped: it ends with the environment.
                let cluster: &'static Cluster =
                    Box::leak(Box::new(Cluster::start().await.expect("it starts")));
                harness::prepare(cluster).await;
                let proxy = ApiProxy::start(cluster.client().unwrap()).await.unwrap();
                (TestEnv::on(cluster).await, Some(proxy))
            }
            Kind::Plain | Kind::DelayedWatches => (TestEnv::bare().await, None),
        };
        if let Some(proxy) = &own_proxy {
            env.client = proxy.client().unwrap();
        }
        let mut proxies = Vec::new();
        let mut kubeconfigs = Vec::new();
        if through_proxy {
            for number in 0..OPERATORS {
                let proxy = ApiProxy::start(env.cluster.client_for(User::Operator).unwrap()).await.unwrap();
                let path = env.cluster.dir().join(format!("{}-{number}.kubeconfig", env.namespace));
                write_kubeconfig(&path, &proxy.url(), None).unwrap();
                kubeconfigs.push(path);
                proxies.push(proxy);
            }
        }
        env.time_scale = TIME_SCALE;
        env.log_filter = "info";
        env.woodpecker.time_scale(TIME_SCALE);
        env.entra.time_scale(TIME_SCALE);
        prepare(&mut env);
        let env = Arc::new(env);
        let kill_points = broadcast::Sender::new(4096);
        let witness = Arc::new(Witness::default());
        witness.follow(&env.woodpecker, env.api());
        let watching = Mutex::new(watch(&env, kill_points.clone(), Arc::clone(&witness)));
        let following = follow(&env, kill_points.clone());
        let processes = OperatorProcesses::start(env.clone(), kubeconfigs).await;
        let (retries, copy) = (AtomicU64::new(0), Mutex::default());
        Self { env, processes, kill_points, witness, proxies, own_proxy, copy, watching, retries, following }
    }

    /// Carries out the delays of an environment that started at `start`.
    pub async fn delay_watches(&self, holds: &[Hold], start: Instant) {
        for hold in holds {
            tokio::time::sleep_until(start + Duration::from_millis(hold.from)).await;
            let proxy = &self.proxies[self.processes.number(hold.of_leader).await];
            proxy.hold_watches(hold.path);
            tokio::time::sleep(Duration::from_millis(hold.lasts)).await;
            proxy.release_watches();
        }
    }

    /// Lets writes fail, in an environment that started at `start`.
    pub async fn fail_writes(&self, failed: &[FailedWrites], start: Instant) {
        for it in failed {
            tokio::time::sleep_until(start + Duration::from_millis(it.from)).await;
            for proxy in &self.proxies {
                proxy.fail_writes(it.path, it.times, it.failure);
            }
        }
    }

    /// From now on, no write fails.
    pub fn end_write_failures(&self) {
        self.proxies.iter().for_each(ApiProxy::end_write_failures);
    }

    /// The writes that failed, by path.
    pub fn failed_writes(&self) -> Vec<(String, WriteFailure)> {
        self.proxies.iter().flat_map(ApiProxy::failed_writes).collect()
    }

    /// A backup of the API server, ready to replace it.
    pub async fn save(&self) -> Cluster {
        self.env.cluster.copy().await.expect("the cluster can be copied")
    }

    /// Replaces the API server by the backup. Clients notice only that their connections break.
    pub async fn restore(&self, copy: Cluster) {
        let copy: &'static Cluster = Box::leak(Box::new(copy));
        for proxy in &self.proxies {
            proxy.switch_to(copy.client_for(User::Operator).unwrap());
        }
        self.own_proxy.as_ref().expect("an environment with a restore").switch_to(copy.client().unwrap());
        self.env.cluster.end().expect("the cluster can be ended");
        *self.copy.lock().unwrap() = Some(copy);
        // The test's own connections broke too.
        let objects = self.env.api::<MicrosoftGraphCredential>();
        tokio::time::sleep(Duration::from_millis(100)).await;
        while objects.list(&ListParams::default().limit(1)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.witness.forget();
        // This watch would wait for future versions.
        let watching = watch(&self.env, self.kill_points.clone(), Arc::clone(&self.witness));
        std::mem::replace(&mut *self.watching.lock().unwrap(), watching).task.abort();
    }

    /// The object as last seen.
    pub fn seen(&self, name: &str) -> Option<Arc<MicrosoftGraphCredential>> {
        let store = self.watching.lock().unwrap().store.clone();
        store.get(&ObjectRef::new(name).within(&self.env.namespace))
    }

    /// Ends all faults and waits until every run has settled.
    pub async fn settle(&self, runs: &[Run]) {
        self.env.woodpecker.clear_faults();
        tokio::time::sleep(LATE / TIME_SCALE + Duration::from_millis(200)).await;
        let deadline = Instant::now() + TIMEOUT;
        let (started, mut last_retry, mut last_problems) = (Instant::now(), Instant::now(), String::new());
        loop {
            let unsettled: Vec<&Run> = runs.iter().filter(|run| self.problem(run).is_some()).collect();
            if unsettled.is_empty() || Instant::now() >= deadline {
                break;
            }
            last_problems =
                unsettled.iter().filter_map(|run| self.problem(run)).collect::<Vec<_>>().join("\n");
            if last_retry.elapsed() >= Duration::from_secs(1) {
                for run in unsettled {
                    self.retry_rejected(run).await;
                }
                last_retry = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if started.elapsed() > LONG {
            eprintln!(
                "settled {} s after the last fault; before that: {last_problems}",
                started.elapsed().as_secs()
            );
        }
    }

    /// Waits until every run has settled, and checks all of them again after the last one; returns the
    /// problems by run.
    pub async fn verify(&self, runs: &[Run]) -> Vec<(usize, String)> {
        self.settle(runs).await;
        let all = self.env.api::<MicrosoftGraphCredential>().list(&ListParams::default()).await;
        let all = all.expect("the objects can be listed").items;
        let find = |name: &str| {
            all.iter().find(|it| it.metadata.name.as_deref() == Some(name)).cloned().map(Arc::new)
        };
        let problems = runs.iter().map(|run| {
            let problem = run.problem(&self.env.woodpecker, &find);
            // Wrong deletions first, because other problems may follow from them.
            self.witness
                .objection(&run.account)
                .or(problem)
                .or_else(|| run.wrong_request(&self.env.woodpecker, &self.processes.times()))
        });
        problems.enumerate().filter_map(|(index, problem)| Some((index, problem?))).collect()
    }

    /// The first problem of a run, by what was last seen.
    pub fn problem(&self, run: &Run) -> Option<String> {
        run.problem(&self.env.woodpecker, &|name| self.seen(name))
    }

    /// Requests another attempt after a definite rejection whose cause is gone, as a user does.
    pub async fn retry_rejected(&self, run: &Run) {
        for name in run.names() {
            if self.seen(&name).is_some_and(|object| is_rejected(&object)) {
                self.request(&name).await;
            }
        }
    }

    /// Requests a reconcile.
    pub async fn request(&self, name: &str) {
        let value = self.retries.fetch_add(1, Ordering::Relaxed).to_string();
        let patch = json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: value}}});
        let api = self.env.api::<MicrosoftGraphCredential>();
        // It may be deleted meanwhile.
        let _ = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    }

    /// Stops the operator, and checks that it exits successfully.
    pub async fn end(self) {
        self.processes.end().await;
        if let Some(copy) = *self.copy.lock().unwrap() {
            copy.end().expect("the cluster can be ended");
        }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.following.abort();
        self.watching.lock().unwrap().task.abort();
    }
}

/// Whether Woodpecker has rejected something that the operator tries again only after a day.
fn is_rejected(object: &MicrosoftGraphCredential) -> bool {
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let rejections = ["CreateRejected", "UpdateRejected", "InUse"];
    conditions.iter().any(|condition| rejections.contains(&condition.reason.as_str()))
}

fn watch(env: &TestEnv, kill_points: broadcast::Sender<KillPoint>, witness: Arc<Witness>) -> Watching {
    let writer = reflector::store::Writer::default();
    let store = writer.as_reader();
    let watched = watcher(env.api(), watcher::Config::default()).default_backoff().reflect(writer);
    let task = tokio::spawn(async move {
        let mut tap = EventTap::default();
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
            for kill_point in tap.observe(&object) {
                let _ = kill_points.send(kill_point);
            }
            witness.note(&object.name_any(), Some(Arc::new(object)));
        }
    });
    Watching { store, task }
}

fn follow(env: &TestEnv, kill_points: broadcast::Sender<KillPoint>) -> JoinHandle<()> {
    let mut progress = env.woodpecker.follow();
    tokio::spawn(async move {
        loop {
            match progress.recv().await {
                Ok(step) => {
                    if let Some(kill_point) = KillPoint::of(&step) {
                        let _ = kill_points.send(kill_point);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    })
}
