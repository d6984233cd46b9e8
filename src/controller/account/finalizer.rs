//! The finalizer of an account: a deleted account stays until objects have deleted their credentials there.

use jiff::Timestamp;
use kube::{Api, ResourceExt};

use crate::api::{ACCOUNT_PROTECTION_FINALIZER, AccountName, WoodpeckerAccount};
use crate::controller::context::Context;
use crate::controller::credential::observe::namespace_deleted_at;
use crate::controller::error::ReconcileError;
use crate::controller::finalizers;

/// Adds or removes the finalizer as needed. Returns the resulting account, or `None` if it was deleted.
pub(super) async fn ensure(
    context: &Context,
    api: &Api<WoodpeckerAccount>,
    object: WoodpeckerAccount,
    name: &AccountName,
) -> Result<Option<WoodpeckerAccount>, ReconcileError> {
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    let has_finalizer = has_finalizer(&object);
    // Until all objects are known, any of them may use it.
    let is_used = context.policy.sets_finalizers && context.index.needs_account_for_deletion(name)
        || !context.index.are_credentials_listed() && has_finalizer;
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
        tracing::error!(account = %name, "the account is deleted although credentials are still to be deleted there: its namespace cannot wait longer");
    }
    let Some(object) =
        finalizers::set(&context.leadership, api, &object, ACCOUNT_PROTECTION_FINALIZER, is_wanted).await?
    else {
        return Ok(None);
    };
    context.on_written(&object);
    Ok((!is_deleted).then_some(object))
}

/// Whether the account needs the finalizer. The API server allows no new finalizer on a deleted object.
fn is_wanted(object: &WoodpeckerAccount, is_used: bool, can_wait: bool) -> bool {
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    is_used && (!is_deleted || has_finalizer(object) && can_wait)
}

fn has_finalizer(object: &WoodpeckerAccount) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == ACCOUNT_PROTECTION_FINALIZER)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
            let wanted = is_wanted(&serde_json::from_value(account).unwrap(), is_used, can_wait);
            assert_eq!(wanted, expected, "{is_deleted} {has_finalizer} {is_used} {can_wait}");
        }
    }
}
