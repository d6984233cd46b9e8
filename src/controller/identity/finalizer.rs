//! The finalizer of an identity: a deleted identity stays until credentials have removed their client secrets with it, for
//! at most ten minutes.

use std::fmt::Debug;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::api::{EntraIdentity, IDENTITY_PROTECTION_FINALIZER, NamespacedName};
use crate::controller::context::Context;
use crate::controller::error::ReconcileError;
use crate::controller::finalizers;

/// Adds the finalizer before a client secret is created with the identity.
pub async fn protect(context: &Context, name: &str) -> Result<(), ReconcileError> {
    let Some(namespace) = context.identity_namespace.clone().filter(|_| context.policy.sets_finalizers)
    else {
        return Ok(());
    };
    let name = NamespacedName { namespace, name: name.to_owned() };
    let found = context.read::<EntraIdentity>(&name).await.map_err(ReconcileError::ReadIdentity)?;
    let Some(identity) = found.filter(|it| it.metadata.deletion_timestamp.is_none() && !has_finalizer(it))
    else {
        return Ok(());
    };
    let api: Api<EntraIdentity> = Api::namespaced(context.client.clone(), &name.namespace);
    set(context, &api, &identity, true).await
}

/// Adds a finalizer that is missing. Removes that of an identity that no credential needs, or that was deleted and has waited long enough. Returns how
/// long to wait until the next attempt.
pub(super) async fn release<K>(
    context: &Context,
    api: &Api<K>,
    object: &K,
) -> Result<Option<Duration>, ReconcileError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let (timing, name) = (&context.policy.timing, object.name_any());
    let is_listed = context.index.are_credentials_listed();
    if !has_finalizer(object) {
        // It was restored without it, or credentials name another identity now.
        let is_missing = object.meta().deletion_timestamp.is_none()
            && context.policy.sets_finalizers
            && is_listed
            && context.index.has_secrets_of_identity(&name);
        return if is_missing { set(context, api, object, true).await.map(|()| None) } else { Ok(None) };
    }
    let is_needed = !is_listed
        || context.index.needs_identity_for_deletion(&name)
        || context.index.has_invalid_credentials();
    if is_needed {
        let Some(deleted_at) = &object.meta().deletion_timestamp else { return Ok(None) };
        if deleted_at.0 + timing.namespace_grace > Timestamp::now() {
            return Ok(Some(timing.backoff_first));
        }
        tracing::error!(
            identity = name,
            "the identity is deleted although client secrets that were created with it are still at Microsoft Entra"
        );
    }
    set(context, api, object, false).await.map(|()| None)
}

async fn set<K>(context: &Context, api: &Api<K>, object: &K, is_wanted: bool) -> Result<(), ReconcileError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let finalizer = IDENTITY_PROTECTION_FINALIZER;
    finalizers::set(&context.leadership, api, object, finalizer, is_wanted).await.map(|_| ())
}

fn has_finalizer(object: &impl Resource) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == IDENTITY_PROTECTION_FINALIZER)
}
