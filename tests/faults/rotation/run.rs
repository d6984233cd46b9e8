//! A run of a rotation: one account at Woodpecker, one app, and one object.

use std::time::Duration;

use graph_credential_operator::api::{MicrosoftGraphCredential, SealedGraphCredential};
use kit::graph::Op as GraphOp;
use kit::woodpecker::Fault;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::check;
use super::environment::{END, IDENTITY, RotationEnvironment};
use super::script::{Act, Script, Start, WOODPECKER_OPS};
use crate::harness::TENANT;
use crate::run::delete_this_version;
use crate::script::Policy;

/// How long the object may take to be deleted, or a fault to be met, before the run goes on.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same for an object to become Ready, except in a case.
const READY: Duration = Duration::from_secs(20);

/// The value of the last request of a new client secret.
pub const LAST_REQUEST: &str = "last";

/// The uid of the object with the same app in another cluster.
const OTHER_UID: &str = "0a7d6f0e-2b83-4b1c-9a59-6f2f1a0c7d31";

pub struct Run {
    pub script: Script,
    pub account: String,
    /// The name of the object.
    pub name: String,
    pub client: String,
    /// The client secrets that a person made, with whether that person removed it.
    pub hand_made: Vec<(String, bool)>,
    /// The client secrets of the operator of another cluster.
    pub foreign: Vec<String>,
    pub expectation: Expectation,
    rotates: bool,
    requests: usize,
}

/// What must exist for the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    NotCreated,
    /// The object, one registration and one client secret.
    Lives,
    /// No object, no registration, and no client secret.
    Removed,
    /// No object, and what its event names.
    Left,
}

// === impl Run ===

impl Run {
    /// Creates the account, the app with a client secret that a person made, and the Secret with it.
    pub async fn create(environment: &RotationEnvironment, script: Script) -> Self {
        let (env, graph) = (&environment.base.env, &environment.graph);
        let account = format!("run{}", script.seed);
        let client = format!("00000000-0000-4000-8000-{:012x}", script.seed);
        env.woodpecker.add_account(&account, &format!("key-of-{account}"));
        env.secret(&format!("{account}-key"), &[("api_key", &format!("key-of-{account}"))]).await;
        env.entra.add_app(TENANT, &client);
        graph.set_application(TENANT, &client, &[]);
        graph.add_owner(TENANT, &client, IDENTITY);
        let first = graph.add_by_hand(TENANT, &client, "by hand", END).expect("an end");
        let name = format!("{account}-0");
        let values = [("client_secret", first.text.as_str()), ("secret_expires_at", END)];
        env.secret(&format!("{name}-graph"), &values).await;
        env.apply_account(&account, json!({})).await;
        Self {
            rotates: script.start == Start::Rotates,
            script,
            account,
            name,
            client,
            hand_made: vec![(first.key_id, false)],
            foreign: Vec::new(),
            expectation: Expectation::NotCreated,
            requests: 0,
        }
    }

    pub async fn perform(&mut self, environment: &RotationEnvironment, start: Instant) {
        for (at, act) in self.script.acts.clone() {
            sleep_until(start + Duration::from_millis(at)).await;
            self.act(environment, act).await;
        }
    }

    async fn act(&mut self, environment: &RotationEnvironment, act: Act) {
        let (env, graph) = (&environment.base.env, &environment.graph);
        match act {
            Act::Create => self.make(environment).await,
            Act::Switch => {
                self.rotates = true;
                self.apply(environment).await;
            }
            Act::Rotate(overlap) => {
                self.requests += 1;
                self.request(environment, &self.requests.to_string(), overlap).await;
            }
            Act::FailGraph(op, fault, times) => {
                // A rejected reading makes the operator list applications from then on.
                let list = (op == GraphOp::Application).then_some(GraphOp::ListApplications);
                for op in [Some(op), list].into_iter().flatten() {
                    graph.fail_app_op_next(TENANT, &self.client, op, times, fault.clone());
                }
            }
            Act::FailWoodpecker(op, outcome, times) => {
                env.woodpecker.fail_account_next(&self.account, op, times, outcome.fault(op));
            }
            Act::EndWoodpecker(times) => {
                for op in WOODPECKER_OPS {
                    env.woodpecker.fail_account_next(&self.account, op, times, Fault::Html502);
                }
            }
            Act::RevokeGrant => environment.set_grants(&[(&self.client, false)]).await,
            Act::RestoreGrant => environment.set_grants(&[(&self.client, true)]).await,
            Act::DeleteStatus => {
                let patch = Patch::Merge(json!({"status": null}));
                let api = env.api::<MicrosoftGraphCredential>();
                // It may not exist.
                let _ = api.patch_status(&self.name, &PatchParams::default(), &patch).await;
            }
            Act::DeleteRecord => self.delete_record(environment).await,
            Act::Delete => self.delete(environment).await,
            Act::AddByHand => {
                let made = graph.add_by_hand(TENANT, &self.client, "by hand, too", END).expect("an end");
                self.hand_made.push((made.key_id, false));
            }
            Act::RemoveByHand => {
                if let Some((key_id, is_removed)) = self.hand_made.get_mut(1) {
                    *is_removed = graph.remove_by_hand(TENANT, &self.client, key_id);
                }
            }
            Act::AddInOtherCluster => {
                let name = format!("graph-credentials.io/{OTHER_UID}/{}", self.foreign.len());
                let made = graph.add_by_hand(TENANT, &self.client, &name, END).expect("an end");
                self.foreign.push(made.key_id);
            }
            Act::AwaitReady => {
                let patience = self.script.environment.map_or(PATIENCE, |_| READY);
                wait_for(patience, || check::ready(environment, self)).await;
            }
            Act::AwaitFault => wait_for(PATIENCE, || check::fault_met(environment, self)).await,
        }
    }

