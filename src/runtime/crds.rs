//! Waits for the CRDs: with GitOps they may be installed after the operator, which must not make it crash.

use anyhow::anyhow;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;

use crate::api::GROUP;
use crate::runtime::process::Process;
use crate::runtime::retry;

/// The resource names of the kinds that every process needs.
const RESOURCES: [&str; 3] = ["microsoftgraphcredentials", "woodpeckeraccounts", "sealedgraphcredentials"];

/// Waits until the API server serves all kinds. Returns `None` if the process stops before that.
pub(super) async fn wait(client: &Client, process: &Process<'_>) -> Option<()> {
    wait_for(client, process, &RESOURCES).await
}

/// Waits until the API server serves identities too.
pub(super) async fn wait_for_identities(client: &Client, process: &Process<'_>) -> Option<()> {
    wait_for(client, process, &["entraidentities"]).await
}

/// Waits until the API server serves mailboxes too.
pub(super) async fn wait_for_mailboxes(client: &Client, process: &Process<'_>) -> Option<()> {
    wait_for(client, process, &["woodpeckermailboxes"]).await
}

async fn wait_for(client: &Client, process: &Process<'_>, resources: &[&'static str]) -> Option<()> {
    retry::until_success(process, "crds", async || match missing(client, resources).await {
        Ok(missing) if missing.is_empty() => Ok(()),
        Ok(missing) => Err(anyhow!("the API server does not serve {}: apply the CRDs", missing.join(", "))),
        Err(error) => Err(anyhow!("failed to ask the API server which kinds it serves: {error}")),
    })
    .await?;
    process.readiness.done("crds");
    Some(())
}

async fn missing(client: &Client, resources: &[&'static str]) -> Result<Vec<&'static str>, kube::Error> {
    let served: APIResourceList = match client.list_api_group_resources(&format!("{GROUP}/v1alpha1")).await {
        Ok(served) => served,
        // For an unknown group, the API server responds in plain text.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(resources.to_vec()),
        Err(error) => return Err(error),
    };
    Ok(resources
        .iter()
        .copied()
        .filter(|name| served.resources.iter().all(|resource| resource.name != *name))
        .collect())
}
