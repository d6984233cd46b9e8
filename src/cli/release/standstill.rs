//! Nobody may lead while finalizers go: whoever does is told to end, or is a reason to refuse.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{ReleaseArgs, ReleaseError, output};
use crate::app::kubernetes::Cluster;
use crate::leader::Onlooker;
use crate::leadership::since_boot;
use crate::settings::{ObjectName, Timing};

/// Makes sure that nobody leads, as the arguments ask for it.
pub(super) async fn ensure(
    args: &ReleaseArgs,
    cluster: &Cluster,
    timing: &Timing,
) -> Result<(), ReleaseError> {
    if let Some(name) = &args.stop_deployment {
        stop(cluster, name).await?;
    }
    if args.force {
        return Ok(());
    }
    match &args.stop_deployment {
        Some(_) => await_end(args, cluster, timing).await,
        None => refuse_beside_a_leader(args, cluster, timing).await,
    }
}

/// Scales the Deployment to zero. Where it is gone already there is nothing to stop.
async fn stop(cluster: &Cluster, name: &ObjectName) -> Result<(), ReleaseError> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let to_zero = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let place = format!("{}/{name}", cluster.namespace);
    match deployments.patch_scale(name.as_str(), &PatchParams::default(), &to_zero).await {
        Ok(_) => output::note(&format!("scaled Deployment {place} to zero")),
        Err(kube::Error::Api(answer)) if answer.is_not_found() => {
            output::note(&format!("there is no Deployment {place} to stop"));
        }
        Err(error) => return Err(ReleaseError::Stop { place, source: error }),
    }
    Ok(())
}

/// Waits until nobody leads any more: a process that was told to end finishes its work first.
async fn await_end(args: &ReleaseArgs, cluster: &Cluster, timing: &Timing) -> Result<(), ReleaseError> {
    let until = since_boot() + timing.shutdown + timing.lease;
    loop {
        match refuse_beside_a_leader(args, cluster, timing).await {
            Err(ReleaseError::Led { .. }) if since_boot() < until => {
                tokio::time::sleep(timing.lease_retry).await;
            }
            ended => return ended,
        }
    }
}

/// Fails where somebody renews the lease.
async fn refuse_beside_a_leader(
    args: &ReleaseArgs,
    cluster: &Cluster,
    timing: &Timing,
) -> Result<(), ReleaseError> {
    let name = args.lease.leader_election_lease.as_str();
    let lease = format!("{}/{name}", cluster.namespace);
    let mut onlooker = Onlooker::new(cluster.client.clone(), &cluster.namespace, name, since_boot, *timing);
    let Some(holder) = onlooker.holder().await.map_err(ReleaseError::Lease)?.map(ToOwned::to_owned) else {
        if !onlooker.is_there() {
            output::note(&format!("there is no Lease {lease}, so no operator leads by it"));
        }
        return Ok(());
    };
    output::note(&format!(
        "Lease {lease} names {holder}: looking for at most {} s whether it is renewed",
        onlooker.within().as_secs().max(1)
    ));
    match onlooker.leader().await.map_err(ReleaseError::Lease)? {
        Some(holder) => Err(ReleaseError::Led { holder, lease }),
        None => Ok(()),
    }
}
