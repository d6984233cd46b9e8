//! Who depends on a keyring: records that are sealed under it, and fingerprints in the status of our objects. A new
//! keyring in place of a lost one would silently orphan them.

use std::fmt::Debug;

use kube::api::ListParams;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::resources::{
    MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, SealedGraphCredential, WoodpeckerAccount,
};

/// Objects in one answer of the API server.
const PAGE: u32 = 500;

/// It cannot be told whether anything depends on an earlier keyring.
#[derive(Debug, Error)]
#[error(
    "failed to look for objects that depend on an earlier keyring: it needs the right to list {kind} objects"
)]
pub struct SurveyError {
    kind: String,
    source: kube::Error,
}

/// Kind and name of objects that depend on a keyring, at most so many, in these namespaces or in all where none is
/// named.
pub async fn find(client: &Client, namespaces: &[String], most: usize) -> Result<Vec<String>, SurveyError> {
    let mut found = Vec::new();
    for scope in scopes(namespaces) {
        list::<SealedGraphCredential>(client, scope, most, &mut found, |_| true).await?;
        list::<MicrosoftGraphCredential>(client, scope, most, &mut found, |object| {
            object.status.as_ref().is_some_and(holds_fingerprint)
        })
        .await?;
        list::<WoodpeckerAccount>(client, scope, most, &mut found, |account| {
            account.status.as_ref().is_some_and(|status| status.api_key_fingerprint.is_some())
        })
        .await?;
    }
    Ok(found)
}

fn scopes(namespaces: &[String]) -> Vec<Option<&str>> {
    match namespaces {
        [] => vec![None],
        named => named.iter().map(|namespace| Some(namespace.as_str())).collect(),
    }
}

fn holds_fingerprint(status: &MicrosoftGraphCredentialStatus) -> bool {
    status.registration.is_some()
        || status.pending.is_some()
        || status.candidate.is_some()
        || !status.retiring.is_empty()
}

/// Adds those of one kind. One that cannot be read may well depend on it.
async fn list<K>(
    client: &Client,
    namespace: Option<&str>,
    most: usize,
    found: &mut Vec<String>,
    depends: impl Fn(&K) -> bool,
) -> Result<(), SurveyError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<DeserializeGuard<K>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let kind = K::kind(&());
    let mut page = ListParams::default().limit(PAGE);
    while found.len() < most {
        let list = api
            .list(&page)
            .await
            .map_err(|source| SurveyError { kind: kind.clone().into_owned(), source })?;
        let dependants = list.items.iter().filter(|guarded| guarded.0.as_ref().map_or(true, &depends));
        let names =
            dependants.map(|it| format!("{kind} {}/{}", it.namespace().unwrap_or_default(), it.name_any()));
        found.extend(names.take(most - found.len()));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    Ok(())
}
