//! The keyring at the start of whatever seals.

use std::sync::Arc;

use super::frame::Frame;
use super::kubernetes::Cluster;
use crate::leadership::since_boot;
use crate::store::keyring::{self, KeyringPlace, LiveKeyring};
use crate::telemetry::logs::chain;

/// Loads the keyring, or makes it where nothing depends on an earlier one; waits while neither can be.
pub(super) async fn wait(
    cluster: &Cluster,
    Frame { process, timing, readiness, .. }: &Frame<'_>,
) -> Arc<LiveKeyring> {
    let client = &cluster.client;
    let place = KeyringPlace { namespace: cluster.namespace.clone(), name: process.keyring_secret.clone() };
    // Controller and REST API may both wait for it, each for a reason of its own.
    let mut told = String::new();
    loop {
        let as_of = since_boot();
        match keyring::load_or_create(client, &place, &process.watch_namespaces).await {
            Ok(keyring) => {
                readiness.arrived("keyring");
                let read = (keyring, as_of);
                return Arc::new(LiveKeyring::new(client.clone(), place, read, since_boot, timing));
            }
            Err(error) => {
                let text = error.to_string();
                if told != text {
                    tracing::error!(error = chain(&error), "the keyring cannot be used; trying again");
                }
                readiness.wait_for("keyring", &text);
                told = text;
            }
        }
        tokio::time::sleep(timing.startup_retry).await;
    }
}
