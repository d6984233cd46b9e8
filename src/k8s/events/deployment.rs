//! The reference to the operator's own Deployment, for events about orphaned credentials.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::PartialObjectMeta;
use kube::{Api, Client, Resource};

use crate::core::error_chain::chain;

/// The reference for events about the Deployment of that name. It needs the uid, by which `kubectl describe` finds
/// events; without it they are found by name only.
pub(super) async fn find(client: &Client, within: Duration, namespace: &str, name: &str) -> ObjectReference {
    let deployments: Api<PartialObjectMeta<Deployment>> = Api::namespaced(client.clone(), namespace);
    let found = match tokio::time::timeout(within, deployments.get_metadata(name)).await {
        Ok(found) => found.map_err(|error| chain(&error)),
        Err(_) => Err(format!("no response within {within:?}")),
    };
    if let Err(error) = &found {
        tracing::warn!(
            error,
            namespace,
            name,
            "the operator's own Deployment cannot be read: kubectl describe will not show its events"
        );
    }
    ObjectReference {
        api_version: Some(Deployment::api_version(&()).into_owned()),
        kind: Some(Deployment::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: found.ok().and_then(|found| found.metadata.uid),
        ..ObjectReference::default()
    }
}
