//! The keyring at the start of whatever seals, and the word of this process on it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use kube::Client;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::kubernetes::Cluster;
use crate::settings::Timing;
use crate::store::keyring::{self, Keyring, KeyringPlace, LiveKeyring};
use crate::store::replicas::{Presence, PresenceParts};
use crate::telemetry::logs::chain;
use crate::telemetry::probes::Readiness;

/// Loads the keyring, or makes it where nothing depends on an earlier one; waits while neither can be.
pub(super) async fn wait(
    client: &Client,
    place: &KeyringPlace,
    served: &[String],
    timing: &Timing,
    readiness: &Readiness,
) -> Keyring {
    let mut told = String::new();
    loop {
        match keyring::load_or_create(client, place, served).await {
            Ok(keyring) => {
                readiness.arrived("keyring");
                return keyring;
            }
            Err(error) => {
                let text = error.to_string();
                if told != text {
                    tracing::error!(error = chain(&error), "the keyring cannot be used; trying again");
                }
                readiness.wait_for("keyring", text.clone());
                told = text;
            }
        }
        tokio::time::sleep(timing.startup_retry).await;
    }
}

/// This process among those that hold the keyring.
pub(super) fn presence(
    cluster: &Cluster,
    keyring: &Arc<LiveKeyring>,
    timing: &Timing,
) -> Result<Presence, getrandom::Error> {
    Presence::new(PresenceParts {
        client: cluster.client.clone(),
        instance: cluster.instance.clone(),
        keyring: keyring.clone(),
        timing: *timing,
    })
}

/// Keeps this process among them until `over`. Where that fails the program is told to stop: what it seals must not go
/// unnoticed by whoever ends a key.
pub(super) fn keep(
    presence: Presence,
    over: CancellationToken,
    counted: impl Fn(usize) + Send + Sync + 'static,
    stop: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if AssertUnwindSafe(presence.keep(over, counted)).catch_unwind().await.is_err() {
            tracing::error!(
                "acknowledging the keyring failed: this is a defect of the operator; the program ends, to be started again"
            );
            stop.cancel();
        }
    })
}
