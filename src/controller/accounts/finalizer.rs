//! Keeps a deleted account until what objects have to remove there is removed.

use jiff::Timestamp;
use kube::{Api, ResourceExt};

use super::queue;
use crate::controller::context::Context;
use crate::controller::error::PassError;
use crate::controller::finalizers;
use crate::controller::observe::namespace_deleted_at;
use crate::resources::{AccountName, IN_USE_FINALIZER, WoodpeckerAccount};

/// How an account stands, as far as its finalizer depends on it.
#[derive(Clone, Copy, Debug)]
struct Standing {
    life: Life,
    has_finalizer: bool,
    /// Whether anything is to be removed there.
    is_used: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Live,
    Deleted,
    /// Deleted, and its namespace has been terminating for longer than it can wait.
    WaitsNoLonger,
}

/// Puts our finalizer on or takes it off as it should be. Returns the account as it is then; nothing where it
/// is gone.
pub(super) async fn keep(
    context: &Context,
    api: &Api<WoodpeckerAccount>,
    object: WoodpeckerAccount,
    name: &AccountName,
) -> Result<Option<WoodpeckerAccount>, PassError> {
    let standing = look_at(context, &object, name).await?;
    let Some(wanted) = change(standing) else { return Ok(Some(object)) };
    if !wanted && standing.life != Life::Live && standing.is_used {
        tracing::error!(account = %name, "the account goes although something is still to be removed there: its namespace cannot wait longer");
    }
    let Some(object) = finalizers::set(&context.leadership, api, &object, IN_USE_FINALIZER, wanted).await?
    else {
        return Ok(None);
    };
    queue::note_written(context, &object);
    Ok((standing.life == Life::Live || wanted).then_some(object))
}

async fn look_at(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
) -> Result<Standing, PassError> {
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    let has_finalizer = object.finalizers().iter().any(|finalizer| finalizer == IN_USE_FINALIZER);
    // With some objects not heard of yet, it may be in use by one of them.
    let is_used = context.rules.sets_finalizers && context.index.are_to_be_removed_at(name)
        || !context.index.are_credentials_listed() && has_finalizer;
    let terminating_since = if is_deleted && has_finalizer {
        namespace_deleted_at(context, &name.namespace).await?
    } else {
        None
    };
    let grace = context.rules.timing.namespace_grace;
    let life = match terminating_since {
        Some(since) if since + grace <= Timestamp::now() => Life::WaitsNoLonger,
        Some(_) | None if is_deleted => Life::Deleted,
        Some(_) | None => Life::Live,
    };
    Ok(Standing { life, has_finalizer, is_used })
}

/// Whether the finalizer is to be put on or taken off; nothing where it is right.
fn change(standing: Standing) -> Option<bool> {
    let Standing { life, has_finalizer, is_used } = standing;
    match (life, has_finalizer) {
        (Life::Live, has_finalizer) => (is_used != has_finalizer).then_some(is_used),
        (Life::Deleted, true) => (!is_used).then_some(false),
        (Life::WaitsNoLonger, true) => Some(false),
        // The API server takes no new finalizer on what is being deleted.
        (Life::Deleted | Life::WaitsNoLonger, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_in_use_is_kept_until_its_namespace_cannot_wait_longer() {
        for (life, has_finalizer, is_used, expected) in [
            (Life::Live, false, false, None),
            (Life::Live, false, true, Some(true)),
            (Life::Live, true, true, None),
            (Life::Live, true, false, Some(false)),
            (Life::Deleted, true, true, None),
            (Life::Deleted, true, false, Some(false)),
            (Life::WaitsNoLonger, true, true, Some(false)),
            (Life::Deleted, false, true, None),
        ] {
            let standing = Standing { life, has_finalizer, is_used };
            assert_eq!(change(standing), expected, "{standing:?}");
        }
    }
}
