//! Changes of the release while objects exist: none of them may cause a change at Woodpecker.

use serde_json::{Value, json};

use super::super::cluster::Kind;
use super::super::scene::{OPERATOR, RELEASE};
use super::objects::has_finalizer;
use super::{MAIN, OUTLIVING, Tale, same};
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
    pub(super) const fn told(self) -> &'static str {
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

// === impl Tale ===

impl Tale<'_> {
    /// Changes the release, and checks that the new pods reconcile every object and nothing else changed.
    pub(super) async fn changes_nothing(&self, change: Change) -> Result<(), Difference> {
        let (ids, before) = (self.ids().await?, self.scene.woodpecker().await?);
        let release = self.release(Some(change));
        if change == Change::Rollback {
            let args = ["rollback", RELEASE, "1", "--namespace", OPERATOR, "--wait", "--timeout", "180s"];
            self.scene.plain(&self.kubeconfig, &args).await?;
        } else {
            self.scene.helm("upgrade", &release, change.values()).await?;
        }
        self.until_pods_say(&release.image.version, change.pods()).await?;
        self.handle_all(&format!("{change:?}")).await?;
        same("ids", &ids, &self.ids().await?)?;
        let after = self.scene.woodpecker().await?;
        same("what Woodpecker holds", &before["held"], &after["held"])?;
        for count in ["creates", "updates", "deletes"] {
            same(count, &before[count], &after[count])?;
        }
        same("requests at a time", &json!(1), &after["maxInFlight"])
    }

    /// Waits until that number of pods is available, no others exist, and the program in each reports that
    /// version.
    pub(super) async fn until_pods_say(&self, version: &str, pods: u64) -> Result<(), Difference> {
        self.scene.until_available(OPERATOR, RELEASE, pods).await?;
        for name in self.pods().await? {
            let path = format!("/api/v1/namespaces/{OPERATOR}/pods/{name}:8080/proxy/metrics");
            let metrics = self.scene.cluster.read(&path).await?;
            let said = version_said(&metrics);
            same(&format!("the version that {name} reports"), &Some(version), &said)?;
        }
        Ok(())
    }

    /// The names of the pods that are not terminating.
    async fn pods(&self) -> Result<Vec<String>, Difference> {
        let pods = self.scene.cluster.list(Kind::Pod, OPERATOR).await?;
        let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        Ok(pods
            .iter()
            .filter(stays)
            .filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned()))
            .collect())
    }

    /// The image of the pods, as the node reports it.
    pub(super) async fn image_id(&self) -> Result<String, Difference> {
        let pods = self.scene.cluster.list(Kind::Pod, OPERATOR).await?;
        let id = pods.iter().find_map(|pod| pod.pointer("/status/containerStatuses/0/imageID")?.as_str());
        Ok(id.unwrap_or("an unknown image").to_owned())
    }

    pub(super) async fn uninstall(&self) -> Result<(), Difference> {
        let before = self.scene.woodpecker().await?;
        let args = ["uninstall", RELEASE, "--namespace", OPERATOR, "--wait", "--timeout", "300s"];
        self.scene.plain(&self.kubeconfig, &args).await?;
        for tenant in [MAIN, OUTLIVING] {
            let objects = self.scene.cluster.list(Kind::Credential, tenant).await?;
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
        same("records of the store", &1, &self.scene.cluster.list(Kind::Record, MAIN).await?.len())?;
        same("what Woodpecker holds", &before["held"], &self.scene.woodpecker().await?["held"])
    }
}

/// The version in a program's metrics, whatever labels are beside it.
fn version_said(metrics: &str) -> Option<&str> {
    let line = metrics.lines().find(|line| line.starts_with("graph_credential_operator_build_info{"))?;
    line.split_once("version=\"")?.1.split_once('"').map(|(version, _)| version)
}

#[cfg(test)]
mod tests {
    use super::version_said;

    #[test]
    fn the_version_is_read_from_among_other_labels() {
        for line in [
            r#"graph_credential_operator_build_info{version="0.1.0"} 1"#,
            r#"graph_credential_operator_build_info{command="run",version="0.1.0"} 1"#,
        ] {
            assert_eq!(version_said(&format!("# EOF\n{line}\n")), Some("0.1.0"));
        }
        assert_eq!(version_said("other{version=\"1\"} 1"), None);
    }
}
