//! What a release goes through under one profile of rights. Each step is checked at the double of Woodpecker
//! too.

mod changes;
mod leader_election;
mod mailboxes;
mod namespace_deletion;
mod objects;
mod operation;
mod rotation;

use std::path::PathBuf;

use serde_json::Value;

use self::changes::Change;
use self::namespace_deletion::Order;
use super::cluster::Kind;
use super::fixture::{Fixture, OPERATOR, Release};
use super::profile::Profile;
use super::report::Report;
use super::settings::Settings;
use super::sidecars;
use crate::demo::Difference;
use crate::doubles::APPS;

/// The namespace of the objects that exist during the whole run.
const MAIN: &str = "e2e-mail";
/// The namespace of objects that still exist after the operator's namespace was deleted.
const OUTLIVING: &str = "e2e-outliving";
/// How many apps a profile may use.
const APPS_EACH: u32 = 32;
const _: () =
    assert!(APPS_EACH as usize * Profile::ALL.len() <= APPS as usize, "the doubles know too few apps");

/// One scenario.
struct Scenario<'a> {
    fixture: &'a Fixture,
    settings: &'a Settings,
    profile: Profile,
    /// The namespaces that the release serves.
    tenants: Vec<&'static str>,
    /// The kubeconfig of the user who runs helm.
    kubeconfig: PathBuf,
    /// The number of the next app: no two objects of a run share one.
    app: u32,
}

pub(super) async fn run(
    fixture: &Fixture,
    settings: &Settings,
    profile: Profile,
    report: &mut Report,
) -> Result<(), Difference> {
    let orders = Order::of(profile);
    let tenants = [MAIN, OUTLIVING].into_iter().chain(orders.iter().map(|it| it.namespace())).collect();
    let kubeconfig = settings.kubeconfig.clone();
    let app = APPS_EACH * profile as u32;
    let mut scenario = Scenario { fixture, settings, profile, tenants, kubeconfig, app };
    match scenario.run_steps(&orders, report).await {
        Ok(()) => Ok(()),
        Err(difference) => {
            let diagnostics = fixture.cluster.diagnostics(OPERATOR).await;
            Err(Difference::new(format!("{difference}{diagnostics}")))
        }
    }
}

// === impl Scenario ===

impl Scenario<'_> {
    async fn run_steps(&mut self, orders: &[Order], report: &mut Report) -> Result<(), Difference> {
        self.fixture.prepare(MAIN).await?;
        for tenant in self.tenants.clone() {
            self.tenant(tenant).await?;
        }
        if self.profile == Profile::Roles {
            self.kubeconfig = self.fixture.delegate(self.settings, &self.tenants).await?;
            report
                .step("an administrator applies `prerequisites.yaml`; the installer has rights in the namespaces only");
        }
        let sidecars = sidecars::policies(&self.settings.doubles_image);
        if self.profile == Profile::EveryValue {
            self.fixture.cluster.apply(&sidecars).await?;
        }
        self.install().await?;
        report.runs(&self.settings.image.version, &self.image_id().await?);
        report.step("helm install: two pods are ready in a namespace that enforces `restricted`");

        let wanted = [("sales", true, "Delete"), ("kept", true, "Retain"), ("sealed", false, "Delete")];
        for (name, is_at_woodpecker, policy) in wanted {
            self.credential(MAIN, name, is_at_woodpecker, policy).await?;
        }
        self.credential(OUTLIVING, "outliving", true, "Delete").await?;
        for (name, ..) in wanted {
            self.until_ready(MAIN, name).await?;
        }
        self.until_ready(OUTLIVING, "outliving").await?;
        self.verify_finalizer_matches_profile("sales").await?;
        report.step(
            "credentials for Woodpecker and the store become Ready, over TLS with names from the cluster's DNS",
        );

        if self.profile == Profile::Cluster {
            self.helm_test().await?;
            report.step("helm test: `check` passes in a pod with the network of the operator's pods");
        }

        self.rotate().await?;
        report.step("a rotated secret is verified and sent under the same ids");

        if self.profile == Profile::EveryValue {
            self.rotate_at_entra().await?;
            report.step(
                "an identity signs in with the token that the kubelet mounts; the operator creates a client secret with it, registers it, and removes both with the object",
            );
            self.connect_mailboxes().await?;
            report
                .step("three mailboxes are connected in two requests, and stay connected without the object");
        }

        self.use_the_rest_api().await?;
        report.step("the REST API creates, shows and deletes a credential, over TLS");

        self.list_keys_in_a_pod().await?;
        report.step(
            "`kubectl exec` finds the program in a pod by its name, and it lists the keys of the keyring",
        );

        self.kill_the_leader().await?;
        report.step(
            "the leader's pod is killed: the other one leads, and an object created meanwhile is registered once",
        );

        match &self.settings.node_exec {
            Some(words) => {
                self.freeze_the_leader(words).await?;
                report.step("the leader is frozen: the other one leads; the frozen one resumes, sends nothing and exits");
            }
            None => report.not_run("the leader is frozen", "because E2E_NODE_EXEC is not set"),
        }

        for change in Change::ALL {
            self.verify_no_effect(change).await?;
            if change == Change::Upgrade {
                report.runs(&self.settings.next_image.version, &self.image_id().await?);
            }
            report.step(change.description());
        }

        self.delete_namespaces(orders).await?;
        report.step(&format!("{}, {}", self.namespace_deletion_description(), Order::describe(orders)));

        self.uninstall().await?;
        if self.profile == Profile::EveryValue {
            for object in &sidecars {
                self.fixture.cluster.delete_object(object).await?;
            }
            report.step("admission added a sidecar to the pods, also to that of the uninstall, and it ended");
        }
        report.step(if self.profile.has_finalizers() {
            "helm uninstall with `deletionPolicy: Delete`: objects lose their finalizers, and Woodpecker keeps everything"
        } else {
            "helm uninstall without a hook: Woodpecker keeps everything"
        });

        for tenant in [MAIN, OPERATOR, OUTLIVING] {
            self.fixture.cluster.delete(Kind::Namespace, None, tenant).await?;
            self.until_gone(Kind::Namespace, None, tenant).await?;
        }
        report.step(
            "a namespace with such objects is deleted, then the operator's, then another one with such objects",
        );
        Ok(())
    }

    fn release(&self, change: Option<Change>) -> Release<'_> {
        let image = match change {
            Some(Change::Upgrade) => &self.settings.next_image,
            _ => &self.settings.image,
        };
        Release { image, profile: self.profile, tenants: &self.tenants, kubeconfig: &self.kubeconfig }
    }

    async fn install(&self) -> Result<(), Difference> {
        self.fixture.helm("install", &self.release(None), Value::Null).await?;
        self.until_pods_report(&self.settings.image.version, 2).await
    }
}

fn check_equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &T,
    found: &T,
) -> Result<(), Difference> {
    if expected == found {
        return Ok(());
    }
    Err(Difference::new(format!("{what}: expected {expected:?}, found {found:?}")))
}
