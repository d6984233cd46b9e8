//! What an account's listing says about one id, and whether it can be believed.

use super::{entries_for, failed, step_failed};
use crate::controller::context::Context;
use crate::controller::error::{PassError, Result};
use crate::controller::observe::Gathered;
use crate::controller::observed::{Freshness, Listed, Probe, Target};
use crate::destination::{FailureKind, Operation};
use crate::resources::AccountName;
use crate::woodpecker::Listing;

/// A request for the id was answered with 404: it is gone only where a new listing agrees, and where not
/// many others are missing as well.
pub(super) async fn note_vanishing(
    context: &Context,
    gathered: &mut Gathered,
    id: i64,
    operation: Operation,
) -> Result<()> {
    let Some(account) = gathered.account.clone() else { return Ok(()) };
    let listed = gathered.list_to_finish(&account).await;
    let observed = &mut gathered.observed;
    let listing = listed.map_err(|error| failed(context, observed, Operation::List, &error))?;
    if listing.contains(id) {
        return Err(refused_though_listed(operation));
    }
    let entries = entries_for(observed, &listing);
    observed.learnt.listed = Some(Listed { entries, freshness: Freshness::Anew });
    check_divergence(context, gathered)?;
    gathered.observed.learnt.probe = Some(Probe::Gone);
    Ok(())
}

/// Fails where so much is missing at the account that it must be another one, or have lost its books: then
/// nothing is made anew before a person has looked.
pub(super) fn check_divergence(context: &Context, gathered: &Gathered) -> Result<()> {
    let (Some(account), Target::Ready(target)) = (&gathered.account, &gathered.observed.target) else {
        return Ok(());
    };
    let listing = account.last_listing(context.rules.timing.listing_interval * 2);
    let name = &target.place.account;
    let Some(kind) = listing.and_then(|listing| distrust(context, name, &listing)) else { return Ok(()) };
    if kind == FailureKind::Foreign {
        context.calls.account(name);
    }
    Err(step_failed(Operation::List, kind, None))
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
pub(super) fn refused_though_listed(operation: Operation) -> PassError {
    step_failed(operation, FailureKind::Refused { status: 404, word: None }, None)
}
