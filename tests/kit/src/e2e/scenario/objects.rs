//! The objects of the scenario: how they are created, and what must hold for them.

use serde_json::{Value, json};

use super::super::cluster::Kind;
use super::super::fixture::{base_url, namespace};
use super::{APPS_EACH, MAIN, Scenario};
use crate::demo::Difference;
use crate::doubles::{API_KEY, SECRETS, TENANT, client_id};

const VERSION: &str = "graph-credentials.io/v1alpha1";

// === impl Scenario ===

impl Scenario<'_> {
    /// A namespace with the Secrets that an account and credentials need.
    pub(super) async fn tenant(&self, tenant: &str) -> Result<(), Difference> {
        let secret = |name: &str, data: Value| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": tenant}, "stringData": data
            })
        };
        let expiry = json!({"client_secret": SECRETS[0], "secret_expires_at": "2027-11-28T23:59:59Z"});
        let objects =
            [namespace(tenant), secret("graph", expiry), secret("agency-key", json!({"api_key": API_KEY}))];
        self.fixture.cluster.apply(&objects).await
    }

    /// Applies a credential, and the account if it is for Woodpecker.
    pub(super) async fn credential(
        &mut self,
        tenant: &str,
        name: &str,
        is_at_woodpecker: bool,
        policy: &str,
    ) -> Result<(), Difference> {
        let destination = if is_at_woodpecker {
            json!({"woodpecker": {"accountRef": {"name": "agency"}}})
        } else {
            json!({"store": {}})
        };
        let client = self.next_client();
        let account = json!({
            "apiVersion": VERSION, "kind": "WoodpeckerAccount", "metadata": {"name": "agency", "namespace": tenant},
            "spec": {"apiKeySecretRef": {"name": "agency-key"}, "baseUrl": base_url()}
        });
        let credential = json!({
            "apiVersion": VERSION, "kind": "MicrosoftGraphCredential", "metadata": {"name": name, "namespace": tenant},
            "spec": {
                "tenantId": TENANT, "clientId": client, "secretRef": {"name": "graph"}, "destination": destination,
                "deletionPolicy": policy
            }
        });
        self.fixture.cluster.apply(&[account, credential]).await
    }

    /// The client id of an app that nothing in the run has used.
    pub(super) fn next_client(&mut self) -> String {
        let client = client_id(self.app);
        self.app += 1;
        client
    }

    pub(super) async fn until_ready(&self, tenant: &str, name: &str) -> Result<Value, Difference> {
        let object_ref = (Kind::Credential, Some(tenant), name);
        self.fixture
            .cluster
            .until(&format!("{tenant}/{name} is Ready"), object_ref, |it| it.is_some_and(is_ready))
            .await
    }

    pub(super) async fn until_gone(
        &self,
        kind: Kind,
        tenant: Option<&str>,
        name: &str,
    ) -> Result<(), Difference> {
        self.fixture
            .cluster
            .until(&format!("{name} is deleted"), (kind, tenant, name), |it| it.is_none())
            .await
            .map(drop)
    }

    /// Requests a reconciliation of every long-lived credential, and waits until each is Ready after it.
    pub(super) async fn reconcile_all(&self, token: &str) -> Result<(), Difference> {
        for object in self.fixture.cluster.list(Kind::Credential, MAIN).await? {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let object_with_request = json!({
                "apiVersion": VERSION, "kind": "MicrosoftGraphCredential", "spec": object["spec"],
                "metadata": {
                    "name": name, "namespace": MAIN,
                    "annotations": {"graph-credentials.io/reconcile-requested-at": token}
                }
            });
            self.fixture.cluster.apply(&[object_with_request]).await?;
            let is_reconciled = |it: Option<&Value>| {
                it.is_some_and(|it| is_ready(it) && it["status"]["lastHandledReconcileAt"] == token)
            };
            let object_ref = (Kind::Credential, Some(MAIN), name);
            self.fixture
                .cluster
                .until(&format!("{name} is reconciled, {token}"), object_ref, is_reconciled)
                .await?;
        }
        Ok(())
    }

    /// Checks that an object has a finalizer, or reports that its policy is not applied.
    pub(super) async fn verify_finalizer_matches_profile(&self, name: &str) -> Result<(), Difference> {
        let object = self.until_ready(MAIN, name).await?;
        let has_finalizer = has_finalizer(&object);
        let conditions = object["status"]["conditions"].as_array();
        let message_says_so = conditions.into_iter().flatten().any(|it| {
            it["type"] == "Ready"
                && it["message"].as_str().is_some_and(|it| it.contains("--enable-finalizers=false"))
        });
        let waits = self.profile.has_finalizers();
        if (has_finalizer, message_says_so) == (waits, !waits) {
            return Ok(());
        }
        Err(Difference::new(format!("finalizer and message do not match the profile: {object:#}")))
    }

    /// The ids of all long-lived objects, by name.
    pub(super) async fn ids(&self) -> Result<Vec<(Value, Value)>, Difference> {
        let objects = self.fixture.cluster.list(Kind::Credential, MAIN).await?;
        let id = |it: &Value| (it["metadata"]["name"].clone(), it["status"]["credentialId"].clone());
        Ok(objects.iter().map(id).collect())
    }

    /// Woodpecker's credentials for objects of a namespace.
    pub(super) async fn stored_credentials(&self, tenant: &str) -> Result<Vec<Value>, Difference> {
        let state = self.fixture.woodpecker().await?;
        let prefix = format!("{tenant}/");
        let is_its = |it: &&Value| it["name"].as_str().is_some_and(|name| name.starts_with(&prefix));
        // Those of an earlier profile were retained, for other apps.
        let first = client_id(APPS_EACH * self.profile as u32);
        let is_new = |it: &&Value| it["client"].as_str().is_some_and(|client| client >= first.as_str());
        Ok(state["credentials"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(is_its)
            .filter(is_new)
            .cloned()
            .collect())
    }
}

pub(super) fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let is_so = |it: &Value| it["type"] == "Ready" && it["status"] == "True";
    let is_seen = object["status"]["observedGeneration"] == object["metadata"]["generation"];
    is_seen && conditions.is_some_and(|all| all.iter().any(is_so))
}

pub(super) fn has_finalizer(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty())
}
