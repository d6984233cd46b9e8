//! Keeps a deleted account until what objects have to remove there is removed.

use jiff::Timestamp;
use kube::{Api, ResourceExt};

use crate::controller::context::Context;
use crate::controller::error::PassError;
use crate::controller::finalizers;
use crate::controller::observe::namespace_deleted_at;
use crate::resources::{AccountName, IN_USE_FINALIZER, WoodpeckerAccount};

/// Puts our finalizer on or takes it off as it should be. Returns the account as it is then; nothing where it
/// is gone.
pub(super) async fn keep(
    context: &Context,
    api: &Api<WoodpeckerAccount>,
    object: WoodpeckerAccount,
    name: &AccountName,
) -> Result<Option<WoodpeckerAccount>, PassError> {
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    let has_finalizer = has_finalizer(&object);
    // With some objects not heard of yet, it may be in use by one of them.
    let is_used = context.rules.sets_finalizers && context.index.are_to_be_removed_at(name)
        || !context.index.are_credentials_listed() && has_finalizer;
    let terminating_since = if is_deleted && has_finalizer {
        namespace_deleted_at(context, &name.namespace).await?
    } else {
        None
    };
    let grace = context.rules.timing.namespace_grace;
    let can_wait = terminating_since.is_none_or(|since| since + grace > Timestamp::now());
    let is_wanted = is_wanted(&object, is_used, can_wait);
    if is_wanted == has_finalizer {
        return Ok(Some(object));
    }
    if is_deleted && is_used {
        tracing::error!(account = %name, "the account goes although something is still to be removed there: its namespace cannot wait longer");
    }
    let Some(object) =
        finalizers::set(&context.leadership, api, &object, IN_USE_FINALIZER, is_wanted).await?
    else {
        return Ok(None);
    };
    context.note_written(&object);
    Ok((!is_deleted).then_some(object))
}

/// Whether the account is to have the finalizer. The API server takes no new one on what is being deleted.
fn is_wanted(object: &WoodpeckerAccount, is_used: bool, can_wait: bool) -> bool {
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    is_used && (!is_deleted || has_finalizer(object) && can_wait)
}

fn has_finalizer(object: &WoodpeckerAccount) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == IN_USE_FINALIZER)
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
                    "finalizers": if has_finalizer { vec![IN_USE_FINALIZER] } else { vec![] },
                },
                "spec": {"apiKeySecretRef": {"name": "key"}}
            });
            let wanted = is_wanted(&serde_json::from_value(account).unwrap(), is_used, can_wait);
            assert_eq!(wanted, expected, "{is_deleted} {has_finalizer} {is_used} {can_wait}");
        }
    }
}
