//! Who depends on a keyring: records that are sealed under it, and fingerprints in the status of our objects. A new
//! keyring in place of a lost one would silently orphan them.

use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::k8s::list::{self, ListError, Pages};
use crate::resources::{
    MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, SealedGraphCredential, WoodpeckerAccount,
};

/// It cannot be told whether anything depends on an earlier keyring.
#[derive(Debug, Error)]
#[error(
    "failed to look for objects that depend on an earlier keyring: it needs the right to list {kind} objects"
)]
pub struct SurveyError {
    kind: String,
    source: ListError,
}

/// Kind and name of an object that depends on a keyring, in these namespaces or in any where none is named.
pub async fn find(client: &Client, namespaces: &[String]) -> Result<Option<String>, SurveyError> {
    if let Some(found) = first::<SealedGraphCredential>(client, namespaces, |_| true).await? {
        return Ok(Some(found));
    }
    let credential = first(client, namespaces, |object: &MicrosoftGraphCredential| {
        object.status.as_ref().is_some_and(holds_fingerprint)
    });
    if let Some(found) = credential.await? {
        return Ok(Some(found));
    }
    first(client, namespaces, |account: &WoodpeckerAccount| {
        account.status.as_ref().is_some_and(|status| status.api_key_fingerprint.is_some())
    })
    .await
}

fn holds_fingerprint(status: &MicrosoftGraphCredentialStatus) -> bool {
    status.registration.is_some()
        || status.pending.is_some()
        || status.candidate.is_some()
        || !status.retiring.is_empty()
}

/// The first one of a kind. One that cannot be read may well depend on it.
async fn first<K>(
    client: &Client,
    namespaces: &[String],
    depends: impl Fn(&K) -> bool,
) -> Result<Option<String>, SurveyError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let kind = K::kind(&());
    let mut pages = Pages::of::<K>(client, namespaces, list::guarded::<K>);
    while let Some(objects) =
        pages.next().await.map_err(|source| SurveyError { kind: kind.to_string(), source })?
    {
        if let Some(found) = objects.iter().find(|guarded| guarded.0.as_ref().map_or(true, &depends)) {
            return Ok(Some(format!(
                "{kind} {}/{}",
                found.namespace().unwrap_or_default(),
                found.name_any()
            )));
        }
    }
    Ok(None)
}
