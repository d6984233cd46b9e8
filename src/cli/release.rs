//! Whether helm installed the operator. Tools that only render the chart run its hooks at once, and the commands of these
//! hooks must then do nothing.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt as _};

use super::output;
use crate::config::ObjectName;
use crate::k8s::client::Cluster;

/// The annotation that helm sets on each object of a release.
const RELEASE_NAME: &str = "meta.helm.sh/release-name";

/// Whether helm installed the operator's Deployment as this release. If not, it prints so, and what follows from it.
pub(super) async fn is_of_release(
    release: &str,
    deployment: &ObjectName,
    cluster: &Cluster,
    consequence: &str,
) -> kube::Result<bool> {
    let namespace = &cluster.namespace;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), namespace);
    let found = deployments.get_opt(deployment.as_str()).await?;
    let is_of_release =
        found.is_some_and(|found| found.annotations().get(RELEASE_NAME).is_some_and(|name| name == release));
    if !is_of_release {
        output::note(&format!(
            "Deployment {namespace}/{deployment} does not exist or was not installed by helm as release {release}, so {consequence}"
        ));
    }
    Ok(is_of_release)
}
