//! Checks what an account's listing shows of an id, and whether it can be trusted.

use crate::api::AccountName;
use crate::controller::context::Context;
use crate::controller::credential::apply::{entries_for, failed, step_failed};
use crate::controller::credential::observe::Session;
use crate::controller::error::{ReconcileError, Result};
use crate::core::failure::{FailureKind, Operation};
use crate::core::model::{Existence, Listed, MaxAge, Target};
use crate::woodpecker::Listing;

/// Handles a 404 for the id: the credential counts as deleted only if a live listing agrees, and not many others are
/// missing as well.
pub(super) async fn record_missing(
    context: &Context,
    session: &mut Session,
    id: i64,
    operation: Operation,
) -> Result<()> {
    let Some(account) = session.account.clone() else { return Ok(()) };
    let listed = session.list_unconditionally(&account).await;
    let observed = &mut session.observed;
    let listing = listed.map_err(|error| failed(context, observed, Operation::List, &error))?;
    if listing.contains(id) {
        return Err(not_found_but_listed(operation));
    }
    let entries = entries_for(observed, &listing);
    observed.results.listed = Some(Listed { entries, max_age: MaxAge::Live });
    check_mismatch(context, session)?;
    session.observed.results.existence = Some(Existence::Deleted);
    Ok(())
}

/// Fails if so much is missing that it must be another account, or one that lost its data. Then nothing is re-created
/// before a user has checked.
pub(super) fn check_mismatch(context: &Context, session: &Session) -> Result<()> {
    let (Some(account), Target::Ready(target)) = (&session.account, &session.observed.target) else {
        return Ok(());
    };
    let listing = account.last_listing(context.policy.timing.listing_interval * 2);
    let name = &target.location.account;
    let Some(kind) = listing.and_then(|listing| listing_mismatch(context, name, &listing)) else {
        return Ok(());
    };
    if kind == FailureKind::WrongAccount {
        context.requeuer.account(name);
    }
    Err(step_failed(Operation::List, kind, None))
}

/// Why credentials that the listing lacks do not count as deleted; `None` if they do.
pub(super) fn listing_mismatch(
    context: &Context,
    account: &AccountName,
    listing: &Listing,
) -> Option<FailureKind> {
    if !context.index.are_credentials_listed() {
        // Until all objects are known, the number of missing credentials means nothing.
        return Some(FailureKind::ObjectsUnknown);
    }
    let registered = context.index.owned_ids_at(account);
    context.accounts.mismatch(account, listing, &registered).map(|_divergence| FailureKind::WrongAccount)
}

/// A 404 for a credential that the listing still shows counts as a rejection.
pub(super) fn not_found_but_listed(operation: Operation) -> ReconcileError {
    step_failed(operation, FailureKind::Rejected { status: 404, code: None }, None)
}
