//! Mailboxes that are connected with a registered credential.

use serde_json::json;

use super::super::cluster::Kind;
use super::super::fixture::base_url;
use super::objects::is_ready;
use super::{MAIN, Scenario, check_equal};
use crate::demo::Difference;

const VERSION: &str = "graph-credentials.io/v1alpha1";

// === impl Scenario ===

impl Scenario<'_> {
    /// The first mailbox alone, and once a listing shows it, the others.
    pub(super) async fn connect_mailboxes(&self) -> Result<(), Difference> {
        let account = json!({
            "apiVersion": VERSION, "kind": "WoodpeckerAccount", "metadata": {"name": "agency", "namespace": MAIN},
            "spec": {
                "apiKeySecretRef": {"name": "agency-key"}, "baseUrl": base_url(), "mailboxes": {"connect": "Allowed"}
            }
        });
        let mailboxes = ["jim", "kim", "pam"].map(|name| json!({"email": format!("{name}@example.com")}));
        let object = json!({
            "apiVersion": VERSION, "kind": "WoodpeckerMailboxes", "metadata": {"name": "team", "namespace": MAIN},
            "spec": {"credentialRef": {"name": "sales"}, "policy": "Connect", "mailboxes": mailboxes}
        });
        let cluster = &self.fixture.cluster;
        cluster.apply(&[account, object]).await?;
        let object_ref = (Kind::Mailboxes, Some(MAIN), "team");
        cluster.until("all mailboxes are connected", object_ref, |it| it.is_some_and(is_ready)).await?;
        cluster.delete(Kind::Mailboxes, Some(MAIN), "team").await?;
        self.until_gone(Kind::Mailboxes, Some(MAIN), "team").await?;
        let state = self.fixture.woodpecker().await?;
        check_equal(
            "requests and mailboxes",
            &(&json!(2), &json!(3)),
            &(&state["connects"], &state["mailboxes"]),
        )
    }
}
