//! What a release goes through under one profile of rights, each step checked at the double of Woodpecker as well.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Profile;
use super::cluster::{Kind, PATIENCE};
use super::report::Report;
use super::scene::{OPERATOR, RELEASE, Scene, Version, base_url, namespace};
use super::settings::Settings;
use crate::demo::Difference;
use crate::doubles::{API_KEY, SECRETS, TENANT, client_id};

/// The namespace of the objects that live through it all.
const MAIN: &str = "e2e-mail";

/// What is deleted before a namespace is, while the operator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Nothing.
    AtOnce,
    /// The Secrets and the account.
    KeysFirst,
    /// The operator's rights in it.
    RightsFirst,
}

/// A change of the release after which nothing may be different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Upgrade,
    Rollback,
}

/// One telling.
struct Tale<'a> {
    scene: &'a Scene,
    settings: &'a Settings,
    profile: Profile,
    /// The number of the next app: no two objects of a whole run share one.
    app: u32,
}

pub(super) async fn tell(
    scene: &Scene,
    settings: &Settings,
    profile: Profile,
    report: &mut Report,
) -> Result<(), Difference> {
    let mut tale = Tale { scene, settings, profile, app: 16 * profile as u32 };
    let told = tale.tell(report).await;
    match told {
        Ok(()) => Ok(()),
        Err(difference) => {
            let around = scene.cluster.look_around(OPERATOR).await;
            Err(Difference::new(format!("{difference}{around}")))
        }
    }
}

// === impl Order ===

impl Order {
    const ALL: [Self; 3] = [Self::AtOnce, Self::KeysFirst, Self::RightsFirst];

    const fn namespace(self) -> &'static str {
        match self {
            Self::AtOnce => "e2e-going-at-once",
            Self::KeysFirst => "e2e-going-keys-first",
            Self::RightsFirst => "e2e-going-rights-first",
        }
    }
}

// === impl Tale ===

