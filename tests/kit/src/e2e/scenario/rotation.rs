//! A client secret that the operator creates, with an identity that signs in with the token of its pod.

use serde_json::{Value, json};

use super::super::cluster::Kind;
use super::super::fixture::OPERATOR;
use super::{MAIN, Scenario, check_equal};
use crate::demo::Difference;
use crate::doubles::{IDENTITY, ROTATING, TENANT};

const VERSION: &str = "graph-credentials.io/v1alpha1";

// === impl Scenario ===

impl Scenario<'_> {
    pub(super) async fn rotate_at_entra(&self) -> Result<(), Difference> {
        let grants = json!([{"namespaces": [MAIN], "tenantId": TENANT, "clientIds": [ROTATING]}]);
        let identity = json!({
            "apiVersion": VERSION, "kind": "EntraIdentity", "metadata": {"name": "agency", "namespace": OPERATOR},
            "spec": {"tenantId": TENANT, "clientId": IDENTITY, "auth": {"federatedToken": {}}, "grants": grants}
        });
        let credential = json!({
            "apiVersion": VERSION, "kind": "MicrosoftGraphCredential",
            "metadata": {"name": "rotating", "namespace": MAIN},
            "spec": {
                "tenantId": TENANT, "clientId": ROTATING, "displayName": "rotating",
                "entra": {"identityRef": {"name": "agency"}}, "rotation": {"overlap": "0s"},
                "destination": {"woodpecker": {"accountRef": {"name": "agency"}}}, "deletionPolicy": "Delete"
            }
        });
        let cluster = &self.fixture.cluster;
        cluster.apply(&[identity, credential.clone()]).await?;
        self.until_ready(MAIN, "rotating").await?;
        check_equal("client secrets and registrations", &(1, 1), &self.of_app().await?)?;
        cluster.delete_object(&credential).await?;
        self.until_gone(Kind::Credential, Some(MAIN), "rotating").await?;
        check_equal("client secrets and registrations", &(0, 0), &self.of_app().await?)?;
        cluster.delete(Kind::Identity, Some(OPERATOR), "agency").await?;
        self.until_gone(Kind::Identity, Some(OPERATOR), "agency").await
    }

    /// How many client secrets the app has, and how many credentials at Woodpecker are for it.
    async fn of_app(&self) -> Result<(u64, usize), Difference> {
        let state = self.fixture.woodpecker().await?;
        let registered = state["credentials"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_its = |it: &&Value| it["client"] == ROTATING;
        Ok((state["clientSecrets"].as_u64().unwrap_or_default(), registered.iter().filter(is_its).count()))
    }
}
