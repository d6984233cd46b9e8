//! A process's own word on the keyring: a Lease that it renews as long as it lives, with what it knows by then.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::roll::{RollCall, roll};
use super::{ACKNOWLEDGED, Acknowledgement, KEYRING, PROCESS, REPLICA};
use crate::leadership::since_boot;
use crate::resources::FIELD_MANAGER;
use crate::settings::Timing;
use crate::store::keyring::LiveKeyring;
use crate::telemetry::logs::chain;
use crate::telemetry::probes::Readiness;

/// What readiness waits for until the keyring is acknowledged.
const GATE: &str = "acknowledgement";

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

    /// Acknowledges the keyring for the first time; readiness tells what is in the way. Nothing may be sealed before: who
    /// rotates would not know of this process.
    pub async fn join(&self, readiness: &Readiness) {
        loop {
            match self.acknowledge().await {
                Ok(()) => return readiness.arrived(GATE),
                Err(error) => {
                    let text = format!(
                        "the keyring cannot be acknowledged on a Lease, which needs the rights to create, patch, list \
                         and delete Leases in namespace {}",
                        self.parts.keyring.place().namespace
                    );
                    tracing::warn!(error = chain(&error), lease = self.name, text);
                    readiness.wait_for(GATE, text);
                }
            }
            tokio::time::sleep(self.parts.timing.startup_retry).await;
        }
    }

    /// Reads the keyring again and again, and acknowledges it, until `stop`; then the Lease is deleted. `counted` hears each
    /// time how many processes hold the keyring, this one included.
    pub async fn keep(self, stop: CancellationToken, counted: impl Fn(usize)) {
        let mut told = String::new();
        let mut call = RollCall::default();
        loop {
            let round = async {
                self.look_around(&mut call, &counted).await;
                tokio::time::sleep(self.parts.timing.presence_renewal).await;
                // What cannot be read is not acknowledged: the Lease goes on to tell what is held in memory.
                let read = self.parts.keyring.read_again().await;
                match (read, self.acknowledge().await) {
                    (Ok(_), Ok(())) => String::new(),
                    (Err(error), _) => chain(&error),
                    (_, Err(error)) => chain(&error),
                }
            };
            // An API server that does not answer must not hold up the end.
            let Some(failure) = stop.run_until_cancelled(round).await else { break };
            if failure != told && !failure.is_empty() {
                tracing::warn!(
                    error = failure,
                    lease = self.name,
                    "the keyring cannot be acknowledged; trying again"
                );
            }
            told = failure;
        }
        let params = DeleteParams::default();
        let leave = self.leases.delete(&self.name, &params);
        if !matches!(tokio::time::timeout(self.parts.timing.lease_call, leave).await, Ok(Ok(_))) {
            tracing::info!(lease = self.name, "the Lease could not be deleted and runs out");
        }
    }

    /// Counts the processes, and deletes the Leases of those that were seen to be silent for long.
    async fn look_around(&self, call: &mut RollCall, counted: impl Fn(usize)) {
        let clock = since_boot();
        // Where they cannot be listed, the last count holds.
        let Ok(roll) = roll(&self.parts.client, self.parts.keyring.place()).await else { return };
        counted(call.processes(&roll, clock));
        for gone in call.silent(roll, clock, self.parts.timing.presence_forgotten) {
            let version = gone.version().map(str::to_owned);
            let preconditions = Preconditions { resource_version: version, ..Preconditions::default() };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            // Another process may have done it, or may do it later.
            let _left = self.leases.delete(&gone.lease, &params).await;
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
                    PROCESS: std::process::id().to_string(),
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
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> i32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}
