//! Holds an account's listing against what objects have registered there.

use jiff::Timestamp;
use kube::ResourceExt;

use super::kinship::Kinship;
use super::ledger::{Divergence, Ledger, OneWith};
use super::report::{Counts, Findings, Verdict, counts};
use super::{AccountState, Related};
use crate::controller::context::Context;
use crate::controller::index::Named;
use crate::controller::observed::Problem;
use crate::resources::conditions::Reason;
use crate::resources::{ACKNOWLEDGE_GONE, AccountName, WoodpeckerAccount, WoodpeckerAccountStatus};
use crate::store::fingerprint::Subject;
use crate::woodpecker::{Entry, Listing, RemoteAccount};

/// Whether the listing may be believed, and what follows where it may.
pub(super) fn judge(
    context: &Context,
    object: &WoodpeckerAccount,
    remote: &RemoteAccount,
    listing: &Listing,
    findings: &mut Findings,
) -> Verdict {
    let name = Named::of(object);
    let uid = object.uid().unwrap_or_default();
    let status = object.status.clone().unwrap_or_default();
    let key = Subject { uid: &uid, secret: &remote.client.api_key, expires_at: Timestamp::UNIX_EPOCH };
    let keyring = context.keyring.current();
    let fingerprints = keyring.fingerprint_keys();
    let before = status.api_key_fingerprint.as_deref();
    // A key that was never found to be the right one is as new as another one.
    let is_key_new = before.is_none_or(|before| !fingerprints.matches(before, key));
    let are_all_known = context.index.are_credentials_listed();
    let held = context.index.ids_at(&name);
    let is_listed = |id| listing.contains(id);
    findings.acknowledged = unhandled(object, &status).filter(|_| are_all_known);
    // On an account that was never looked at, it is about an earlier one of that name.
    let is_acknowledged = findings.acknowledged.is_some() && status.observed_generation >= 0;
    let divergence = context.index.change_account(&name, Some(&uid), |AccountState { ledger, .. }| {
        ledger.take_in(is_listed, &held, is_key_new);
        if is_acknowledged {
            ledger.acknowledge(is_listed, &held);
        }
        ledger.divergence(is_listed, &held)
    });
    if let Some(divergence) = divergence.flatten() {
        return diverged(divergence);
    }
    if are_all_known {
        findings.api_key_fingerprint = Some(fingerprints.fingerprint(key));
    }
    let max_age = context.rules.timing.listing_interval * 2;
    let related = context.accounts.related(&name, remote, listing, max_age);
    let relate = |account: &mut AccountState| relate(context, &mut account.ledger, &name, remote, &related);
    if let Some(other) = context.index.change_account(&name, Some(&uid), relate).flatten() {
        return confused(&other);
    }
    if context.accounts.read(&name, |account| account.ledger.is_incomplete()) == Some(true) {
        return Verdict::Incomplete(Problem {
            reason: Reason::ListingIncomplete,
            message: "Woodpecker's listing lacks credentials that are there; what is registered is kept up, and nothing is created. Ask Woodpecker's support if it lasts".into(),
        });
    }
    Verdict::Ready
}

