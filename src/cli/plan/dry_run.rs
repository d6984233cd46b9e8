//! Asks the API server, in a dry run, what it would make of an object: defaults, schema, rules and admission policies.

use std::collections::BTreeMap;

use kube::api::{DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::request::Request;
use kube::{Resource, ResourceExt as _};
use serde_json::Value;

use crate::api::NamespacedName;
use crate::cli::kubernetes;
use crate::cli::woodpecker::Remote;

/// Where `kubectl apply` keeps what was applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How often a dry run is sent that meets another write.
const MAX_TRIES: usize = 3;

/// What applying the object would do to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Created,
    /// The fields that change, such as `spec.displayName`.
    Changed(Vec<String>),
    Unchanged,
}

/// The result of a dry run.
pub(super) struct DryRun {
    pub(super) change: Change,
    /// The object as it would be, with its current status; or why the API server rejects it.
    pub(super) object: Result<DynamicObject, Rejection>,
}

/// A response of the API server that is no object.
pub(super) struct Rejection {
    pub(super) code: u16,
    pub(super) message: String,
}

/// Applies the object in a dry run, as the tool does that applies it: server-side for an object with such a field
/// manager, else like `kubectl apply`, which removes the fields that the last applied file had.
pub(super) async fn dry_run<K>(remote: &Remote, manifest: &DynamicObject) -> anyhow::Result<DryRun>
where
    K: Resource<DynamicType = ()>,
{
    let name = NamespacedName::of(manifest);
    let mut tries = 0;
    loop {
        tries += 1;
        let live = kubernetes::find::<K>(&remote.cluster.client, &name).await?;
        let request = request::<K>(manifest, live.as_ref())?;
        return match remote.cluster.client.request::<DynamicObject>(request).await {
            Ok(object) => {
                let change = live.as_ref().map_or(Change::Created, |live| change(live, &object));
                Ok(DryRun { change, object: Ok(object) })
            }
            // The operator or somebody else wrote it in between.
            Err(kube::Error::Api(status)) if status.code == 409 && tries < MAX_TRIES => continue,
            // The namespace, the object, a rule, a policy or a right.
            Err(kube::Error::Api(status)) if is_rejection(status.code, &status.message) => {
                let wanted = merged(manifest, live.as_ref());
                let change = live.map_or(Change::Created, |live| change(&live, &wanted));
                let rejection = Rejection { code: status.code, message: status.message.clone() };
                Ok(DryRun { change, object: Err(rejection) })
            }
            Err(error) => {
                let advice =
                    kubernetes::advice(&error, &format!("apply {} {name} in a dry run", K::kind(&())));
                Err(anyhow::Error::from(error).context(advice))
            }
        };
    }
}

/// Whether the response is about the object. A field that the schema lacks is an internal error of a server-side apply.
fn is_rejection(code: u16, message: &str) -> bool {
    (400..500).contains(&code) && code != 401 || message.contains("field not declared in schema")
}

/// The request of the dry run. Unknown fields are errors, as they are for kubectl apply.
fn request<K>(
    manifest: &DynamicObject,
    live: Option<&DynamicObject>,
) -> anyhow::Result<http::Request<Vec<u8>>>
where
    K: Resource<DynamicType = ()>,
{
    let name = manifest.name_any();
    let path = Request::new(K::url_path(&(), manifest.metadata.namespace.as_deref()));
    if let Some(manager) = live.and_then(apply_manager) {
        let params = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(manager)
        };
        return Ok(path.patch(&name, &params.force().dry_run(), &Patch::Apply(manifest))?);
    }
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let body = serde_json::to_vec(&merged(manifest, live))?;
    let request = match live {
        None => path.create(&params, body)?,
        Some(_) => path.replace(&name, &params, body)?,
    };
    let (mut parts, body) = request.into_parts();
    parts.uri = format!("{}&fieldValidation=Strict", parts.uri).parse()?;
    Ok(http::Request::from_parts(parts, body))
}