impl Tale<'_> {
    async fn tell(&mut self, report: &mut Report) -> Result<(), Difference> {
        self.scene.prepare(MAIN).await?;
        for tenant in tenants() {
            self.tenant(tenant).await?;
        }
        self.helm("install", Version::First).await?;
        report.step("helm install: two pods are ready in a namespace that enforces `restricted`");

        let wanted = [("sales", true, "Delete"), ("kept", true, "Retain"), ("sealed", false, "Delete")];
        for (name, is_at_woodpecker, policy) in wanted {
            self.credential(MAIN, name, is_at_woodpecker, policy).await?;
        }
        for (name, ..) in wanted {
            self.until_ready(MAIN, name).await?;
        }
        report.step(
            "credentials for Woodpecker and the store become Ready, over TLS by names of the cluster's DNS",
        );

        self.rotate().await?;
        report.step("a rotated secret is proved and sent under the same ids");

        self.use_the_rest_api().await?;
        report.step("the REST API makes, shows and removes a credential, by TLS");

        self.kill_the_leader().await?;
        report.step(
            "the leader's pod is killed: the other one leads, and an object made meanwhile is created once",
        );

        match &self.settings.node_exec {
            Some(words) => {
                self.freeze_the_leader(words).await?;
                report.step("the leader is frozen: the other one leads; the frozen one goes on, sends nothing and ends");
            }
            None => report.not_run("the leader is frozen", "for E2E_NODE_EXEC is not set"),
        }

        self.changes_nothing(Change::Upgrade).await?;
        report.step("helm upgrade to another version: nothing is registered again, nothing is lost");
        self.changes_nothing(Change::Rollback).await?;
        report.step("helm rollback: the same");

        for order in Order::ALL {
            self.namespace_goes(order).await?;
        }
        report.step(
            "namespaces with objects to be deleted go, in three orders, and Woodpecker holds nothing of them",
        );

        self.uninstall().await?;
        report.step("helm uninstall with objects that say Delete: they lose their finalizers, and Woodpecker keeps everything");

        for tenant in [MAIN, OPERATOR] {
            self.scene.cluster.delete(Kind::Namespace, None, tenant).await?;
            self.until_gone(Kind::Namespace, None, tenant).await?;
        }
        report.step("what is left is deleted without the operator");
        Ok(())
    }

    async fn helm(&self, command: &str, version: Version) -> Result<(), Difference> {
        self.scene.helm(command, version, self.settings, self.profile, &tenants()).await?;
        self.scene.until_available(OPERATOR, RELEASE, 2).await
    }

    /// A namespace with an account and the Secrets that it needs.
    async fn tenant(&self, tenant: &str) -> Result<(), Difference> {
        let secret = |name: &str, data: Value| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": tenant}, "stringData": data
            })
        };
        let expiry = json!({"client_secret": SECRETS[0], "secret_expires_at": "2027-11-28T23:59:59Z"});
        let objects =
            [namespace(tenant), secret("graph", expiry), secret("agency-key", json!({"api_key": API_KEY}))];
        self.scene.cluster.apply(&objects).await
    }

    /// Applies a credential, and the account where it is to be at Woodpecker.
    async fn credential(
        &mut self,
        tenant: &str,
        name: &str,
        is_at_woodpecker: bool,
        policy: &str,
    ) -> Result<(), Difference> {
        let group = "graph-credentials.io/v1alpha1";
        let destination = if is_at_woodpecker {
            json!({"woodpecker": {"accountRef": {"name": "agency"}}})
        } else {
            json!({"store": {}})
        };
        let client = client_id(self.app);
        self.app += 1;
        let account = json!({
            "apiVersion": group, "kind": "WoodpeckerAccount", "metadata": {"name": "agency", "namespace": tenant},
            "spec": {"apiKeySecretRef": {"name": "agency-key"}, "baseUrl": base_url()}
        });
        let credential = json!({
            "apiVersion": group, "kind": "MicrosoftGraphCredential", "metadata": {"name": name, "namespace": tenant},
            "spec": {
                "tenantId": TENANT, "clientId": client, "secretRef": {"name": "graph"}, "destination": destination,
                "deletionPolicy": policy
            }
        });
        self.scene.cluster.apply(&[account, credential]).await
    }

    async fn until_ready(&self, tenant: &str, name: &str) -> Result<Value, Difference> {
        let place = (Kind::Credential, Some(tenant), name);
        self.scene
            .cluster
            .until(&format!("{tenant}/{name} is Ready"), place, |it| it.is_some_and(is_ready))
            .await
    }

    async fn until_gone(&self, kind: Kind, tenant: Option<&str>, name: &str) -> Result<(), Difference> {
        self.scene
            .cluster
            .until(&format!("{name} is gone"), (kind, tenant, name), |it| it.is_none())
            .await
            .map(drop)
    }

    async fn rotate(&self) -> Result<(), Difference> {
        let before = self.ids().await?;
        let data = json!({"client_secret": SECRETS[1], "secret_expires_at": "2028-11-28T23:59:59Z"});
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "graph", "namespace": MAIN}, "stringData": data
        });
        self.scene.cluster.apply(&[secret]).await?;
        for name in ["sales", "kept", "sealed"] {
            let has_new_date = |object: Option<&Value>| {
                let expires = object.and_then(|it| it["status"]["expiresAt"].as_str());
                object.is_some_and(is_ready) && expires.is_some_and(|it| it.starts_with("2028"))
            };
            let place = (Kind::Credential, Some(MAIN), name);
            self.scene.cluster.until("the new secret's expiry", place, has_new_date).await?;
        }
        let held = self.held(MAIN).await?;
        if held.iter().any(|it| it["secret"] != 1) {
            return Err(Difference::new(format!("Woodpecker does not hold the new secret: {held:?}")));
        }
        same("ids", &before, &self.ids().await?)
    }

    async fn use_the_rest_api(&mut self) -> Result<(), Difference> {
        let client = client_id(self.app);
        self.app += 1;
        let body = json!({
            "tenant_id": TENANT, "client_id": client, "client_secret": SECRETS[0],
            "secret_expires_at": "2027-11-28T23:59:59Z"
        });
        let made = self.scene.rest("POST", "", body).await?;
        let listed = self.scene.rest("GET", "", Value::Null).await?;
        same("the credentials listed", &json!([made]), &listed["credentials"])?;
        self.scene.rest("DELETE", &format!("/{}", made["credential_id"]), Value::Null).await?;
        let listed = self.scene.rest("GET", "", Value::Null).await?;
        same("the credentials listed", &json!([]), &listed["credentials"])
    }

    async fn kill_the_leader(&mut self) -> Result<(), Difference> {
        let leader = self.leader().await?;
        let creates = self.scene.woodpecker().await?["creates"].as_u64();
        self.scene.cluster.kill_pod(OPERATOR, &leader).await?;
        self.credential(MAIN, "meanwhile", true, "Delete").await?;
        self.until_ready(MAIN, "meanwhile").await?;
        same("creates", &creates.map(|it| it + 1), &self.scene.woodpecker().await?["creates"].as_u64())?;
        self.scene.until_available(OPERATOR, RELEASE, 2).await
    }

    async fn freeze_the_leader(&mut self, node_exec: &[String]) -> Result<(), Difference> {
        let leader = self.leader().await?;
        let find = format!(
            "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ 2>/dev/null | grep -qx POD_NAME={leader} && echo ${{p#/proc/}}; done; true"
        );
        let process = on_node(node_exec, &["sh", "-c", &find]).await?;
        let process = process.lines().next().map(str::to_owned);
        let process =
            process.ok_or_else(|| Difference::new(format!("no process of {leader} on the node")))?;
        let creates = self.scene.woodpecker().await?["creates"].as_u64();
        on_node(node_exec, &["kill", "-STOP", &process]).await?;
        self.credential(MAIN, "frozen", true, "Delete").await?;
        let followed = self.until_ready(MAIN, "frozen").await;
        let next = self.leader().await;
        // Whatever became of it, or it stands for ever.
        on_node(node_exec, &["kill", "-CONT", &process]).await?;
        followed?;
        if next? == leader {
            return Err(Difference::new(format!("the frozen {leader} leads still")));
        }
        let restarts = |pod: Option<&Value>| {
            let count = pod.and_then(|it| it.pointer("/status/containerStatuses/0/restartCount"));
            count.and_then(Value::as_u64).is_some_and(|it| it > 0)
        };
        self.scene
            .cluster
            .until("the frozen one is started again", (Kind::Pod, Some(OPERATOR), &leader), restarts)
            .await?;
        self.scene.until_available(OPERATOR, RELEASE, 2).await?;
        same("creates", &creates.map(|it| it + 1), &self.scene.woodpecker().await?["creates"].as_u64())
    }

    /// `helm upgrade` or `helm rollback`, after which every object is handled by the new pods and all is as before.
    async fn changes_nothing(&self, change: Change) -> Result<(), Difference> {
        let (ids, before) = (self.ids().await?, self.scene.woodpecker().await?);
        match change {
            Change::Upgrade => self.helm("upgrade", Version::Next).await?,
            Change::Rollback => {
                let args = ["rollback", RELEASE, "1", "--namespace", OPERATOR, "--wait", "--timeout", "180s"];
                self.scene.plain(&args).await?;
                self.scene.until_available(OPERATOR, RELEASE, 2).await?;
            }
        }
        let token = format!("{change:?}");
        for object in self.scene.cluster.list(Kind::Credential, MAIN).await? {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let asked = json!({
                "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
                "metadata": {"name": name, "namespace": MAIN, "annotations": {"graph-credentials.io/reconcile-requested-at": token}},
                "spec": object["spec"]
            });
            self.scene.cluster.apply(&[asked]).await?;
            let is_handled = |it: Option<&Value>| {
                it.is_some_and(|it| is_ready(it) && it["status"]["lastHandledReconcileAt"] == token.as_str())
            };
            let place = (Kind::Credential, Some(MAIN), name);
            self.scene
                .cluster
                .until(&format!("{name} is handled after the {change:?}"), place, is_handled)
                .await?;
        }
        same("ids", &ids, &self.ids().await?)?;
        let after = self.scene.woodpecker().await?;
        same("what Woodpecker holds", &before["held"], &after["held"])?;
        for count in ["creates", "updates", "deletes"] {
            same(count, &before[count], &after[count])?;
        }
        same("requests at a time", &json!(1), &after["maxInFlight"])
    }

    async fn namespace_goes(&mut self, order: Order) -> Result<(), Difference> {
        let tenant = order.namespace();
        self.credential(tenant, "going", true, "Delete").await?;
        self.credential(tenant, "going-too", false, "Delete").await?;
        for name in ["going", "going-too"] {
            self.until_ready(tenant, name).await?;
        }
        let cluster = &self.scene.cluster;
        match order {
            Order::KeysFirst => {
                for secret in ["graph", "agency-key"] {
                    let secrets = cluster.client.clone();
                    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> =
                        kube::Api::namespaced(secrets, tenant);
                    secrets.delete(secret, &kube::api::DeleteParams::default()).await?;
                }
                cluster.delete(Kind::Account, Some(tenant), "agency").await?;
            }
            Order::RightsFirst => {
                let bindings: kube::Api<k8s_openapi::api::rbac::v1::RoleBinding> =
                    kube::Api::namespaced(cluster.client.clone(), tenant);
                bindings
                    .delete_collection(&kube::api::DeleteParams::default(), &kube::api::ListParams::default())
                    .await?;
            }
            Order::AtOnce => {}
        }
        cluster.delete(Kind::Namespace, None, tenant).await?;
        self.until_gone(Kind::Namespace, None, tenant).await?;
        same("what Woodpecker holds of it", &Vec::new(), &self.held(tenant).await?)
    }

    async fn uninstall(&self) -> Result<(), Difference> {
        let before = self.scene.woodpecker().await?;
        let args = ["uninstall", RELEASE, "--namespace", OPERATOR, "--wait", "--timeout", "300s"];
        self.scene.plain(&args).await?;
        for object in self.scene.cluster.list(Kind::Credential, MAIN).await? {
            if !object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
                return Err(Difference::new(format!("it kept its finalizer: {object:#}")));
            }
        }
        for (kind, name) in
            [(Kind::Deployment, RELEASE.to_owned()), (Kind::Job, format!("{RELEASE}-release"))]
        {
            self.until_gone(kind, Some(OPERATOR), &name).await?;
        }
        same("records of the store", &1, &self.scene.cluster.list(Kind::Record, MAIN).await?.len())?;
        same("what Woodpecker holds", &before["held"], &self.scene.woodpecker().await?["held"])
    }

    /// The pod that leads.
    async fn leader(&self) -> Result<String, Difference> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lease =
                self.scene.cluster.get(Kind::Lease, Some(OPERATOR), RELEASE).await?.unwrap_or_default();
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            for pod in self.scene.cluster.list(Kind::Pod, OPERATOR).await? {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                if !name.is_empty() && holder.starts_with(name) {
                    return Ok(name.to_owned());
                }
            }
            if Instant::now() >= deadline {
                return Err(Difference::new(format!("nobody leads: {holder:?}")));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// The ids of all objects that live through it all, by name.
    async fn ids(&self) -> Result<Vec<(Value, Value)>, Difference> {
        let objects = self.scene.cluster.list(Kind::Credential, MAIN).await?;
        let id = |it: &Value| (it["metadata"]["name"].clone(), it["status"]["credentialId"].clone());
        Ok(objects.iter().map(id).collect())
    }

    /// What Woodpecker holds for objects of a namespace.
    async fn held(&self, tenant: &str) -> Result<Vec<Value>, Difference> {
        let told = self.scene.woodpecker().await?;
        let prefix = format!("{tenant}/");
        let is_its = |it: &&Value| it["name"].as_str().is_some_and(|name| name.starts_with(&prefix));
        // Those of an earlier profile were retained, for other apps.
        let first = client_id(16 * self.profile as u32);
        let is_new = |it: &&Value| it["client"].as_str().is_some_and(|client| client >= first.as_str());
        Ok(told["held"].as_array().into_iter().flatten().filter(is_its).filter(is_new).cloned().collect())
    }
}

fn tenants() -> Vec<&'static str> {
    [MAIN].into_iter().chain(Order::ALL.map(Order::namespace)).collect()
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let is_so = |it: &Value| it["type"] == "Ready" && it["status"] == "True";
    let is_seen = object["status"]["observedGeneration"] == object["metadata"]["generation"];
    is_seen && conditions.is_some_and(|all| all.iter().any(is_so))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, found: &T) -> Result<(), Difference> {
    if expected == found {
        return Ok(());
    }
    Err(Difference::new(format!("{what}: {expected:?} was expected, and {found:?} is found")))
}

/// What a command prints on the node.
async fn on_node(node_exec: &[String], command: &[&str]) -> Result<String, Difference> {
    let words: Vec<String> =
        node_exec.iter().cloned().chain(command.iter().map(ToString::to_string)).collect();
    let ended = tokio::task::spawn_blocking(move || {
        let (program, args) = words.split_first().ok_or_else(|| std::io::Error::other("no command"))?;
        Command::new(program).args(args).output()
    });
    let output = ended.await??;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(Difference::new(format!("{command:?} on the node: {} {}", output.status, told.trim())))
}
