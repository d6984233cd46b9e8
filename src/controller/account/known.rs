//! What credentials look up of an account, after its reconcile.

use std::sync::Arc;

use crate::api::conditions::Reason;
use crate::api::{AccountName, WoodpeckerAccount};
use crate::controller::account::reconcile::requested;
use crate::controller::account::state::{Known, State};
use crate::controller::context::Context;
use crate::core::status::account::AccountResult;
use crate::woodpecker::RemoteAccount;

/// What is known of the account after this reconcile.
pub(super) fn known(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
    result: &AccountResult,
    remote: Option<Arc<RemoteAccount>>,
) -> Known {
    let objects = context.index.objects();
    let account = objects.account(name);
    let may_create = !account.is_some_and(|account| account.consistency.is_incomplete());
    let before = account.and_then(|account| account.known.as_ref());
    let failures = match result {
        AccountResult::Ready
        | AccountResult::Incomplete(_)
        | AccountResult::AwaitingKey(..)
        | AccountResult::Unusable(_) => 0,
        AccountResult::Postponed(_) | AccountResult::Unreachable(_) | AccountResult::Unprotected(_) => {
            before.map_or(0, |known| known.failures).saturating_add(1)
        }
    };
    let remote = remote.or_else(|| before.and_then(|known| known.remote.clone()));
    // If Woodpecker is unreachable, a key with which the account was reached before stays usable: each request shows
    // whether it works. With another key it may be another account.
    let was_verified = before.is_some_and(|before| {
        let both = before.remote.as_ref().zip(remote.as_ref());
        let is_same = both.is_some_and(|(old, new)| Arc::ptr_eq(old, new));
        is_same && matches!(before.state, State::Ready { .. } | State::KeyMissing)
    });
    let state = match result {
        AccountResult::Ready | AccountResult::Unprotected(_) => State::Ready { may_create: true },
        AccountResult::Incomplete(_) => State::Ready { may_create: false },
        AccountResult::Postponed(_) | AccountResult::Unreachable(_) if was_verified => {
            State::Ready { may_create }
        }
        AccountResult::Postponed(_) | AccountResult::Unreachable(_) => State::NotReached,
        AccountResult::AwaitingKey(problem, _) | AccountResult::Unusable(problem)
            if was_verified && lacks_key(problem.reason) =>
        {
            State::KeyMissing
        }
        AccountResult::AwaitingKey(..) | AccountResult::Unusable(_) => State::NotReady,
    };
    Known { spec: Some(object.spec.clone()), remote, state, failures, requested: requested(object) }
}

/// Whether the account has no key, rather than a wrong one.
fn lacks_key(reason: Reason) -> bool {
    matches!(reason, Reason::SecretNotFound | Reason::AccessDenied | Reason::KeyMissing | Reason::EmptyValue)
}
