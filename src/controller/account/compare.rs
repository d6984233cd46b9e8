//! Compares an account's listing with what objects have registered there.

use kube::ResourceExt;

use crate::api::conditions::Reason;
use crate::api::{AccountName, CONFIRM_DELETED, NamespacedName, WoodpeckerAccount, WoodpeckerAccountStatus};
use crate::controller::account::consistency::{Alias, ListingConsistency, Mismatch};
use crate::controller::account::relation::AccountRelation;
use crate::controller::account::{AccountState, Related};
use crate::controller::context::Context;
use crate::core::model::ConditionFailure;
use crate::core::remote::Entry;
use crate::core::status::account::{AccountResult, Counts, ListingSummary, counts};
use crate::store::fingerprint::{FingerprintInput, NO_EXPIRY};
use crate::woodpecker::{Listing, RemoteAccount};

/// Evaluates whether the listing can be trusted and the account used.
pub(super) fn evaluate(
    context: &Context,
    object: &WoodpeckerAccount,
    remote: &RemoteAccount,
    listing: &Listing,
    summary: &mut ListingSummary,
) -> AccountResult {
    let name = NamespacedName::of(object);
    let uid = object.uid().unwrap_or_default();
    let status = object.status.clone().unwrap_or_default();
    let key = FingerprintInput { uid: &uid, secret: &remote.client.api_key, expires_at: NO_EXPIRY };
    let keyring = context.keyring.get();
    let fingerprints = keyring.fingerprint_keys();
    let before = status.api_key_fingerprint.as_deref();
    // A key that was never confirmed counts as new.
    let is_key_new = before.is_none_or(|before| !fingerprints.matches(before, key));
    let are_all_known = context.index.are_credentials_listed();
    let registered = context.index.owned_ids_at(&name);
    let is_listed = |id| listing.contains(id);
    summary.confirmation = unhandled_confirmation(object, &status).filter(|_| are_all_known);
    // On an account that was never reconciled, it is about an earlier one of that name.
    let is_confirmed = summary.confirmation.is_some() && status.observed_generation >= 0;
    let compared = context.index.change_account(&name, Some(&uid), |AccountState { consistency, .. }| {
        consistency.restore_confirmed(&status.confirmed_deleted_ids);
        consistency.update(is_listed, &registered, is_key_new);
        if is_confirmed {
            consistency.confirm_deleted(is_listed, &registered);
        }
        (consistency.mismatch(is_listed, &registered), consistency.confirmed())
    });
    let (mismatch, confirmed) = compared.unzip();
    summary.confirmed_deleted_ids = confirmed.filter(|_| are_all_known);
    if let Some(mismatch) = mismatch.flatten() {
        return unexpected_state(mismatch);
    }
    if are_all_known {
        summary.api_key_fingerprint = Some(fingerprints.fingerprint(key));
    }
    let max_age = context.policy.timing.listing_interval * 2;
    let related = context.accounts.related(&name, remote, listing, max_age);
    let update = |account: &mut AccountState| {
        update_relations(context, &mut account.consistency, &name, remote, &related)
    };
    if let Some(other) = context.index.change_account(&name, Some(&uid), update).flatten() {
        return company_id_ignored(&other);
    }
    if context.accounts.read(&name, |account| account.consistency.is_incomplete()) == Some(true) {
        return AccountResult::Incomplete(ConditionFailure {
            reason: Reason::IncompleteList,
            message: "Woodpecker's list lacks credentials that exist. Existing registrations are maintained, and nothing is created. If this persists, contact Woodpecker's support".into(),
        });
    }
    AccountResult::Ready
}

