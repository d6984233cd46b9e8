//! Nobody may lead while finalizers go: whoever does is told to end, or is a reason to refuse.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{ReleaseArgs, output};
use crate::app::kubernetes::Cluster;
use crate::leader::{LeaseError, Onlooker};
use crate::leadership::since_boot;
use crate::settings::{ObjectName, Timing};

/// Makes sure that nobody leads, as the arguments ask for it.
pub(super) async fn ensure(args: &ReleaseArgs, cluster: &Cluster, timing: &Timing) -> anyhow::Result<()> {
    // A process that was told to end finishes its work first.
    let patience = match &args.stop_deployment {
        Some(name) => {
            stop(cluster, name).await?;
            timing.shutdown + timing.lease
        }
        None => Duration::ZERO,
    };
    if args.force {
        return Ok(());
    }
    let (name, until) = (args.lease.leader_election_lease.as_str(), since_boot() + patience);
    loop {
        let leader = leader(name, cluster, timing).await.context(
            "failed to find out whether an operator leads: mend --operator-namespace and --leader-election-lease, or release without knowing with --force",
        )?;
        let Some(holder) = leader else { return Ok(()) };
        if since_boot() >= until {
            bail!(
                "{holder} leads, by Lease {}/{name}: stop the operator first (kubectl scale deployment --replicas=0), or release beside it with --force",
                cluster.namespace
            );
        }
        tokio::time::sleep(timing.lease_retry).await;
    }
}

/// Scales the Deployment to zero. Where it is gone already there is nothing to stop.
async fn stop(cluster: &Cluster, name: &ObjectName) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let to_zero = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let place = format!("{}/{name}", cluster.namespace);
    match deployments.patch_scale(name.as_str(), &PatchParams::default(), &to_zero).await {
        Ok(_) => output::note(&format!("scaled Deployment {place} to zero")),
        Err(kube::Error::Api(answer)) if answer.is_not_found() => {
            output::note(&format!("there is no Deployment {place} to stop"));
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "failed to scale Deployment {place} to zero: ask for the right to patch deployments/scale, or scale it yourself and leave --stop-deployment out"
                )
            });
        }
    }
    Ok(())
}

/// Who renews the lease.
async fn leader(name: &str, cluster: &Cluster, timing: &Timing) -> Result<Option<String>, LeaseError> {
    let lease = format!("{}/{name}", cluster.namespace);
    let mut onlooker = Onlooker::new(cluster.client.clone(), &cluster.namespace, name, since_boot, timing);
    let Some(holder) = onlooker.holder().await?.map(ToOwned::to_owned) else {
        if !onlooker.is_there() {
            output::note(&format!("there is no Lease {lease}, so no operator leads by it"));
        }
        return Ok(None);
    };
    output::note(&format!(
        "Lease {lease} names {holder}: looking for at most {} s whether it is renewed",
        onlooker.within().as_secs().max(1)
    ));
    onlooker.leader().await
}
