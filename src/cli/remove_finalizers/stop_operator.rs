//! Ensures that no operator leads while finalizers are removed: stops it, or fails.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cli::remove_finalizers::{RemoveFinalizersArgs, output};
use crate::config::ObjectName;
use crate::core::timing::Timing;
use crate::k8s::client::Cluster;
use crate::k8s::leader_election::{LeaseError, LeaseObserver};
use crate::platform;

/// Ensures that no operator leads, as the arguments require.
pub(super) async fn ensure(
    args: &RemoveFinalizersArgs,
    cluster: &Cluster,
    timing: &Timing,
) -> anyhow::Result<()> {
    // A stopped process first finishes its work.
    let grace = match &args.stop_deployment {
        Some(name) => {
            stop(cluster, name).await?;
            timing.shutdown + timing.lease
        }
        None => Duration::ZERO,
    };
    if args.force {
        return Ok(());
    }
    let (name, until) = (args.lease.leader_election_lease.as_str(), platform::clock() + grace);
    loop {
        let leader = leader(name, cluster, timing).await.context(
            "failed to determine whether an operator leads: fix --operator-namespace and --leader-election-lease, or add --force to remove the finalizers anyway",
        )?;
        let Some(holder) = leader else { return Ok(()) };
        if platform::clock() >= until {
            bail!(
                "{holder} leads and holds Lease {}/{name}: stop the operator first (kubectl scale deployment --replicas=0), or add --force to remove the finalizers anyway",
                cluster.namespace
            );
        }
        tokio::time::sleep(timing.lease_retry).await;
    }
}

/// Scales the Deployment to zero, if it exists.
async fn stop(cluster: &Cluster, name: &ObjectName) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let to_zero = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let deployment = format!("{}/{name}", cluster.namespace);
    match deployments.patch_scale(name.as_str(), &PatchParams::default(), &to_zero).await {
        Ok(_) => output::note(&format!("scaled Deployment {deployment} to zero")),
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            output::note(&format!("there is no Deployment {deployment} to stop"));
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "failed to scale Deployment {deployment} to zero: ask for the right to patch deployments/scale, or scale it yourself and omit --stop-deployment"
                )
            });
        }
    }
    Ok(())
}

/// The process that renews the lease.
async fn leader(name: &str, cluster: &Cluster, timing: &Timing) -> Result<Option<String>, LeaseError> {
    let lease = format!("{}/{name}", cluster.namespace);
    let mut observer =
        LeaseObserver::new(cluster.client.clone(), &cluster.namespace, name, platform::clock, timing);
    let Some(holder) = observer.holder().await?.map(ToOwned::to_owned) else {
        if !observer.is_there() {
            output::note(&format!("there is no Lease {lease}, so no operator leads with it"));
        }
        return Ok(None);
    };
    output::note(&format!(
        "Lease {lease} is held by {holder}: waiting up to {} s to see whether it is renewed",
        observer.within().as_secs().max(1)
    ));
    observer.leader().await
}
