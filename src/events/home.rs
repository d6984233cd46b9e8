//! The operator's own Deployment, on which it tells what it left behind.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::PartialObjectMeta;
use kube::{Api, Client, Resource};

use crate::telemetry::logs::chain;

/// What events about the Deployment of that name regard. Its uid is asked for, by which `kubectl describe` finds them;
/// without it they are found by its name.
pub(super) async fn find(client: &Client, namespace: &str, name: &str) -> ObjectReference {
    let deployments: Api<PartialObjectMeta<Deployment>> = Api::namespaced(client.clone(), namespace);
    let found = deployments.get_metadata(name).await;
    if let Err(error) = &found {
        tracing::warn!(
            error = chain(error),
            namespace,
            name,
            "the operator's own Deployment cannot be read: kubectl describe will not show what it tells there"
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
