//! The step in which the operator creates, registers and removes client secrets.

use serde_json::Value;

use super::{Runner, check_equal, is};
use crate::demo::Difference;
use crate::demo::fixture::{IDENTITY_SECRET, ROTATING_CLIENT, TENANT};
use crate::demo::manifests::{IDENTITY_YAML, ROTATION_YAML};
use crate::graph::{SECRET_MARK, SecretRecord};

// === impl Runner ===

impl Runner<'_> {
    pub(super) async fn rotate_at_entra(&mut self) -> Result<(), Difference> {
        self.screen
            .block("$ kubectl apply --server-side -f -", &format!("{IDENTITY_YAML}---\n{ROTATION_YAML}"));
        self.screen.line("the app has no client secret, and there is no Secret for it");
        self.fixture.apply(IDENTITY_YAML, &[("(the secret of the identity)", IDENTITY_SECRET)]).await?;
        self.fixture.apply(ROTATION_YAML, &[]).await?;
        let is_ready = |object: Option<&Value>| is(object, "Ready", "True", "Ready");
        let object = self.fixture.until("sales-apac", "Ready", is_ready).await?;
        let (first, id) = (current(&object), object["status"]["credentialId"].clone());
        self.show_app("the app at Microsoft Entra:");
        let live = self.fixture.graph.live_secrets(TENANT, ROTATING_CLIENT);
        check_equal("client secrets", &key_ids(&live), &vec![first.clone()])?;

        let args = ["rotate", "sales-apac", "-n", "mail", "--without-overlap", "--no-wait", "--yes"];
        let output = self.fixture.run(&args).await?;
        self.screen.block(&format!("$ graph-credential-operator {}", args.join(" ")), &output);
        let is_next = |object: Option<&Value>| is_ready(object) && object.map(current) != Some(first.clone());
        let object = self.fixture.until("sales-apac", "Ready with another client secret", is_next).await?;
        check_equal("status.credentialId", &object["status"]["credentialId"], &id)?;
        self.show_app("the app at Microsoft Entra, once the new client secret is registered:");
        let is_only = |object: Option<&Value>| {
            let live = self.fixture.graph.live_secrets(TENANT, ROTATING_CLIENT);
            object.is_some_and(|object| key_ids(&live) == [current(object)])
        };
        let object =
            self.fixture.until("sales-apac", "the earlier client secret is removed", is_only).await?;
        self.show_app("and after its removal:");
        check_equal("a client secret is in the status", &object.to_string().contains(SECRET_MARK), &false)?;
        check_equal("a client secret is in the log", &self.fixture.log().contains(SECRET_MARK), &false)
    }

    fn show_app(&self, title: &str) {
        let history = self.fixture.graph.history(TENANT, ROTATING_CLIENT);
        let line = |it: &SecretRecord| {
            let state = if it.is_live() { "works" } else { "removed" };
            format!("{} {} {state}", it.key_id, it.display_name.as_deref().unwrap_or_default())
        };
        self.screen.block(title, &history.iter().map(line).collect::<Vec<_>>().join("\n"));
    }
}

fn current(object: &Value) -> String {
    object["status"]["rotation"]["current"]["keyId"].as_str().unwrap_or_default().to_owned()
}

fn key_ids(secrets: &[SecretRecord]) -> Vec<String> {
    secrets.iter().map(|it| it.key_id.clone()).collect()
}
