//! The last step: `sandbox`, the API in memory. It needs neither the cluster nor the doubles.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Runner, check_equal};
use crate::demo::Difference;
use crate::demo::fixture::{CLIENT, TENANT};
use crate::demo::http::send_request;
use crate::demo::manifests::EXPIRY;
use crate::process::Process;

const PATH: &str = "/rest/v2/mailboxes/microsoft/credentials";

/// The default API key of every sandbox.
const KEY: &str = "1000001.sandboxsandboxsandbox";

/// How long it may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

// === impl Runner ===

impl Runner<'_> {
    pub(super) async fn sandbox(&mut self) -> Result<(), Difference> {
        self.screen.line("$ graph-credential-operator sandbox");
        let mut process = Process::builder(&self.fixture.program)
            .args(["sandbox", "--address", "127.0.0.1:0", "--log-format", "json"])
            .log(self.fixture.cluster.dir().join("sandbox.log"))
            .spawn()
            .await?;
        let address = listening(&process).await?;
        for (secret, expected) in [
            ("any-secret", 201),
            ("sandbox-client-secret-expired", 422),
            ("sandbox-internal-error-saved", 500),
        ] {
            let body = json!({
                "tenant_id": TENANT, "client_id": CLIENT, "client_secret": secret, "secret_expires_at": EXPIRY,
                "name": secret
            });
            let headers = [("x-api-key", KEY), ("content-type", "application/json")];
            let (status, answer) =
                send_request(&address, &format!("POST {PATH}"), &headers, &body.to_string()).await?;
            self.screen
                .block(&format!("POST with the client secret {secret}:"), &format!("{status} {answer}"));
            check_equal("the status", &status, &expected)?;
        }
        let (_, listed) = send_request(&address, &format!("GET {PATH}"), &[("x-api-key", KEY)], "").await?;
        let listed: Value = serde_json::from_str(&listed)?;
        let names: Vec<_> =
            listed["credentials"].as_array().into_iter().flatten().map(|it| it["name"].clone()).collect();
        check_equal("the credentials", &names.len(), &2)?;
        check_equal(
            "the second one, whose answer was 500",
            &names.contains(&json!("sandbox-internal-error-saved")),
            &true,
        )?;
        process.stop().await?;
        Ok(())
    }
}

async fn listening(process: &Process) -> Result<String, Difference> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let log = process.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = lines
            .filter(|line| line["message"] == "serving the sandbox")
            .find_map(|line| line["address"].as_str().map(str::to_owned));
        match found {
            Some(address) => return Ok(address),
            None if Instant::now() >= deadline || !process.is_running() => {
                return Err(Difference::new(format!("the sandbox is not served:\n{log}")));
            }
            None => sleep(Duration::from_millis(20)).await,
        }
    }
}