    async fn make(&mut self, environment: &RotationEnvironment) {
        let is_again = matches!(self.expectation, Expectation::Removed | Expectation::Left);
        if is_again && !self.wait_until_gone(environment).await {
            // The verification reports what keeps it.
            return;
        }
        self.expectation = Expectation::Lives;
        self.apply(environment).await;
    }

    async fn wait_until_gone(&self, environment: &RotationEnvironment) -> bool {
        let api = environment.base.env.api::<MicrosoftGraphCredential>();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for _ in 0..10 {
                if api.get_opt(&self.name).await.expect("it can be read").is_none() {
                    return true;
                }
                sleep(Duration::from_millis(100)).await;
            }
            environment.retry(self).await;
        }
        false
    }

    async fn apply(&self, environment: &RotationEnvironment) {
        if self.expectation == Expectation::Lives {
            environment.base.env.credential(&self.name, self.spec()).await;
        }
    }

    fn spec(&self) -> Value {
        let secret = (!self.rotates).then(|| json!({"name": format!("{}-graph", self.name)}));
        json!({
            "clientId": self.client,
            "secretRef": secret,
            "rotation": self.rotates.then(|| json!({"overlap": self.script.overlap})),
            "entra": {"identityRef": {"name": "rotator"}},
            "destination": {"woodpecker": {"accountRef": {"name": self.account}}},
            "deletionPolicy": format!("{:?}", self.script.policy),
        })
    }

    async fn request(&self, environment: &RotationEnvironment, value: &str, overlap: Option<&str>) {
        let annotations = json!({
            "graph-credentials.io/rotate-requested-at": value, "graph-credentials.io/rotate-overlap": overlap
        });
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let api = environment.base.env.api::<MicrosoftGraphCredential>();
        // It may not exist.
        let _ = api.patch(&self.name, &PatchParams::default(), &patch).await;
    }

    /// Requests one more client secret, without overlap, after the last fault.
    pub async fn request_last(&self, environment: &RotationEnvironment) {
        if self.expectation == Expectation::Lives {
            self.request(environment, LAST_REQUEST, Some("0s")).await;
        }
    }

    async fn delete_record(&self, environment: &RotationEnvironment) {
        let api = environment.base.env.api::<SealedGraphCredential>();
        let records = api.list(&ListParams::default()).await.expect("records can be listed");
        for record in records.items.into_iter().filter(|it| it.spec.client_id.to_string() == self.client) {
            let name = record.metadata.name.unwrap_or_default();
            // It may be deleted meanwhile.
            let _ = api.delete(&name, &DeleteParams::default()).await;
        }
    }

    async fn delete(&mut self, environment: &RotationEnvironment) {
        if self.expectation != Expectation::Lives {
            return;
        }
        let api = environment.base.env.api::<MicrosoftGraphCredential>();
        // Without a finalizer it is gone at once, before the operator knows.
        let (_, waits) = delete_this_version(&api, &self.name).await;
        let is_removed = waits && self.script.policy == Policy::Delete;
        self.expectation = if is_removed { Expectation::Removed } else { Expectation::Left };
    }
}

/// Waits for that, but not forever: the verification reports it.
async fn wait_for(patience: Duration, check: impl Fn() -> Result<(), check::Problem>) {
    let deadline = Instant::now() + patience;
    while check().is_err() && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
    }
}
