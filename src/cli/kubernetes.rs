//! The operator's objects in the cluster, read as untyped objects, so that invalid ones are not missed.

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource};

use crate::api::{Labels, NamespacedName};
use crate::k8s::list::{ListError, Pages};
use crate::k8s::scope::Scope;

/// All objects of a kind in these namespaces; in all if the list is empty.
pub(super) async fn list<K>(client: &Client, namespaces: &[String]) -> anyhow::Result<Vec<DynamicObject>>
where
    K: Resource<DynamicType = ()>,
{
    list_if_known::<K>(client, namespaces).await?.ok_or_else(unknown_kind::<K>)
}

/// The same; `None` if the cluster does not know the kind.
pub(super) async fn list_if_known<K>(
    client: &Client,
    namespaces: &[String],
) -> anyhow::Result<Option<Vec<DynamicObject>>>
where
    K: Resource<DynamicType = ()>,
{
    let mut objects = Vec::new();
    for scope in Scope::of(namespaces) {
        let only: Vec<String> = scope.namespace().map(ToOwned::to_owned).into_iter().collect();
        let mut pages = Pages::of::<K>(client, &only, |json| serde_json::from_slice(json));
        loop {
            match pages.next().await {
                Ok(Some(page)) => objects.extend(page),
                Ok(None) => break,
                // A namespace that does not exist has empty lists, so the kind is unknown.
                Err(ListError::Request(kube::Error::Api(status))) if status.code == 404 => return Ok(None),
                Err(error) => return Err(list_error(&K::plural(&()), &scope, error)),
            }
        }
    }
    Ok(Some(objects))
}

/// The object of that name, valid or not.
pub(super) async fn get<K>(client: &Client, name: &NamespacedName) -> anyhow::Result<DynamicObject>
where
    K: Resource<DynamicType = ()>,
{
    find::<K>(client, name).await?.with_context(|| {
        format!("there is no {} {name}: fix the name, --namespace or --context", K::kind(&()))
    })
}

/// The same; `None` if it does not exist.
pub(super) async fn find<K>(client: &Client, name: &NamespacedName) -> anyhow::Result<Option<DynamicObject>>
where
    K: Resource<DynamicType = ()>,
{
    let kind = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &name.namespace, &kind);
    match api.get(&name.name).await {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            // An unknown kind has the same code, but its response names no object.
            let is_object = status.details.as_ref().is_some_and(|details| details.name == name.name);
            if is_object { Ok(None) } else { Err(unknown_kind::<K>()) }
        }
        Err(error) => {
            let advice = advice(&error, &format!("get {} {name}", K::kind(&())));
            Err(anyhow::Error::from(error).context(advice))
        }
    }
}

/// The labels of a namespace; `None` if it does not exist.
pub(super) async fn namespace_labels(client: &Client, name: &str) -> anyhow::Result<Option<Labels>> {
    let api: Api<Namespace> = Api::all(client.clone());
    let found = api.get_metadata_opt(name).await;
    let found = found.map_err(|error| {
        let advice = advice(&error, &format!("get Namespace {name}"));
        anyhow::Error::from(error).context(advice)
    })?;
    Ok(found.map(|namespace| namespace.metadata.labels.unwrap_or_default()))
}

fn unknown_kind<K: Resource<DynamicType = ()>>() -> anyhow::Error {
    anyhow!(
        "the cluster has no resource type {}: install the CRDs (graph-credential-operator crd), or set KUBECONFIG to the right cluster",
        K::plural(&())
    )
}

/// Whether the API server denied it for want of a right.
pub(super) fn is_forbidden(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if status.is_forbidden())
    })
}

/// What failed, and what to do. `action` is what was tried, such as `get MicrosoftGraphCredential mail/x`.
pub(super) fn advice(error: &kube::Error, action: &str) -> String {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => {
            format!("you may not {action}: ask for the right to do so")
        }
        kube::Error::Api(status) if status.code < 500 => {
            format!("the API server rejected the request to {action}")
        }
        _ => format!("failed to {action}: check that the cluster is reachable, and try again"),
    }
}

fn list_error(kind: &str, scope: &Scope, error: ListError) -> anyhow::Error {
    let place = match scope {
        Scope::All => "in all namespaces".to_owned(),
        Scope::Namespace(name) => format!("in namespace {name}"),
    };
    let advice = match &error {
        ListError::Request(kube::Error::Api(status)) if status.is_forbidden() => {
            format!("you may not list {kind} {place}: ask for the right to list them there")
        }
        _ => format!(
            "failed to list {kind} {place}: check that the cluster of KUBECONFIG is reachable, and try again"
        ),
    };
    match error {
        ListError::Request(error) => anyhow::Error::from(error).context(advice),
        error => anyhow::Error::from(error).context(advice),
    }
}
