//! The finalizer of an account: a deleted account stays until objects have deleted their credentials there.

use std::fmt::Debug;

use jiff::Timestamp;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::api::{ACCOUNT_PROTECTION_FINALIZER, AccountName, MicrosoftGraphCredential};
use crate::controller::context::Context;
use crate::controller::credential::observe::namespace_deleted_at;
use crate::controller::error::ReconcileError;
use crate::controller::{finalizers, orphans};
use crate::core::orphan::OrphanCause;

/// Adds or removes the finalizer as needed. Returns the resulting account, or `None` if it was deleted. Objects of
/// namespaces that are not allowed do not keep a deleted account.
pub(super) async fn ensure<K>(
    context: &Context,
    api: &Api<K>,
    object: K,
    name: &AccountName,
    is_allowed: impl Fn(&str) -> bool,
    on_written: impl Fn(&K),
) -> Result<Option<K>, ReconcileError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let is_deleted = object.meta().deletion_timestamp.is_some();
    let has_finalizer = has_finalizer(&object);
    // Until all objects are known, any of them may use it.
    let counts = |namespace: &str| !is_deleted || is_allowed(namespace);
    let may_be_used = || !context.index.are_credentials_listed() || context.index.has_unread_credential();
    let is_used = context.policy.sets_finalizers && context.index.needs_account_for_deletion(name, counts)
        || has_finalizer && may_be_used();
    let terminating_since = if is_deleted && has_finalizer {
        namespace_deleted_at(context, &name.namespace).await?
    } else {
        None
    };
    let grace = context.policy.timing.namespace_grace;
    let can_wait = terminating_since.is_none_or(|since| since + grace > Timestamp::now());
    let is_wanted = is_wanted(&object, is_used, can_wait);
    if is_wanted == has_finalizer {
        return Ok(Some(object));
    }
    if is_deleted && is_used {
        tracing::error!(account = %name, "the account is deleted although credentials are still to be deleted there: its namespace cannot wait any longer");
    }
    let Some(object) =
        finalizers::set(&context.leadership, api, &object, ACCOUNT_PROTECTION_FINALIZER, is_wanted).await?
    else {
        return Ok(None);
    };
    on_written(&object);
    if is_deleted {
        report_orphans(context, name, is_allowed).await;
    }
    Ok((!is_deleted).then_some(object))
}

/// Reports what remains at a deleted account of objects that it no longer allowed.
async fn report_orphans(context: &Context, name: &AccountName, is_allowed: impl Fn(&str) -> bool) {
    let cause = OrphanCause::AccountDeleted;
    for credential in context.index.credentials_to_delete_at(name) {
        let Ok(object) = &credential.0 else { continue };
        if is_allowed(object.namespace_name()) {
            continue;
        }
        let regarding = object.object_ref(&());
        for id in registered_at(object, name) {
            let text = format!(
                "credential {id} is left at WoodpeckerAccount {name}, because {cause}: delete it there"
            );
            orphans::log(&regarding, cause, &text);
            orphans::publish(context, &regarding, cause, text).await;
        }
    }
}

/// The credentials that the object has registered at the account, and those that it still has to delete there.
fn registered_at(object: &MicrosoftGraphCredential, account: &AccountName) -> Vec<i64> {
    let Some(status) = &object.status else { return Vec::new() };
    let registrations = status.registration.iter().chain(&status.previous_registrations);
    let here = registrations.filter(|registration| registration.account.as_ref() == Some(account));
    here.map(|registration| registration.credential_id).collect()
}

/// Whether the account needs the finalizer. The API server allows no new finalizer on a deleted object.
fn is_wanted(object: &impl Resource, is_used: bool, can_wait: bool) -> bool {
    let is_deleted = object.meta().deletion_timestamp.is_some();
    is_used && (!is_deleted || has_finalizer(object) && can_wait)
}

pub(super) fn has_finalizer(object: &impl Resource) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == ACCOUNT_PROTECTION_FINALIZER)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::WoodpeckerAccount;

    #[test]
    fn an_account_in_use_is_kept_until_its_namespace_cannot_wait_longer() {
        for (is_deleted, has_finalizer, is_used, can_wait, expected) in [
            (false, false, false, true, false),
            (false, false, true, true, true),
            (false, true, true, true, true),
            (false, true, false, true, false),
            (true, true, true, true, true),
            (true, true, false, true, false),
            (true, true, true, false, false),
            (true, false, true, true, false),
        ] {
            let account = json!({
                "metadata": {
                    "deletionTimestamp": is_deleted.then_some("2026-11-28T23:59:59Z"),
                    "finalizers": if has_finalizer { vec![ACCOUNT_PROTECTION_FINALIZER] } else { vec![] },
                },
                "spec": {"apiKeySecretRef": {"name": "key"}}
            });
            let account: WoodpeckerAccount = serde_json::from_value(account).unwrap();
            let wanted = is_wanted(&account, is_used, can_wait);
            assert_eq!(wanted, expected, "{is_deleted} {has_finalizer} {is_used} {can_wait}");
        }
    }
}
