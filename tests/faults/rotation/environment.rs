//! The environment of many runs of rotations: that of other runs, with a double of Graph and an identity that all runs
//! share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use graph_credential_operator::api::EntraIdentity;
use kit::graph::Graph;
use serde_json::{Value, json};
use tokio::sync::{Mutex, broadcast};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::check::{self, Named, Problem};
use super::run::Run;
use super::script::{Act, Conditions, LATEST_EFFECT, kind_of};
use crate::environment::{Environment, LONG, TIME_SCALE, TIMEOUT};
use crate::harness::TENANT;
use crate::kill_point::KillPoint;
use crate::kind::Kind;

/// The client ID of the identity.
pub const IDENTITY: &str = "11111111-480e-4a17-9b85-3467967bd179";

/// An app that the identity owns and that no object names.
pub const BYSTANDER: &str = "99999999-480e-4a17-9b85-3467967bd179";

/// Expiry of the client secrets that people make.
pub const END: &str = "2027-11-28T10:00:00Z";

pub struct RotationEnvironment {
    pub base: Environment,
    pub graph: Arc<Graph>,
    /// By client ID, whether the identity has a grant for it.
    grants: Mutex<BTreeMap<String, bool>>,
    following: JoinHandle<()>,
}

// === impl RotationEnvironment ===

impl RotationEnvironment {
    /// The environment with this number; one without disturbances if there is none.
    pub async fn start(number: Option<u64>) -> Self {
        let graph = Graph::start().await;
        let conditions = number.map(Conditions::of);
        let base = Environment::start_with(number.map_or(Kind::Plain, kind_of), true, |env| {
            graph.time_scale(TIME_SCALE);
            graph.connect(&env.entra);
            graph.set_application(TENANT, BYSTANDER, &[]);
            graph.add_owner(TENANT, BYSTANDER, IDENTITY);
            graph.add_by_hand(TENANT, BYSTANDER, "by hand", END).expect("an end");
            env.entra.set_roles(TENANT, IDENTITY, &["Application.ReadWrite.OwnedBy"]);
            env.entra.set_secrets(TENANT, IDENTITY, &["identity-secret"]);
            env.woodpecker.check_validity_with(&env.entra);
            if let Some(conditions) = conditions {
                graph.read_lag(conditions.lag);
                graph.propagation(conditions.propagation);
                graph.write_spacing(conditions.write_spacing);
                env.woodpecker.verify_updates(conditions.verifies_updates);
            }
            let args = ["--entra-identities", "--microsoft-graph", &graph.url()].map(str::to_owned);
            env.extra_args.extend(args);
        })
        .await;
        base.env.secret("rotator", &[("client-secret", "identity-secret")]).await;
        let following = follow(&graph, base.kill_points.clone());
        Self { base, graph: Arc::new(graph), grants: Mutex::default(), following }
    }

    /// Gives the identity a grant for the app, or removes it.
    pub async fn set_grants(&self, changes: &[(&str, bool)]) {
        let mut grants = self.grants.lock().await;
        grants.extend(changes.iter().map(|(client, is_granted)| ((*client).to_owned(), *is_granted)));
        let namespace = &self.base.env.namespace;
        let granted = grants.iter().filter(|(_, is_granted)| **is_granted);
        let list: Vec<Value> = granted
            .map(|(client, _)| json!({"namespaces": [namespace], "tenantId": TENANT, "clientIds": [client]}))
            .collect();
        let auth = json!({"clientSecretRef": {"name": "rotator"}});
        let spec = json!({"clientId": IDENTITY, "tenantId": TENANT, "auth": auth, "grants": list});
        let applied = self.base.env.apply::<EntraIdentity>("rotator", json!({"spec": spec})).await;
        applied.expect("the identity can be applied");
    }

    /// Ends all faults, and waits for the last effect of a write.
    pub async fn end_faults(&self, runs: &[Run]) {
        self.base.end_write_failures();
        self.graph.clear_faults();
        self.base.env.woodpecker.clear_faults();
        let all: Vec<(&str, bool)> = runs.iter().map(|run| (run.client.as_str(), true)).collect();
        self.set_grants(&all).await;
        let is_late = runs.iter().any(|run| run.script.has_late_effect());
        let wait = if is_late { LATEST_EFFECT } else { Duration::from_secs(60) };
        sleep(wait / TIME_SCALE).await;
        self.graph.read_lag(kit::graph::ReadLag::default());
        self.graph.propagation(kit::graph::Propagation::default());
        self.graph.write_spacing(Duration::ZERO);
    }

    /// Waits until no run has a problem, and meanwhile requests what a person would.
    pub async fn settle(&self, runs: &[Run], check: &impl Fn(&Run, &Named) -> Result<(), Problem>) {
        let (started, deadline) = (Instant::now(), Instant::now() + TIMEOUT);
        let (mut named, mut last_look, mut last_problem) = (Named::read(self).await, started, String::new());
        loop {
            let unsettled: Vec<&Run> = runs.iter().filter(|run| check(run, &named).is_err()).collect();
            if unsettled.is_empty() || Instant::now() >= deadline {
                break;
            }
            let problem = check(unsettled[0], &named).err().unwrap_or_default();
            last_problem = format!("{}: {problem}", unsettled[0].name);
            if last_look.elapsed() >= Duration::from_secs(1) {
                join_all(unsettled.iter().map(|run| self.retry(run))).await;
                last_look = Instant::now();
                if unsettled.iter().any(|run| run.script.has(|act| *act == Act::Delete)) {
                    named = Named::read(self).await;
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
        if started.elapsed() > LONG {
            eprintln!(
                "rotations settled after {} s; before that: {last_problem}",
                started.elapsed().as_secs()
            );
        }
    }

    /// Requests another attempt after a rejection whose cause is gone, as a person does.
    pub async fn retry(&self, run: &Run) {
        if self.base.seen(&run.name).is_some_and(|object| check::needs_person(&object)) {
            self.base.request(&run.name).await;
        }
    }

    pub async fn end(self) {
        self.following.abort();
        self.base.end().await;
    }
}

fn follow(graph: &Graph, kill_points: broadcast::Sender<KillPoint>) -> JoinHandle<()> {
    let mut progress = graph.follow();
    tokio::spawn(async move {
        loop {
            match progress.recv().await {
                Ok(step) => {
                    if let Some(kill_point) = KillPoint::of_graph(&step) {
                        let _ = kill_points.send(kill_point);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    })
}
