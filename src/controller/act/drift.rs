//! What the account holds does not agree with what is written down: look closely before anything is done.

use std::time::Duration;

use super::{check_app, entries_for, note_failure};
use crate::controller::context::Context;
use crate::controller::observe::Gathered;
use crate::controller::observed::{Freshness, Listed, Probe, Target};
use crate::destination::{Failure, FailureKind, Operation};
use crate::woodpecker::ApiError;

/// Asks for the registration by its id, with the name that it has already: a listing may be short, empty or
/// somebody else's.
pub(super) async fn probe(context: &Context, gathered: &mut Gathered) {
    let Some(registration) = gathered.observed.status.registration.clone() else { return };
    let Some(account) = gathered.account.clone() else { return };
    let id = registration.credential_id;
    if let Err(failure) = check_app(context, &gathered.observed, &account, id, Operation::Rename).await {
        gathered.observed.learnt.failure = Some(failure);
        return;
    }
    if has_diverged(context, gathered) {
        return;
    }
    let asked = match account.enter().await {
        Ok(turn) => account.rename(&turn, id, &registration.name).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(()) => {
            tracing::warn!(id, "the listing lacks a credential that is there");
            gathered.observed.learnt.probe = Some(Probe::Present);
            if let Target::Ready(target) = &gathered.observed.target {
                context.accounts.note_present(&target.account, id, &context.calls);
            }
        }
        Err(ApiError::NotFound) => note_vanishing(context, gathered, id, Operation::Rename).await,
        Err(error) => note_failure(context, &mut gathered.observed, Operation::Rename, &error),
    }
}

/// A request for the id was answered with 404: it is gone only where a new listing agrees, and where not
/// many others are missing as well.
pub(super) async fn note_vanishing(
    context: &Context,
    gathered: &mut Gathered,
    id: i64,
    operation: Operation,
) {
    let Some(account) = gathered.account.clone() else { return };
    let observed = &mut gathered.observed;
    match account.list(Duration::ZERO).await {
        Ok(entries) if entries.iter().any(|entry| entry.id == id) => {
            observed.learnt.failure = Some(refused_though_listed(operation));
        }
        Ok(entries) => {
            let entries = entries_for(observed, entries);
            observed.learnt.listed = Some(Listed { entries, freshness: Freshness::Anew });
            if !has_diverged(context, gathered) {
                gathered.observed.learnt.probe = Some(Probe::Gone);
            }
        }
        Err(error) => note_failure(context, observed, Operation::List, &error),
    }
}

/// Removes what a late request of ours has made a second time.
pub(super) async fn remove_duplicate(context: &Context, gathered: &mut Gathered, id: i64) {
    let Some(account) = gathered.account.clone() else { return };
    let removed = match account.enter().await {
        Ok(turn) => account.delete(&turn, id).await,
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) | Err(ApiError::NotFound) => {
            tracing::warn!(id, "a late duplicate of this object's own credential was removed");
            let seen = gathered.observed.seen.take();
            gathered.observed.seen =
                seen.map(|seen| seen.into_iter().filter(|entry| entry.id != id).collect());
        }
        Err(error) => note_failure(context, &mut gathered.observed, Operation::Delete, &error),
    }
}

/// Whether so much is missing at the account that it must be another one, or have lost its books: then
/// nothing is made anew before a person has looked.
fn has_diverged(context: &Context, gathered: &mut Gathered) -> bool {
    let Some(account) = &gathered.account else { return false };
    let Target::Ready(target) = &gathered.observed.target else { return false };
    let Some(entries) = account.last_listing(context.rules.timing.listing_interval * 2) else { return false };
    // With some objects not heard of yet, nothing can be told from how much is missing.
    let can_tell = context.scopes.are_credentials_listed();
    if can_tell && context.accounts.has_diverged(&target.account, &entries).is_none() {
        return false;
    }
    context.calls.account(&target.account.namespace, &target.account.name);
    gathered.observed.learnt.failure =
        Some(Failure { operation: Operation::List, kind: FailureKind::Foreign, retry_after: None });
    true
}

/// What Woodpecker says of a credential that its listing still shows: a refusal.
pub(super) fn refused_though_listed(operation: Operation) -> Failure {
    Failure { operation, kind: FailureKind::Refused { status: 404, word: None }, retry_after: None }
}
