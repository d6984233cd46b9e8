//! Search for objects that depend on a keyring: records that are encrypted with it, and fingerprints in the status of
//! objects. A new keyring in place of a lost one would silently orphan them.

use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::api::{
    MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, SealedGraphCredential, WoodpeckerAccount,
};
use crate::k8s::list::{self, ListError, Pages};

/// It is unknown whether anything depends on an earlier keyring.
#[derive(Debug, Error)]
#[error(
    "failed to look for objects that depend on an earlier keyring: the right to list {kind} objects is needed"
)]
pub struct DependentsError {
    kind: String,
    source: ListError,
}

/// Kind and name of an object that depends on a keyring, in these namespaces, or in any if none is given.
pub async fn find(client: &Client, namespaces: &[String]) -> Result<Option<String>, DependentsError> {
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
        || status.pending_create.is_some()
        || status.pending_secret.is_some()
        || !status.previous_registrations.is_empty()
}

/// The first dependent object of a kind. One that cannot be deserialized counts as dependent.
async fn first<K>(
    client: &Client,
    namespaces: &[String],
    depends: impl Fn(&K) -> bool,
) -> Result<Option<String>, DependentsError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let kind = K::kind(&());
    let mut pages = Pages::of::<K>(client, namespaces, list::guarded::<K>);
    while let Some(objects) =
        pages.next().await.map_err(|source| DependentsError { kind: kind.to_string(), source })?
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