/// Notes what the account has to do with others: it may be one with another one, or a company that the vendor
/// tells apart from the others behind its key. Where it does not, neither can be used, and the other one is returned.
fn relate(
    context: &Context,
    ledger: &mut Ledger,
    name: &AccountName,
    remote: &RemoteAccount,
    related: &[Related],
) -> Option<AccountName> {
    let natural = &remote.natural;
    let is = |kinship| move |other: &&Related| other.kinship == kinship;
    let confused = related.iter().filter(is(Kinship::Confused));
    if let Some(first) = confused.clone().map(|other| &other.name).min() {
        // Once they know, there is nothing more to tell them: all would call each other for ever.
        for other in confused.filter(|other| other.is_usable) {
            context.calls.account(&other.name);
        }
        ledger.confused_with = Some(first.clone());
        return Some(first.clone());
    }
    if let Some(other) = ledger.confused_with.take() {
        // It can be used again as well.
        context.calls.account(&other);
    }
    let before = (ledger.one_with.clone(), ledger.company_honoured.clone());
    for other in related.iter().filter(is(Kinship::One)).filter(|other| other.name > *name) {
        context.calls.account(&other.name);
    }
    // What was found out once stays, as long as the keys do.
    let first = related.iter().filter(is(Kinship::One)).min_by_key(|other| &other.name);
    if let Some(first) = first.filter(|other| other.name < *name) {
        let (other, others) = (first.name.clone(), first.natural.clone());
        ledger.one_with = Some(OneWith { own: natural.clone(), other, others });
    }
    if related.iter().any(|other| other.kinship == Kinship::Companies)
        && !related.iter().any(|other| other.kinship == Kinship::Untold)
    {
        ledger.company_honoured = Some(natural.clone());
    }
    if before != (ledger.one_with.clone(), ledger.company_honoured.clone()) {
        let one_with = ledger.one_with.as_ref().map(|one_with| one_with.other.to_string());
        let is_company_honoured = ledger.company_honoured.is_some();
        tracing::info!(account = %name, one_with, is_company_honoured, "what the account has to do with others is known");
        // It is opened anew in the lane that it should have.
        context.calls.account(name);
    }
    None
}

fn confused(other: &AccountName) -> Verdict {
    Verdict::Unusable(Problem {
        reason: Reason::CompanyIgnored,
        message: format!(
            "Woodpecker shows the same credentials to this account and to WoodpeckerAccount {other}, so it ignores spec.companyId, and nothing is changed at either: use an API key of each company's own"
        ),
    })
}

/// An acknowledgement by annotation that was not handled yet.
fn unhandled(object: &WoodpeckerAccount, status: &WoodpeckerAccountStatus) -> Option<String> {
    let acknowledged = object.annotations().get(ACKNOWLEDGE_GONE)?;
    (Some(acknowledged) != status.last_acknowledged.as_ref()).then(|| acknowledged.clone())
}

fn diverged(divergence: Divergence) -> Verdict {
    let what = match divergence {
        Divergence::AnotherAccount => {
            "the new API key opens an account that holds nothing of what is registered: put a key of the right account into the Secret".to_owned()
        }
        Divergence::ManyMissing { missing, held } => format!(
            "{missing} of the {held} credentials that are registered at the account are missing in its listing at once: check that the API key belongs to the right account"
        ),
    };
    let message = format!(
        "{what}; if they are gone indeed, set the annotation {ACKNOWLEDGE_GONE} on this account to a new value, and they are registered anew"
    );
    Verdict::Unusable(Problem { reason: Reason::RemoteDiverged, message })
}

/// How many credentials of each sort the account holds; nothing while not all objects are known.
pub(super) fn count(context: &Context, name: &AccountName, listing: &Listing) -> Option<Counts> {
    if !context.index.are_credentials_listed() {
        return None;
    }
    let managed = context.index.registered_at(name);
    let is_named = |entry: &Entry| {
        let (tenant, client) = (entry.tenant.parse(), entry.client.parse());
        matches!((tenant, client), (Ok(tenant), Ok(client)) if context.index.is_named(&tenant, &client))
    };
    Some(counts(listing, &managed, is_named))
}

/// Wakes the objects for which the listing has something to do: theirs is missing, or there is a second one.
pub(super) fn wake_who_differs(context: &Context, name: &AccountName, listing: &Listing) {
    for credential in context.index.credentials_at(name) {
        let Ok(object) = &credential.0 else { continue };
        let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
        let Some(registration) = registration.filter(|it| it.account.as_ref() == Some(name)) else {
            continue;
        };
        let id = registration.credential_id;
        let alike = registration.token.as_deref().map(|token| listing.with_token(token)).unwrap_or_default();
        if !listing.contains(id) || alike.iter().any(|entry| entry.id != id) {
            context.calls.credential(&Named::of(object));
        }
    }
}
