//! Asks the API server, in a dry run, what it would make of an object: defaults, schema, rules and admission policies.

use kube::api::{DynamicObject, PostParams};
use kube::core::request::Request;
use kube::{Resource, ResourceExt as _};
use serde_json::Value;

use crate::api::NamespacedName;
use crate::cli::kubernetes;
use crate::cli::woodpecker::Remote;

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
    pub(super) object: Result<DynamicObject, String>,
}

/// Creates the object, or replaces its spec, in a dry run.
pub(super) async fn dry_run<K>(remote: &Remote, manifest: &DynamicObject) -> anyhow::Result<DryRun>
where
    K: Resource<DynamicType = ()>,
{
    let name = NamespacedName::of(manifest);
    let client = &remote.cluster.client;
    let live = kubernetes::find::<K>(client, &name).await?;
    let wanted = merged(manifest, live.as_ref());
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let path = K::url_path(&(), Some(&name.namespace));
    let body = serde_json::to_vec(&wanted)?;
    let request = match &live {
        None => Request::new(path).create(&params, body)?,
        Some(_) => Request::new(path).replace(&name.name, &params, body)?,
    };
    let (mut parts, body) = request.into_parts();
    // Unknown fields are errors, as they are for kubectl apply.
    parts.uri = format!("{}&fieldValidation=Strict", parts.uri).parse()?;
    match client.request::<DynamicObject>(http::Request::from_parts(parts, body)).await {
        Ok(object) => {
            let change = live.as_ref().map_or(Change::Created, |live| change(live, &object));
            Ok(DryRun { change, object: Ok(object) })
        }
        // The namespace, the object or a rule of the API server.
        Err(kube::Error::Api(status))
            if matches!(status.code, 400 | 404 | 409 | 422) || is_denied(&status.message) =>
        {
            let change = live.map_or(Change::Created, |live| change(&live, &wanted));
            Ok(DryRun { change, object: Err(status.message.clone()) })
        }
        Err(error) => {
            let verb = if live.is_some() { "update" } else { "create" };
            let advice = kubernetes::advice(&error, &format!("{verb} {} {name} in a dry run", K::kind(&())));
            Err(anyhow::Error::from(error).context(advice))
        }
    }
}

/// Whether an admission policy or webhook denied the request, which has the same code as a missing right.
fn is_denied(message: &str) -> bool {
    message.contains("denied request")
}

/// The manifest with what only the cluster has.
fn merged(manifest: &DynamicObject, live: Option<&DynamicObject>) -> DynamicObject {
    let mut wanted = manifest.clone();
    if let Some(fields) = wanted.data.as_object_mut() {
        fields.remove("status");
    }
    let Some(live) = live else { return wanted };
    let mut metadata = live.metadata.clone();
    metadata.labels.get_or_insert_default().extend(manifest.labels().clone());
    metadata.annotations.get_or_insert_default().extend(manifest.annotations().clone());
    metadata.managed_fields = None;
    wanted.metadata = metadata;
    wanted
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
