//! The operator's objects in the cluster, read as untyped objects, so that invalid ones are not missed.

use anyhow::Context as _;
use kube::api::DynamicObject;
use kube::{Client, Resource};

use crate::k8s::list::{ListError, Pages};
use crate::k8s::scope::Scope;

/// All objects of a kind in these namespaces; in all if the list is empty.
pub(super) async fn list<K>(client: &Client, namespaces: &[String]) -> anyhow::Result<Vec<DynamicObject>>
where
    K: Resource<DynamicType = ()>,
{
    list_if_known::<K>(client, namespaces).await?.with_context(|| {
        format!(
            "the cluster has no resource type {}: install the CRDs (graph-credential-operator crd), or set KUBECONFIG to the right cluster",
            K::plural(&())
        )
    })
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
