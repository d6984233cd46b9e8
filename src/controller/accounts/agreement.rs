//! Holds an account's listing against what objects have registered there.

use jiff::Timestamp;
use kube::ResourceExt;

use super::ledger::Divergence;
use super::report::{Counts, Findings, Verdict, counts, problem};
use crate::controller::context::Context;
use crate::resources::conditions::Reason;
use crate::resources::{ACKNOWLEDGE_GONE, AccountName, WoodpeckerAccount};
use crate::store::fingerprint::Subject;
use crate::woodpecker::{Entry, RemoteAccount};

/// Whether the listing may be believed, and what follows where it may.
pub(super) fn judge(
    context: &Context,
    object: &WoodpeckerAccount,
    remote: &RemoteAccount,
    entries: &[Entry],
    findings: &mut Findings,
) -> Verdict {
    let name = AccountName { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
    let uid = object.uid().unwrap_or_default();
    let status = object.status.clone().unwrap_or_default();
    let key =
        Subject { uid: &uid, secret: &remote.client().parts().api_key, expires_at: Timestamp::UNIX_EPOCH };
    let before = status.api_key_fingerprint.as_deref();
    let is_key_new = before.is_some_and(|before| !context.fingerprints.matches(before, key));
    let acknowledged = object.annotations().get(ACKNOWLEDGE_GONE);
    let is_acknowledged = acknowledged.is_some() && acknowledged != status.last_acknowledged.as_ref();
    let mut ledgers = context.accounts.ledgers();
    let ledger = ledgers.entry(name).or_default();
    ledger.take_in(entries, is_key_new);
    if is_acknowledged {
        ledger.acknowledge(entries);
        findings.acknowledged = acknowledged.cloned();
    }
    match ledger.divergence(entries) {
        Some(divergence) => return diverged(divergence),
        None => findings.api_key_fingerprint = Some(context.fingerprints.fingerprint(key)),
    }
    if ledger.is_incomplete() {
        return Verdict::Incomplete(problem(
            Reason::ListingIncomplete,
            "Woodpecker's listing lacks credentials that are there; what is registered is kept up, and nothing is created. Ask Woodpecker's support if it lasts".into(),
        ));
    }
    Verdict::Ready
}

fn diverged(divergence: Divergence) -> Verdict {
    let what = match divergence {
        Divergence::AnotherAccount => {
            "the new API key opens an account that holds nothing of what is registered: put a key of the right account into the Secret".to_owned()
        }
        Divergence::ManyMissing { missing, managed } => format!(
            "{missing} of the {managed} credentials that are registered at the account are missing in its listing at once: check that the API key belongs to the right account"
        ),
    };
    let message = format!(
        "{what}; if they are gone indeed, set the annotation {ACKNOWLEDGE_GONE} on this account to a new value, and they are registered anew"
    );
    Verdict::Unusable(problem(Reason::RemoteDiverged, message))
}

/// How many credentials of each sort the account holds; nothing while not all objects are known.
pub(super) fn count(context: &Context, name: &AccountName, entries: &[Entry]) -> Option<Counts> {
    if !context.scopes.are_credentials_listed() {
        return None;
    }
    let managed = context.accounts.managed_ids(name);
    let is_named = |entry: &Entry| {
        let (tenant, client) = (entry.tenant.parse(), entry.client.parse());
        matches!((tenant, client), (Ok(tenant), Ok(client)) if !context.index.credentials_for(&tenant, &client).is_empty())
    };
    Some(counts(entries, &managed, is_named))
}

/// Wakes the objects for which the listing has something to do: theirs is missing, or there is a second one.
pub(super) fn wake_who_differs(context: &Context, name: &AccountName, entries: &[Entry]) {
    for credential in context.index.credentials_at(name) {
        let Some(known) = context.scopes.credential(&credential.namespace, &credential.name) else {
            continue;
        };
        let Ok(object) = &known.0 else { continue };
        let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
        let Some(registration) = registration.filter(|it| it.account.as_ref() == Some(name)) else {
            continue;
        };
        let is_listed = entries.iter().any(|entry| entry.id == registration.credential_id);
        let is_late = |entry: &Entry| {
            entry.id != registration.credential_id
                && registration.token.as_deref().is_some_and(|token| entry.carries(token))
        };
        if !is_listed || entries.iter().any(is_late) {
            context.calls.credential(&credential.namespace, &credential.name);
        }
    }
}
