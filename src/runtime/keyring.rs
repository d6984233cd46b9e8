//! The keyring at the start of the controller and of the REST API.

use std::sync::Arc;

use crate::k8s::client::Cluster;
use crate::platform;
use crate::runtime::process::Process;
use crate::runtime::retry;
use crate::store::keyring::{self, KeyringCache, KeyringRef};

/// Loads the keyring, or creates it if nothing depends on an earlier one. Tries again until
/// one of both succeeds; returns `None` if the process stops before that.
pub(super) async fn wait(cluster: &Cluster, process: &Process<'_>) -> Option<Arc<KeyringCache>> {
    let Process { settings, timing, readiness, .. } = process;
    let client = &cluster.client;
    let secret = KeyringRef { namespace: cluster.namespace.clone(), name: settings.keyring_secret.clone() };
    let loaded = retry::until_success(process, "keyring", async || {
        let as_of = platform::clock();
        let keyring = keyring::load_or_create(client, &secret, &settings.watch_namespaces).await;
        Ok((keyring?, as_of))
    })
    .await?;
    readiness.done("keyring");
    Some(Arc::new(KeyringCache::new(client.clone(), secret, loaded, platform::clock, timing)))
}
