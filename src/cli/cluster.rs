//! Our objects in the caller's cluster, read without their types: one that cannot be read must not hide.

use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use thiserror::Error;

use crate::controller::Scope;

/// Objects in one answer of the API server.
const PAGE: u32 = 500;

/// Objects that could not be listed.
#[derive(Debug, Error)]
pub(super) enum ListError {
    #[error(
        "the cluster knows no {0}: install the CRDs (graph-credential-operator crd), or point KUBECONFIG to the right cluster"
    )]
    NotInstalled(String),
    #[error("you may not list {0} {1}: ask for the right to list them there")]
    Forbidden(String, String, #[source] Box<kube::Error>),
    #[error("failed to list {0} {1}: check that the cluster of KUBECONFIG can be reached, and try again")]
    Kube(String, String, #[source] Box<kube::Error>),
}

/// All objects of a kind in these namespaces, or in all where none is named.
pub(super) async fn list<K>(client: &Client, namespaces: &[String]) -> Result<Vec<DynamicObject>, ListError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let kind = ApiResource::erase::<K>(&());
    let mut objects = Vec::new();
    for scope in Scope::of(namespaces) {
        let api: Api<DynamicObject> = match &scope {
            Scope::All => Api::all_with(client.clone(), &kind),
            Scope::Namespace(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        };
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = api.list(&page).await.map_err(|error| ListError::of(&kind, &scope, error))?;
            objects.extend(list.items);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(objects)
}

// === impl ListError ===

impl ListError {
    fn of(kind: &ApiResource, scope: &Scope, error: kube::Error) -> Self {
        let place = match scope {
            Scope::All => "in all namespaces".to_owned(),
            Scope::Namespace(name) => format!("in namespace {name}"),
        };
        match &error {
            // A namespace that is not there has empty lists; an unknown kind is answered without a reason.
            kube::Error::Api(answer) if answer.code == 404 => Self::NotInstalled(kind.plural.clone()),
            kube::Error::Api(answer) if answer.is_forbidden() => {
                Self::Forbidden(kind.plural.clone(), place, error.into())
            }
            _ => Self::Kube(kind.plural.clone(), place, error.into()),
        }
    }
}
