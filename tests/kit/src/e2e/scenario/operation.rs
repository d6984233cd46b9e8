//! Ordinary operation: a rotated secret, a client of the REST API, a command in a pod.

use std::process::Command;

use serde_json::{Value, json};

use super::super::cluster::Kind;
use super::super::fixture::{OPERATOR, RELEASE};
use super::objects::is_ready;
use super::{MAIN, Scenario, check_equal};
use crate::assets::{Assets, Program};
use crate::demo::Difference;
use crate::doubles::{SECRETS, TENANT};

// === impl Scenario ===

impl Scenario<'_> {
    /// helm prints the log of the pod if it fails, and deletes the pod otherwise.
    pub(super) async fn helm_test(&self) -> Result<(), Difference> {
        let args = ["test", RELEASE, "--namespace", OPERATOR, "--timeout", "60s"];
        self.fixture.plain(&self.kubeconfig, &args).await?;
        let pod = format!("{RELEASE}-check");
        let left = self.fixture.cluster.get(Kind::Pod, Some(OPERATOR), &pod).await?;
        check_equal("the pod of the test", &None, &left)
    }

    pub(super) async fn rotate(&self) -> Result<(), Difference> {
        let before = self.ids().await?;
        let data = json!({"client_secret": SECRETS[1], "secret_expires_at": "2028-11-28T23:59:59Z"});
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "graph", "namespace": MAIN}, "stringData": data
        });
        self.fixture.cluster.apply(&[secret]).await?;
        for name in ["sales", "kept", "sealed"] {
            let has_new_date = |object: Option<&Value>| {
                let expires = object.and_then(|it| it["status"]["expiresAt"].as_str());
                object.is_some_and(is_ready) && expires.is_some_and(|it| it.starts_with("2028"))
            };
            let object_ref = (Kind::Credential, Some(MAIN), name);
            self.fixture.cluster.until("the new secret's expiry", object_ref, has_new_date).await?;
        }
        let stored = self.stored_credentials(MAIN).await?;
        if stored.len() != 2 || stored.iter().any(|it| it["secret"] != 1) {
            return Err(Difference::new(format!("Woodpecker does not hold the new secret: {stored:?}")));
        }
        check_equal("ids", &before, &self.ids().await?)
    }

    pub(super) async fn use_the_rest_api(&mut self) -> Result<(), Difference> {
        let body = json!({
            "tenant_id": TENANT, "client_id": self.next_client(), "client_secret": SECRETS[0],
            "secret_expires_at": "2027-11-28T23:59:59Z"
        });
        let made = self.fixture.rest("POST", "", body).await?;
        let listed = self.fixture.rest("GET", "", Value::Null).await?;
        check_equal("the credentials listed", &json!([made]), &listed["credentials"])?;
        self.fixture.rest("DELETE", &format!("/{}", made["credential_id"]), Value::Null).await?;
        let listed = self.fixture.rest("GET", "", Value::Null).await?;
        check_equal("the credentials listed", &json!([]), &listed["credentials"])
    }

    /// Runs the command of docs/tasks/keyring.md, for the records in one namespace, which every profile may list.
    pub(super) async fn list_keys_in_a_pod(&self) -> Result<(), Difference> {
        let kubeconfig = self.settings.kubeconfig.clone();
        let listed = tokio::task::spawn_blocking(move || {
            let kubectl = Assets::locate(&[Program::Kubectl])?;
            let kubectl =
                kubectl.path(Program::Kubectl).ok_or_else(|| Difference::new("there is no kubectl"))?;
            let deployment = format!("deploy/{RELEASE}");
            let args = [
                "--namespace",
                OPERATOR,
                "exec",
                &deployment,
                "--",
                "graph-credential-operator",
                "keys",
                "list",
            ];
            let output = Command::new(kubectl)
                .env("KUBECONFIG", kubeconfig)
                .args(args)
                .args(["--watch-namespace", MAIN])
                .output()?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok::<_, Difference>(format!("{} {}{}", output.status, text(&output.stdout), text(&output.stderr)))
        });
        let printed = listed.await??;
        let is_listed = printed.contains("exit status: 0") && printed.contains("primary");
        if is_listed { Ok(()) } else { Err(Difference::new(printed)) }
    }
}
