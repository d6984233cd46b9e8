//! Our objects in the caller's cluster, read without their types: one that cannot be read must not hide.

use anyhow::Context as _;
use kube::api::DynamicObject;
use kube::{Client, Resource};

use crate::controller::Scope;
use crate::k8s::list::{ListError, Pages};

/// All objects of a kind in these namespaces, or in all where none is named.
pub(super) async fn list<K>(client: &Client, namespaces: &[String]) -> anyhow::Result<Vec<DynamicObject>>
where
    K: Resource<DynamicType = ()>,
{
    list_if_known::<K>(client, namespaces).await?.with_context(|| {
        format!(
            "the cluster knows no {}: install the CRDs (graph-credential-operator crd), or point KUBECONFIG to the right cluster",
            K::plural(&())
        )
    })
}

/// The same; nothing where the cluster does not know the kind.
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
                // A namespace that is not there has empty lists; an unknown kind is answered without a reason.
                Err(ListError::Request(kube::Error::Api(answer))) if answer.code == 404 => return Ok(None),
                Err(error) => return Err(unlisted(&K::plural(&()), &scope, error)),
            }
        }
    }
    Ok(Some(objects))
}

fn unlisted(kind: &str, scope: &Scope, error: ListError) -> anyhow::Error {
    let place = match scope {
        Scope::All => "in all namespaces".to_owned(),
        Scope::Namespace(name) => format!("in namespace {name}"),
    };
    let advice = match &error {
        ListError::Request(kube::Error::Api(answer)) if answer.is_forbidden() => {
            format!("you may not list {kind} {place}: ask for the right to list them there")
        }
        _ => format!(
            "failed to list {kind} {place}: check that the cluster of KUBECONFIG can be reached, and try again"
        ),
    };
    match error {
        ListError::Request(error) => anyhow::Error::from(error).context(advice),
        error => anyhow::Error::from(error).context(advice),
    }
}
