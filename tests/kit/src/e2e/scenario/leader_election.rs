//! Leader election: what happens if a leader crashes or freezes.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::super::cluster::{Kind, TIMEOUT};
use super::super::fixture::{OPERATOR, RELEASE};
use super::{MAIN, Scenario, check_equal};
use crate::demo::Difference;

// === impl Scenario ===

impl Scenario<'_> {
    pub(super) async fn kill_the_leader(&mut self) -> Result<(), Difference> {
        let leader = self.leader().await?;
        let creates = self.fixture.woodpecker().await?["creates"].as_u64();
        self.fixture.cluster.kill_pod(OPERATOR, &leader).await?;
        self.credential(MAIN, "meanwhile", true, "Delete").await?;
        self.until_ready(MAIN, "meanwhile").await?;
        check_equal(
            "creates",
            &creates.map(|it| it + 1),
            &self.fixture.woodpecker().await?["creates"].as_u64(),
        )?;
        self.fixture.until_available(OPERATOR, RELEASE, 2).await
    }

    pub(super) async fn freeze_the_leader(&mut self, node_exec: &[String]) -> Result<(), Difference> {
        let leader = self.leader().await?;
        let find = format!(
            "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ 2>/dev/null | grep -qx POD_NAME={leader} && echo ${{p#/proc/}}; done; true"
        );
        let process = on_node(node_exec, &["sh", "-c", &find]).await?;
        let process = process.lines().next().map(str::to_owned);
        let process =
            process.ok_or_else(|| Difference::new(format!("no process of {leader} on the node")))?;
        let creates = self.fixture.woodpecker().await?["creates"].as_u64();
        on_node(node_exec, &["kill", "-STOP", &process]).await?;
        self.credential(MAIN, "frozen", true, "Delete").await?;
        let followed = self.until_ready(MAIN, "frozen").await;
        let next = self.leader().await;
        // In any case, or it stays frozen forever.
        on_node(node_exec, &["kill", "-CONT", &process]).await?;
        followed?;
        if next? == leader {
            return Err(Difference::new(format!("the frozen {leader} still leads")));
        }
        let restarts = |pod: Option<&Value>| {
            let containers = pod.and_then(|it| it.pointer("/status/containerStatuses")?.as_array());
            containers.into_iter().flatten().any(|it| it["restartCount"].as_u64() > Some(0))
        };
        self.fixture
            .cluster
            .until("the frozen one is restarted", (Kind::Pod, Some(OPERATOR), &leader), restarts)
            .await?;
        self.fixture.until_available(OPERATOR, RELEASE, 2).await?;
        check_equal(
            "creates",
            &creates.map(|it| it + 1),
            &self.fixture.woodpecker().await?["creates"].as_u64(),
        )
    }

    /// The pod that leads.
    async fn leader(&self) -> Result<String, Difference> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let lease =
                self.fixture.cluster.get(Kind::Lease, Some(OPERATOR), RELEASE).await?.unwrap_or_default();
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            for pod in self.fixture.cluster.list(Kind::Pod, OPERATOR).await? {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                if !name.is_empty() && holder.starts_with(name) {
                    return Ok(name.to_owned());
                }
            }
            if Instant::now() >= deadline {
                return Err(Difference::new(format!("there is no leader: {holder:?}")));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The output of a command on the node.
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
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Difference::new(format!("{command:?} on the node: {} {}", output.status, stderr.trim())))
}
