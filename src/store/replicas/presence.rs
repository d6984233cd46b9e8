//! A process's own word on the keyring: a Lease that it renews as long as it lives, with what it knows by then.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{ACKNOWLEDGED, Acknowledgement, KEYRING, REPLICA};
use crate::resources::FIELD_MANAGER;
use crate::settings::Timing;
use crate::store::keyring::LiveKeyring;
use crate::telemetry::logs::chain;

/// What a presence is made of.
pub struct PresenceParts {
    /// Client of the Kubernetes API.
    pub client: Client,
    /// Name of this replica, such as its pod's.
    pub instance: String,
    /// What it seals with; the Lease is beside its Secret.
    pub keyring: Arc<LiveKeyring>,
    /// The waits.
    pub timing: Timing,
}

/// A process that holds the keyring.
pub struct Presence {
    parts: PresenceParts,
    leases: Api<Lease>,
    name: String,
}

// === impl Presence ===

impl Presence {
    /// Fails only where the system gives no randomness.
    pub fn new(parts: PresenceParts) -> Result<Self, getrandom::Error> {
        let leases = Api::namespaced(parts.client.clone(), &parts.keyring.place().namespace);
        let name = format!("{FIELD_MANAGER}-keyring-{:016x}", getrandom::u64()?);
        Ok(Self { parts, leases, name })
    }

    /// Reads the keyring again and again, and acknowledges it, until `stop`; then the Lease is deleted.
    pub async fn keep(self, stop: CancellationToken) {
        let mut told = String::new();
        self.forget_the_dead().await;
        loop {
            // What cannot be read is not acknowledged: the Lease goes on to tell what is held in memory.
            let read = self.parts.keyring.read_again().await;
            let failure = match (read, self.acknowledge().await) {
                (Ok(_), Ok(())) => String::new(),
                (Err(error), _) => chain(&error),
                (_, Err(error)) => chain(&error),
            };
            if failure != told && !failure.is_empty() {
                tracing::warn!(
                    error = failure,
                    lease = self.name,
                    "the keyring cannot be acknowledged; trying again"
                );
            }
            told = failure;
            let pause = tokio::time::sleep(self.parts.timing.presence_renewal);
            if stop.run_until_cancelled(pause).await.is_none() {
                break;
            }
        }
        let params = DeleteParams::default();
        let leave = self.leases.delete(&self.name, &params);
        if !matches!(tokio::time::timeout(self.parts.timing.lease_call, leave).await, Ok(Ok(_))) {
            tracing::info!(lease = self.name, "the Lease could not be deleted and runs out");
        }
    }

    /// Renews the Lease, or makes it.
    async fn acknowledge(&self) -> Result<(), kube::Error> {
        let seconds = seconds(self.parts.timing.presence);
        let now = MicroTime(Timestamp::now());
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self.name,
                "labels": {REPLICA: "true", "app.kubernetes.io/managed-by": FIELD_MANAGER},
                "annotations": {
                    KEYRING: self.parts.keyring.place().name,
                    ACKNOWLEDGED: Acknowledgement::of(&self.parts.keyring.current()).to_string(),
                },
            },
            "spec": {
                "holderIdentity": self.parts.instance,
                "leaseDurationSeconds": seconds,
                "renewTime": now,
            },
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.leases.patch(&self.name, &params, &Patch::Apply(lease)).await.map(drop)
    }

    /// Deletes the Leases of processes that ended long ago without deleting them.
    async fn forget_the_dead(&self) {
        let Ok(leases) = self.leases.list(&ListParams::default().labels(REPLICA)).await else { return };
        for lease in leases {
            let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
            let silent = renewed.map(|renewed| Timestamp::now().duration_since(renewed.0).unsigned_abs());
            if silent.is_some_and(|silent| silent > self.parts.timing.presence_forgotten) {
                let preconditions =
                    kube::api::Preconditions { uid: lease.uid(), resource_version: lease.resource_version() };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                // Another process may have done it, or may do it later.
                let _left = self.leases.delete(&lease.name_any(), &params).await;
            }
        }
    }
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> i32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}