/// The field manager that applied the object last, if it was applied server-side.
fn apply_manager(live: &DynamicObject) -> Option<&str> {
    let applied = live.managed_fields().iter();
    let applied = applied.filter(|it| it.operation.as_deref() == Some("Apply") && it.subresource.is_none());
    applied.max_by_key(|it| it.time.as_ref().map(|at| at.0))?.manager.as_deref()
}

/// What `kubectl apply` makes of the object: the manifest over the live object, without what the last applied manifest
/// had and this one lacks.
fn merged(manifest: &DynamicObject, live: Option<&DynamicObject>) -> DynamicObject {
    let mut wanted = manifest.clone();
    if let Some(fields) = wanted.data.as_object_mut() {
        fields.remove("status");
    }
    let Some(live) = live else { return wanted };
    let last = live.annotations().get(LAST_APPLIED).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let last = last.unwrap_or_default();
    let mut spec = live.data["spec"].clone();
    merge(&mut spec, &manifest.data["spec"], &last["spec"]);
    wanted.data["spec"] = spec;
    let mut metadata = live.metadata.clone();
    let texts =
        |metadata: &mut BTreeMap<String, String>, manifest: &BTreeMap<String, String>, last: &Value| {
            metadata.retain(|key, _| manifest.contains_key(key) || last.get(key).is_none());
            metadata.extend(manifest.clone());
        };
    texts(metadata.labels.get_or_insert_default(), manifest.labels(), &last["metadata"]["labels"]);
    texts(
        metadata.annotations.get_or_insert_default(),
        manifest.annotations(),
        &last["metadata"]["annotations"],
    );
    metadata.managed_fields = None;
    wanted.metadata = metadata;
    wanted
}

/// Merges `over` into `base`, key by key, and removes what only `last` had.
fn merge(base: &mut Value, over: &Value, last: &Value) {
    let (Value::Object(fields), Value::Object(over)) = (&mut *base, over) else {
        base.clone_from(over);
        return;
    };
    fields.retain(|key, _| over.contains_key(key) || last.get(key).is_none());
    for (key, value) in over {
        merge(fields.entry(key).or_insert(Value::Null), value, &last[key]);
    }
}

fn change(live: &DynamicObject, planned: &DynamicObject) -> Change {
    let mut fields = Vec::new();
    if live.labels() != planned.labels() {
        fields.push("metadata.labels".to_owned());
    }
    if live.annotations() != planned.annotations() {
        fields.push("metadata.annotations".to_owned());
    }
    compare("spec", &live.data["spec"], &planned.data["spec"], &mut fields);
    if fields.is_empty() { Change::Unchanged } else { Change::Changed(fields) }
}

/// Adds the paths at which the values differ.
fn compare(path: &str, one: &Value, other: &Value, fields: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one_fields), Value::Object(other_fields)) => {
            let added = other_fields.keys().filter(|key| !one_fields.contains_key(*key));
            for key in one_fields.keys().chain(added) {
                compare(&format!("{path}.{key}"), &one[key], &other[key], fields);
            }
        }
        _ if one == other => {}
        _ => fields.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_keeps_what_others_set_and_removes_what_the_last_file_had() {
        let mut live = json!({"displayName": "old", "suspend": true, "verification": {"interval": "24h"}});
        let last = json!({"displayName": "old", "verification": {"interval": "24h"}});
        merge(&mut live, &json!({"verification": {"policy": "Required"}}), &last);
        assert_eq!(live, json!({"suspend": true, "verification": {"policy": "Required"}}));
    }

    #[test]
    fn changed_fields_are_named_by_their_paths() {
        let differ = |one: Value, other: Value| {
            let mut fields = Vec::new();
            compare("spec", &one, &other, &mut fields);
            fields
        };
        let one = json!({"a": 1, "b": {"c": [1], "d": 2}, "e": 3});
        let other = json!({"a": 1, "b": {"c": [2], "d": 2, "f": 1}});
        assert_eq!(differ(one.clone(), other), ["spec.b.c", "spec.b.f", "spec.e"]);
        assert_eq!(differ(one.clone(), one), Vec::<String>::new());
    }
}
