//! Pruning of objects to the fields that the operator reads. Their owners may write megabytes of other metadata.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, OwnerReference, Time};
use kube::Resource;
use kube::core::{DeserializeGuard, ObjectMeta};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::api::{
    CONFIRM_DELETED, FLUX_RECONCILE_REQUESTED_AT, RECONCILE_REQUESTED_AT, REMOVE_UNKNOWN_SECRETS,
    ROTATE_OVERLAP, ROTATE_REQUESTED_AT,
};
use crate::controller::index::entry::Indexed;
use crate::k8s::list;

const READ_ANNOTATIONS: [&str; 6] = [
    RECONCILE_REQUESTED_AT,
    FLUX_RECONCILE_REQUESTED_AT,
    CONFIRM_DELETED,
    ROTATE_REQUESTED_AT,
    ROTATE_OVERLAP,
    REMOVE_UNKNOWN_SECRETS,
];

/// Characters that are kept of a string of unbounded length.
const MAX_TEXT_CHARS: usize = 300;

/// An object that was deserialized without unused metadata, which may be most of it.
pub struct Pruned<K>(pub K);

#[derive(Deserialize)]
#[serde(bound = "S: DeserializeOwned, T: DeserializeOwned")]
struct RawObject<S, T> {
    #[serde(with = "PrunedMeta")]
    metadata: ObjectMeta,
    spec: S,
    #[serde(default = "Option::default")]
    status: Option<T>,
}

/// Must have the same fields as [`pruned_meta`].
#[derive(Deserialize)]
#[serde(remote = "ObjectMeta", rename_all = "camelCase")]
struct PrunedMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    #[serde(default, deserialize_with = "read_annotations")]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(skip)]
    deletion_grace_period_seconds: Option<i64>,
    #[serde(skip)]
    generate_name: Option<String>,
    #[serde(skip)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip)]
    managed_fields: Option<Vec<ManagedFieldsEntry>>,
    #[serde(skip)]
    owner_references: Option<Vec<OwnerReference>>,
    #[serde(skip)]
    self_link: Option<String>,
}

pub fn read_pruned<K: Indexed + DeserializeOwned>(json: &[u8]) -> serde_json::Result<DeserializeGuard<K>> {
    if let Ok(Pruned(object)) = serde_json::from_slice(json) {
        return Ok(DeserializeGuard(Ok(object)));
    }
    let mut object = list::guarded(json)?;
    *object.meta_mut() = pruned_meta(object.meta());
    if let Err(invalid) = &mut object.0 {
        invalid.error = truncate(&invalid.error);
    }
    Ok(object)
}

pub(super) fn pruned<K: Resource + Clone>(object: &K) -> DeserializeGuard<K> {
    let mut object = object.clone();
    *object.meta_mut() = pruned_meta(object.meta());
    DeserializeGuard(Ok(object))
}

/// Finalizers are patched as a list, so all of them are kept.
fn pruned_meta(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        generation: meta.generation,
        creation_timestamp: meta.creation_timestamp.clone(),
        deletion_timestamp: meta.deletion_timestamp.clone(),
        finalizers: meta.finalizers.clone(),
        annotations: meta.annotations.as_ref().and_then(pruned_annotations),
        ..ObjectMeta::default()
    }
}

/// The annotations that the operator reads, or `None` if there are none.
fn pruned_annotations(annotations: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    let read: BTreeMap<_, _> = READ_ANNOTATIONS
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), truncate(annotations.get(name)?))))
        .collect();
    (!read.is_empty()).then_some(read)
}

fn read_annotations<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    let all: Option<BTreeMap<_, _>> = Option::deserialize(deserializer)?;
    Ok(all.as_ref().and_then(pruned_annotations))
}

fn truncate(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

// === impl Pruned ===

impl<'de, K: Indexed> Deserialize<'de> for Pruned<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawObject { metadata, spec, status } = RawObject::deserialize(deserializer)?;
        Ok(Self(K::from_parts(metadata, spec, status)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::MicrosoftGraphCredential;

    #[test]
    fn an_object_is_deserialized_without_unused_metadata() {
        let json = json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
            "metadata": {
                "name": "sales-eu", "namespace": "mail", "uid": "u", "resourceVersion": "7", "generation": 2,
                "creationTimestamp": "2026-11-24T08:00:00Z", "deletionTimestamp": "2026-11-24T09:00:00Z",
                "finalizers": ["example.com/a", "example.com/b"], "labels": {"a": "b"},
                "annotations": {RECONCILE_REQUESTED_AT: "x".repeat(400), "example.com/notes": "y"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "A", "name": "a", "uid": "a"}],
                "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}], "later": 1
            },
            "spec": {
                "tenantId": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
                "clientId": "e1c6ac69-480e-4a17-9b85-3467967bd179",
                "secretRef": {"name": "sales-eu"}, "destination": {"store": {}}
            },
            "status": {"observedGeneration": 2}
        });
        let whole: MicrosoftGraphCredential = serde_json::from_value(json.clone()).unwrap();
        let Pruned::<MicrosoftGraphCredential>(read) = serde_json::from_str(&json.to_string()).unwrap();
        assert_eq!(read, pruned(&whole).0.unwrap());
        assert_eq!((&read.spec, &read.status), (&whole.spec, &whole.status));
        assert_eq!(read.metadata.finalizers, whole.metadata.finalizers);
        let annotations = read.metadata.annotations.unwrap();
        assert_eq!((annotations.len(), annotations[RECONCILE_REQUESTED_AT].len()), (1, MAX_TEXT_CHARS));
    }
}
