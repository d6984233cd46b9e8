//! Woodpecker in the demo: the REST API of the operator's own program, in its own namespace and with its own
//! keyring.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Difference;
use super::http::send_request;
use crate::cluster::Cluster;
use crate::entra::Entra;
use crate::process::Process;

/// The namespace of its own objects.
pub(super) const NAMESPACE: &str = "woodpecker";

/// The account's API key.
pub(super) const API_KEY: &str = "1234.the-agencys-api-key";

/// The Secret with the API key, by the entry `<namespace>.<name>`.
pub(super) const SETUP_YAML: &str = "\
apiVersion: v1
kind: Namespace
metadata: { name: woodpecker }
---
apiVersion: v1
kind: Secret
metadata: { name: graph-credential-operator-api-keys, namespace: woodpecker }
stringData: { woodpecker.agency: (the API key) }
";

const PATH: &str = "/rest/v2/mailboxes/microsoft/credentials";

/// How long it may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A credential in the API's responses.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StoredCredential {
    pub(super) credential_id: i64,
    pub(super) client_id: String,
    pub(super) name: String,
    pub(super) secret_expires_at: String,
}

#[derive(Deserialize)]
struct ListResponse {
    credentials: Vec<StoredCredential>,
}

/// A running server.
pub(super) struct Woodpecker {
    server: Process,
    address: String,
}

// === impl Woodpecker ===

impl Woodpecker {
    /// Starts the server; its namespace and API key exist already.
    pub(super) async fn start(program: &Path, cluster: &Cluster, entra: &Entra) -> Result<Self, Difference> {
        let server = Process::builder(program)
            .env("KUBECONFIG", cluster.kubeconfig_path())
            .args([
                "serve",
                "--rest-bind-address",
                "127.0.0.1:0",
                "--health-probe-bind-address",
                "127.0.0.1:0",
            ])
            .args(["--dns-server", "127.0.0.1:9", "--microsoft-authority", &entra.url()])
            .args(["--operator-namespace", NAMESPACE, "--watch-namespace", NAMESPACE])
            .log(cluster.dir().join("serve.log"))
            .spawn()
            .await?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(address) = address(&server) {
                return Ok(Self { server, address });
            }
            if Instant::now() >= deadline || !server.is_running() {
                return Err(Difference::new(format!("the REST API is not served:\n{}", server.log())));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The base URL for a `WoodpeckerAccount`.
    pub(super) fn base_url(&self) -> String {
        format!("http://{}/rest", self.address)
    }

    /// The URL of all credentials.
    pub(super) fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// The account's credentials.
    pub(super) async fn credentials(&self) -> Result<Vec<StoredCredential>, Difference> {
        let (status, body) =
            send_request(&self.address, &format!("GET {PATH}"), &[("x-api-key", API_KEY)], "").await?;
        if status != 200 {
            return Err(Difference::new(format!("the list request got {status}: {body}")));
        }
        Ok(serde_json::from_str::<ListResponse>(&body)?.credentials)
    }

    /// Removes a credential.
    pub(super) async fn remove(&self, id: i64) -> Result<(), Difference> {
        let request = format!("DELETE {PATH}/{id}");
        send_request(&self.address, &request, &[("x-api-key", API_KEY)], "").await.map(drop)
    }

    /// The operator's requests since then, one line each.
    pub(super) fn summary(&self, since: Timestamp) -> Vec<String> {
        let lines = requests(&self.server.log());
        let recent = lines.into_iter().filter(|line| line.at >= since);
        recent.map(|line| format!("{} {} → {}", line.method, line.place, line.status)).collect()
    }

    /// The number of requests that changed something, or attempted to.
    pub(super) fn writes(&self) -> usize {
        requests(&self.server.log()).iter().filter(|line| line.method != "GET").count()
    }

    pub(super) async fn stop(&mut self) -> Result<(), Difference> {
        let exit = self.server.stop().await?;
        if exit.success() {
            Ok(())
        } else {
            Err(Difference::new(format!("the REST API failed at its exit: {exit}\n{}", self.server.log())))
        }
    }
}

/// A log line about a request.
struct Line {
    at: Timestamp,
    method: String,
    place: &'static str,
    status: u64,
}

fn requests(log: &str) -> Vec<Line> {
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let route = (line["message"] == "request").then(|| line["route"].as_str())??;
        Some(Line {
            at: line["timestamp"].as_str()?.parse().ok()?,
            method: line["method"].as_str()?.to_owned(),
            place: if route.ends_with('}') { "…/credentials/{id}" } else { "…/credentials" },
            status: line["status"].as_u64()?,
        })
    };
    log.lines().filter_map(read).collect()
}

fn address(server: &Process) -> Option<String> {
    server.log().lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == "serving the credentials REST API")
            .then(|| line["address"].as_str())?
            .map(str::to_owned)
    })
}
