//! The keyring at the start of the controller and of the REST API.

use std::sync::Arc;

use crate::core::error_chain::chain;
use crate::k8s::client::Cluster;
use crate::k8s::leadership::since_boot;
use crate::runtime::process::Process;
use crate::store::keyring::{self, KeyringCache, KeyringRef};

/// Loads the keyring, or creates it if nothing depends on an earlier one. Tries again until one of both succeeds.
pub(super) async fn wait(
    cluster: &Cluster,
    Process { settings, timing, readiness, .. }: &Process<'_>,
) -> Arc<KeyringCache> {
    let client = &cluster.client;
    let secret = KeyringRef { namespace: cluster.namespace.clone(), name: settings.keyring_secret.clone() };
    // Local, because the controller and the REST API may both wait here.
    let mut reported = String::new();
    loop {
        let as_of = since_boot();
        match keyring::load_or_create(client, &secret, &settings.watch_namespaces).await {
            Ok(keyring) => {
                readiness.done("keyring");
                let loaded = (keyring, as_of);
                return Arc::new(KeyringCache::new(client.clone(), secret, loaded, since_boot, timing));
            }
            Err(error) => {
                let text = error.to_string();
                if reported != text {
                    tracing::error!(error = chain(&error), "failed to load the keyring; trying again");
                }
                readiness.pending("keyring", &text);
                reported = text;
            }
        }
        tokio::time::sleep(timing.startup_retry).await;
    }
}
