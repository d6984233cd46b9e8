//! Waits for the CRDs: in a GitOps install they may come after the operator, which is no reason to crash.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;

use crate::resources::GROUP;
use crate::settings::Timing;
use crate::telemetry::probes::Readiness;

/// The kinds that the operator serves, by their names in addresses.
const SERVED: [&str; 3] = ["microsoftgraphcredentials", "woodpeckeraccounts", "sealedgraphcredentials"];

/// Returns once the API server serves all kinds.
pub async fn wait(client: &Client, timing: &Timing, readiness: &Readiness) {
    loop {
        let problem = match missing(client).await {
            Ok(missing) if missing.is_empty() => {
                readiness.arrived("crds");
                return;
            }
            Ok(missing) => format!("the API server does not serve {}: apply the CRDs", missing.join(", ")),
            Err(error) => format!("the API server does not say what it serves: {error}"),
        };
        if readiness.wait_for("crds", &problem) {
            tracing::warn!(problem, "waiting for the CRDs");
        }
        tokio::time::sleep(timing.startup_retry).await;
    }
}

async fn missing(client: &Client) -> Result<Vec<&'static str>, kube::Error> {
    let served: APIResourceList = match client.list_api_group_resources(&format!("{GROUP}/v1alpha1")).await {
        Ok(served) => served,
        // The API server answers for a group that nobody has made in plain text.
        Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(SERVED.to_vec()),
        Err(error) => return Err(error),
    };
    Ok(SERVED
        .into_iter()
        .filter(|kind| served.resources.iter().all(|resource| resource.name != *kind))
        .collect())
}
