//! Leaves out objects that the cluster already has, so that applying the printed ones changes none of them.

use std::collections::HashMap;

use anyhow::Context as _;
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, oneshot};
use kube::{Api, Client};
use serde_json::Value;

use crate::cli::companies::manifests::Manifests;
use crate::cli::kubernetes;
use crate::cli::output::sanitized;

/// Requests to the API server at a time.
const CONCURRENCY: usize = 16;

/// Most objects that a warning names.
const MAX_NAMED: usize = 10;

/// Kinds of the printed objects; `None` if the cluster does not have the kind.
struct Kinds(HashMap<GroupVersionKind, Option<(ApiResource, Scope)>>);

/// Whether the cluster has an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Absent,
    Present,
    /// The user may not read it.
    Unknown,
}

/// Removes the objects that the cluster has. Returns what a person should look at.
pub(super) async fn leave_out(client: &Client, all: &mut [Manifests<'_>]) -> anyhow::Result<Vec<String>> {
    let kinds = Kinds::of(client, all.iter().flat_map(|manifests| &manifests.objects)).await?;
    let mut warnings = Vec::new();
    let mut unreadable = Vec::new();
    for Manifests { company, objects } in all {
        let looked_up = stream::iter(std::mem::take(objects)).map(async |object| {
            let presence = kinds.presence(client, &object).await?;
            anyhow::Ok((object, presence))
        });
        let looked_up: Vec<_> = looked_up.buffered(CONCURRENCY).try_collect().await?;
        let mut present = Vec::new();
        for (object, presence) in looked_up {
            match presence {
                Presence::Present => present.push(name(&object)),
                Presence::Unknown => {
                    unreadable.push(name(&object));
                    objects.push(object);
                }
                Presence::Absent => objects.push(object),
            }
        }
        if !present.is_empty() {
            warnings.push(format!(
                "company {} {:?}: the cluster already has {}, which is left out: check that it belongs to this client",
                company.id,
                sanitized(&company.name),
                named(&present)
            ));
        }
    }
    if !unreadable.is_empty() {
        warnings.push(format!(
            "you may not get {}, so they may already be in the cluster: apply them with --server-side, which does not \
             overwrite what others have set",
            named(&unreadable)
        ));
    }
    Ok(warnings)
}

/// The first of them, and how many there are.
pub(super) fn named(names: &[String]) -> String {
    let first = names.get(..MAX_NAMED).unwrap_or(names).join(", ");
    match names.len().saturating_sub(MAX_NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// Such as `Role agency/use-contoso`.
fn name(object: &Value) -> String {
    let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
    match text(object, "/metadata/namespace") {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    }
}

fn kind(object: &Value) -> GroupVersionKind {
    let version = text(object, "/apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    GroupVersionKind::gvk(group, version, text(object, "/kind"))
}

// === impl Kinds ===

impl Kinds {
    async fn of(client: &Client, objects: impl Iterator<Item = &Value>) -> anyhow::Result<Self> {
        let mut kinds = HashMap::new();
        for object in objects {
            let kind = kind(object);
            if kinds.contains_key(&kind) {
                continue;
            }
            let found = match oneshot::pinned_kind(client, &kind).await {
                Ok((resource, capabilities)) => Some((resource, capabilities.scope)),
                Err(kube::Error::Discovery(_)) => None,
                Err(kube::Error::Api(status)) if status.is_not_found() => None,
                Err(error) => {
                    let advice = kubernetes::advice(&error, &format!("look up the kind {}", kind.kind));
                    return Err(anyhow::Error::from(error).context(advice));
                }
            };
            kinds.insert(kind, found);
        }
        Ok(Self(kinds))
    }

    async fn presence(&self, client: &Client, object: &Value) -> anyhow::Result<Presence> {
        let Some((resource, scope)) = self.0.get(&kind(object)).and_then(Option::as_ref) else {
            return Ok(Presence::Absent);
        };
        let api: Api<DynamicObject> = match (scope, text(object, "/metadata/namespace")) {
            (Scope::Cluster, _) => Api::all_with(client.clone(), resource),
            (Scope::Namespaced, "") => Api::default_namespaced_with(client.clone(), resource),
            (Scope::Namespaced, namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        };
        match api.get_metadata_opt(text(object, "/metadata/name")).await {
            Ok(Some(_)) => Ok(Presence::Present),
            Ok(None) => Ok(Presence::Absent),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(Presence::Unknown),
            Err(error) => {
                let advice = kubernetes::advice(&error, &format!("get {}", name(object)));
                Err(error).context(advice)
            }
        }
    }
}
