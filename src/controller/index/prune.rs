//! What is kept of an object: what somebody reads. Its owners may write megabytes of other metadata.

use kube::Resource;
use kube::core::{DeserializeGuard, ObjectMeta};
use serde::de::DeserializeOwned;

use crate::k8s::list;
use crate::resources::{ACKNOWLEDGE_GONE, FLUX_RECONCILE_REQUESTED_AT, RECONCILE_REQUESTED_AT};

/// The annotations that are read.
const READ: [&str; 3] = [RECONCILE_REQUESTED_AT, FLUX_RECONCILE_REQUESTED_AT, ACKNOWLEDGE_GONE];

/// Characters that are kept of a text that may be of any length.
const LONGEST: usize = 300;

/// Reads an object, and keeps only what is used of it.
pub fn read_pruned<K: Resource + DeserializeOwned>(json: &[u8]) -> serde_json::Result<DeserializeGuard<K>> {
    let mut object = list::guarded(json)?;
    *object.meta_mut() = kept(object.meta());
    if let Err(invalid) = &mut object.0 {
        invalid.error = cut(&invalid.error);
    }
    Ok(object)
}

/// A copy without what nobody reads.
pub(super) fn pruned<K: Resource + Clone>(object: &K) -> DeserializeGuard<K> {
    let mut object = object.clone();
    *object.meta_mut() = kept(object.meta());
    DeserializeGuard(Ok(object))
}

/// Finalizers are patched as a list, so all of them are kept.
fn kept(meta: &ObjectMeta) -> ObjectMeta {
    let read =
        |(name, value): (&String, &String)| READ.contains(&name.as_str()).then(|| (name.clone(), cut(value)));
    ObjectMeta {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        generation: meta.generation,
        creation_timestamp: meta.creation_timestamp.clone(),
        deletion_timestamp: meta.deletion_timestamp.clone(),
        finalizers: meta.finalizers.clone(),
        annotations: meta
            .annotations
            .as_ref()
            .map(|all| all.iter().filter_map(read).collect())
            .filter(|read: &std::collections::BTreeMap<_, _>| !read.is_empty()),
        ..ObjectMeta::default()
    }
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}