/// Records how the account is related to others: an alias of another one, or a company that Woodpecker separates from
/// the others of its key. If it does not separate them, neither can be used, and the other one is returned.
fn update_relations(
    context: &Context,
    consistency: &mut ListingConsistency,
    name: &AccountName,
    remote: &RemoteAccount,
    related: &[Related],
) -> Option<AccountName> {
    let own_identity = &remote.own_identity;
    let is = |relation| move |other: &&Related| other.relation == relation;
    let sharing = related.iter().filter(is(AccountRelation::CompanyIdIgnored));
    if let Some(first) = sharing.clone().map(|other| &other.name).min() {
        // Those that know already are not requeued; otherwise the accounts would requeue each other forever.
        for other in sharing.filter(|other| other.is_usable) {
            context.requeuer.account(&other.name);
        }
        consistency.shares_credentials_with = Some(first.clone());
        return Some(first.clone());
    }
    if let Some(other) = consistency.shares_credentials_with.take() {
        // The other one is usable again as well.
        context.requeuer.account(&other);
    }
    let before = (consistency.alias_of.clone(), consistency.separate_company.clone());
    for other in related.iter().filter(is(AccountRelation::SameAccount)).filter(|other| other.name > *name) {
        context.requeuer.account(&other.name);
    }
    // A relation that was found once stays as long as the keys do.
    let first = related.iter().filter(is(AccountRelation::SameAccount)).min_by_key(|other| &other.name);
    if let Some(first) = first.filter(|other| other.name < *name) {
        let (other, others) = (first.name.clone(), first.own_identity.clone());
        consistency.alias_of = Some(Alias { own: own_identity.clone(), other, others });
    }
    // A company without credentials keeps the queue of the key: its id may be wrong, and an empty listing shows nothing.
    if related.iter().any(|other| other.relation == AccountRelation::SeparateCompanies) {
        consistency.separate_company = Some(own_identity.clone());
    }
    if before != (consistency.alias_of.clone(), consistency.separate_company.clone()) {
        let alias_of = consistency.alias_of.as_ref().map(|alias_of| alias_of.other.to_string());
        let is_company_separate = consistency.separate_company.is_some();
        tracing::info!(account = %name, alias_of, is_company_separate, "the relation of the account to others is known");
        // It is connected again, with the right account queue.
        context.requeuer.account(name);
    }
    None
}

fn company_id_ignored(other: &AccountName) -> AccountResult {
    AccountResult::Unusable(ConditionFailure {
        reason: Reason::CompanyIdIgnored,
        message: format!(
            "Woodpecker shows the same credentials for this account and for WoodpeckerAccount {other}, so it ignores spec.companyId. Nothing is changed at either account: use a separate API key for each company"
        ),
    })
}

/// A confirmation by annotation that was not handled yet.
fn unhandled_confirmation(object: &WoodpeckerAccount, status: &WoodpeckerAccountStatus) -> Option<String> {
    let confirmed = object.annotations().get(CONFIRM_DELETED)?;
    (Some(confirmed) != status.last_handled_confirmation.as_ref()).then(|| confirmed.clone())
}

fn unexpected_state(mismatch: Mismatch) -> AccountResult {
    let what = match mismatch {
        Mismatch::AnotherAccount => {
            "the new API key belongs to an account that has none of the registered credentials: put a key of the right account into the Secret".to_owned()
        }
        Mismatch::ManyMissing { missing, registered } => format!(
            "{missing} of the {registered} credentials registered at the account are missing from its list at once: check that the API key belongs to the right account"
        ),
    };
    let message = format!(
        "{what}. If they were really deleted, set the annotation {CONFIRM_DELETED} on this account to a new value, and they are registered again"
    );
    AccountResult::Unusable(ConditionFailure { reason: Reason::UnexpectedRemoteState, message })
}

/// Counts the account's credentials by management state; `None` until all objects are known.
pub(super) fn count(context: &Context, name: &AccountName, listing: &Listing) -> Option<Counts> {
    if !context.index.are_credentials_listed() {
        return None;
    }
    let managed = context.index.registered_ids_at(name);
    let is_named = |entry: &Entry| {
        let (tenant, client) = (entry.tenant.parse(), entry.client.parse());
        matches!((tenant, client), (Ok(tenant), Ok(client)) if context.index.is_named(&tenant, &client))
    };
    Some(counts(|visit| listing.for_each(visit), &managed, is_named))
}

/// Requeues objects whose registration the listing lacks, or shows a duplicate of.
pub(super) fn requeue_changed(context: &Context, name: &AccountName, listing: &Listing) {
    for credential in context.index.credentials_at(name) {
        let Ok(object) = &credential.0 else { continue };
        let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
        let Some(registration) = registration.filter(|it| it.account.as_ref() == Some(name)) else {
            continue;
        };
        let id = registration.credential_id;
        let alike = registration
            .idempotency_token
            .as_deref()
            .map(|token| listing.with_token(token))
            .unwrap_or_default();
        if !listing.contains(id) || alike.iter().any(|entry| entry.id != id) {
            context.requeuer.credential(&NamespacedName::of(object));
        }
    }
}
