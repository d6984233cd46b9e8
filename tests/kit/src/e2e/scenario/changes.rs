//! Changes of the release while objects exist: none of them may cause a change at Woodpecker.

use serde_json::{Value, json};

use super::super::cluster::Kind;
use super::super::fixture::{OPERATOR, RELEASE};
use super::objects::has_finalizer;
use super::{MAIN, OUTLIVING, Scenario, check_equal};
use crate::demo::Difference;

/// A change of the release that must have no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Upgrade,
    Rollback,
    ElectionOff,
    ElectionOn,
}

// === impl Change ===

impl Change {
    /// In the order of the scenario.
    pub(super) const ALL: [Self; 4] = [Self::Upgrade, Self::Rollback, Self::ElectionOff, Self::ElectionOn];

    /// The description of the step in the report.
    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::Upgrade => {
                "helm upgrade to the other version: its pods report it, nothing is registered again, nothing is lost"
            }
            Self::Rollback => "helm rollback: the same",
            Self::ElectionOff => "helm upgrade to one replica without leader election: the same",
            Self::ElectionOn => "helm upgrade back to two replicas with it: the same",
        }
    }

    const fn pods(self) -> u64 {
        match self {
            Self::ElectionOff => 1,
            Self::Upgrade | Self::Rollback | Self::ElectionOn => 2,
        }
    }

    fn values(self) -> Value {
        match self {
            Self::ElectionOff => json!({"leaderElection": {"enabled": false}, "replicaCount": 1}),
            Self::Upgrade | Self::Rollback | Self::ElectionOn => Value::Null,
        }
    }
}

// === impl Scenario ===

impl Scenario<'_> {
    /// Changes the release, and checks that the new pods reconcile every object and nothing else changed.
    pub(super) async fn verify_no_effect(&self, change: Change) -> Result<(), Difference> {
        let (ids, before) = (self.ids().await?, self.fixture.woodpecker().await?);
        let release = self.release(Some(change));
        if change == Change::Rollback {
            let args = ["rollback", RELEASE, "1", "--namespace", OPERATOR, "--wait", "--timeout", "180s"];
            self.fixture.plain(&self.kubeconfig, &args).await?;
        } else {
            self.fixture.helm("upgrade", &release, change.values()).await?;
        }
        self.until_pods_report(&release.image.version, change.pods()).await?;
        self.reconcile_all(&format!("{change:?}")).await?;
        check_equal("ids", &ids, &self.ids().await?)?;
        let after = self.fixture.woodpecker().await?;
        check_equal("what Woodpecker holds", &before["credentials"], &after["credentials"])?;
        for count in ["creates", "updates", "deletes"] {
            check_equal(count, &before[count], &after[count])?;
        }
        check_equal("requests at a time", &json!(1), &after["maxInFlight"])
    }

    /// Waits until that number of pods is available, no others exist, and the program in each reports that
    /// version.
    pub(super) async fn until_pods_report(&self, version: &str, pods: u64) -> Result<(), Difference> {
        self.fixture.until_available(OPERATOR, RELEASE, pods).await?;
        for name in self.pods().await? {
            let path = format!("/api/v1/namespaces/{OPERATOR}/pods/{name}:8080/proxy/metrics");
            let metrics = self.fixture.cluster.read(&path).await?;
            let reported = reported_version(&metrics);
            check_equal(&format!("the version that {name} reports"), &Some(version), &reported)?;
        }
        Ok(())
    }

    /// The names of the pods that are not terminating.
    async fn pods(&self) -> Result<Vec<String>, Difference> {
        let pods = self.fixture.cluster.list(Kind::Pod, OPERATOR).await?;
        let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        Ok(pods
            .iter()
            .filter(stays)
            .filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned()))
            .collect())
    }

    /// The image of the pods, as the node reports it.
    pub(super) async fn image_id(&self) -> Result<String, Difference> {
        let pods = self.fixture.cluster.list(Kind::Pod, OPERATOR).await?;
        let containers = pods.iter().filter_map(|pod| pod.pointer("/status/containerStatuses")?.as_array());
        // Admission may have added others.
        let mut of_operator = containers.flatten().filter(|it| it["name"] == "operator");
        Ok(of_operator.find_map(|it| it["imageID"].as_str()).unwrap_or("an unknown image").to_owned())
    }

    pub(super) async fn uninstall(&self) -> Result<(), Difference> {
        let before = self.fixture.woodpecker().await?;
        let args = ["uninstall", RELEASE, "--namespace", OPERATOR, "--wait", "--timeout", "300s"];
        self.fixture.plain(&self.kubeconfig, &args).await?;
        for tenant in [MAIN, OUTLIVING] {
            let objects = self.fixture.cluster.list(Kind::Credential, tenant).await?;
            if objects.is_empty() {
                return Err(Difference::new(format!("no object is left in {tenant}")));
            }
            if let Some(object) = objects.iter().find(|it| has_finalizer(it)) {
                return Err(Difference::new(format!("it kept its finalizer: {object:#}")));
            }
        }
        for (kind, name) in
            [(Kind::Deployment, RELEASE.to_owned()), (Kind::Job, format!("{RELEASE}-remove-finalizers"))]
        {
            self.until_gone(kind, Some(OPERATOR), &name).await?;
        }
        check_equal("records of the store", &1, &self.fixture.cluster.list(Kind::Record, MAIN).await?.len())?;
        check_equal(
            "what Woodpecker holds",
            &before["credentials"],
            &self.fixture.woodpecker().await?["credentials"],
        )
    }
}

/// The version in a program's metrics, whatever labels are beside it.
fn reported_version(metrics: &str) -> Option<&str> {
    let line = metrics.lines().find(|line| line.starts_with("graph_credential_operator_build_info{"))?;
    line.split_once("version=\"")?.1.split_once('"').map(|(version, _)| version)
}

#[cfg(test)]
mod tests {
    use super::reported_version;

    #[test]
    fn the_version_is_read_from_among_other_labels() {
        for line in [
            r#"graph_credential_operator_build_info{version="0.1.0"} 1"#,
            r#"graph_credential_operator_build_info{command="run",version="0.1.0"} 1"#,
        ] {
            assert_eq!(reported_version(&format!("# EOF\n{line}\n")), Some("0.1.0"));
        }
        assert_eq!(reported_version("other{version=\"1\"} 1"), None);
    }
}
