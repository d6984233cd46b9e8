//! What an account's listing says about one id, and whether it can be believed.

use super::{entries_for, note_failure};
use crate::controller::context::Context;
use crate::controller::observe::Gathered;
use crate::controller::observed::{Freshness, Listed, Probe, Target};
use crate::destination::{Failure, FailureKind, Operation};
use crate::resources::AccountName;
use crate::woodpecker::Listing;

/// A request for the id was answered with 404: it is gone only where a new listing agrees, and where not
/// many others are missing as well.
pub(super) async fn note_vanishing(
    context: &Context,
    gathered: &mut Gathered,
    id: i64,
    operation: Operation,
) {
    let Some(account) = gathered.account.clone() else { return };
    let listed = gathered.list_to_finish(&account).await;
    let observed = &mut gathered.observed;
    match listed {
        Ok(listing) if listing.contains(id) => {
            observed.learnt.failure = Some(refused_though_listed(operation));
        }
        Ok(listing) => {
            let entries = entries_for(observed, &listing);
            observed.learnt.listed = Some(Listed { entries, freshness: Freshness::Anew });
            if !has_diverged(context, gathered) {
                gathered.observed.learnt.probe = Some(Probe::Gone);
            }
        }
        Err(error) => note_failure(context, observed, Operation::List, &error),
    }
}

/// Whether so much is missing at the account that it must be another one, or have lost its books: then
/// nothing is made anew before a person has looked.
pub(super) fn has_diverged(context: &Context, gathered: &mut Gathered) -> bool {
    let Some(account) = &gathered.account else { return false };
    let Target::Ready(target) = &gathered.observed.target else { return false };
    let Some(listing) = account.last_listing(context.rules.timing.listing_interval * 2) else { return false };
    let name = &target.place.account;
    let Some(kind) = distrust(context, name, &listing) else { return false };
    if kind == FailureKind::Foreign {
        context.calls.account(name);
    }
    let operation = Operation::List;
    gathered.observed.learnt.failure = Some(Failure { operation, kind, retry_after: None, id: None });
    true
}

/// Why what an account's listing lacks cannot be taken for gone; nothing where it can.
pub(super) fn distrust(context: &Context, account: &AccountName, listing: &Listing) -> Option<FailureKind> {
    if !context.index.are_credentials_listed() {
        // With some objects not heard of yet, nothing can be told from how much is missing.
        return Some(FailureKind::ObjectsUnknown);
    }
    let held = context.index.ids_at(account);
    context.accounts.has_diverged(account, listing, &held).map(|_divergence| FailureKind::Foreign)
}

/// What Woodpecker says of a credential that its listing still shows: a refusal.
pub(super) fn refused_though_listed(operation: Operation) -> Failure {
    Failure { operation, kind: FailureKind::Refused { status: 404, word: None }, retry_after: None, id: None }
}
