//! Changes of what is written down as registered, without a change at the destination.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;

use super::{Step, failed, tell, tell_apart};
use crate::controller::context::Context;
use crate::controller::decide::MOST_RETIRING;
use crate::controller::error::Result;
use crate::controller::index::Kin;
use crate::controller::observe::Gathered;
use crate::controller::observed::{Claim, Observed, Source, Target};
use crate::controller::status;
use crate::destination::Operation;
use crate::events::Note;
use crate::resources::conditions::whole_second;
use crate::resources::{
    DeletionPolicy, MicrosoftGraphCredentialStatus, Ownership, Place, Registration, UnknownFields,
};
use crate::telemetry::metrics::Drift;
use crate::woodpecker::{Entry, marked};

/// Writes down what a create of unknown outcome has made. Which secret it holds is not taken for known.
pub(super) async fn recover(context: &Context, gathered: &mut Gathered, id: i64) -> Result<Step> {
    let observed = &mut gathered.observed;
    let (Some(pending), Some(entry)) = (observed.status.pending.clone(), listed(observed, id)) else {
        return Ok(Step::Done);
    };
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    if let Some(other) = context.index.other_holder(uid, Kin::of(&observed.object, &pending.place(), id)) {
        tracing::error!(id, %other, "what this object's create has made is held by another one by now, and is left to it");
        return forget_pending(context, gathered).await;
    }
    let name = if entry.name.is_empty() {
        marked(&observed.object.remote_name(), &pending.token)
    } else {
        entry.name
    };
    let source = observed.usable_source().map(|source| source.expires_at);
    let expires_at = source.or(entry.expires_at).unwrap_or(pending.since.0);
    let place = pending.place();
    let registration =
        Registration { token: Some(pending.token), ..registration(place, id, name, expires_at) };
    let fact = with_registration(observed, registration);
    status::write_fact(context, observed, fact).await?;
    tracing::info!(id, "a create without an answer has made this credential");
    tell(context, observed, "Recovered", format!("a create without an answer has made credential {id}"))
        .await;
    Ok(Step::Again)
}

/// Writes down that the create of unknown outcome has made nothing.
pub(super) async fn forget_pending(context: &Context, gathered: &mut Gathered) -> Result<Step> {
    let observed = &mut gathered.observed;
    let mut without = observed.status.clone();
    without.pending = None;
    status::write_once(context, observed, without).await?;
    Ok(Step::Again)
}

/// Writes down as ours what existed before; the secret follows as an update.
pub(super) async fn adopt(context: &Context, gathered: &mut Gathered, id: i64) -> Result<Step> {
    let Some(account) = gathered.account.clone() else { return Ok(Step::Done) };
    let turn = gathered.turn(&account).await;
    let turn = turn.map_err(|error| failed(context, &gathered.observed, Operation::List, &error))?;
    tell_apart(context, &gathered.observed, &account, &turn).await?;
    drop(turn);
    if !take_claim(context, gathered) {
        return Ok(Step::Done);
    }
    let observed = &mut gathered.observed;
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    let (Target::Ready(target), Source::Usable(source), Some(entry)) =
        (&observed.target, &observed.source, listed(observed, id))
    else {
        return Ok(Step::Done);
    };
    let holder = context.index.other_holder(uid, Kin::of(&observed.object, &target.place, id));
    if let Some(other) = holder.or_else(|| context.index.other_maker(uid, &entry)) {
        observed.claim = Claim::HeldBy(other.to_string());
        return Ok(Step::Done);
    }
    let expires_at = entry.expires_at.unwrap_or(source.expires_at);
    let registration = Registration {
        ownership: Ownership::Adopted,
        ..registration(target.place.clone(), id, entry.name, expires_at)
    };
    let intent = with_registration(observed, registration);
    status::write_once(context, observed, intent).await?;
    tracing::info!(id, "an existing credential is taken over");
    tell(context, observed, "Adopted", format!("the existing credential {id} is taken over")).await;
    Ok(Step::Again)
}

/// Writes down that the registration is gone; it is made anew.
pub(super) async fn forget_registration(context: &Context, gathered: &mut Gathered) -> Result<Step> {
    let observed = &mut gathered.observed;
    let Some(gone) = observed.status.registration.clone() else { return Ok(Step::Done) };
    let mut without = observed.status.clone();
    without.registration = None;
    without.credential_id = None;
    without.expires_at = None;
    status::write_once(context, observed, without).await?;
    let id = gone.credential_id;
    context.metrics.credentials.drifted(Drift::Vanished);
    tracing::warn!(id, "the credential is gone at Woodpecker and is registered anew");
    let text =
        format!("credential {id} is gone at Woodpecker, removed by other hands; it is registered anew");
    let note = Note { is_warning: true, reason: "Vanished", action: "Reconcile", text, ids: String::new() };
    context.events.emit(&observed.object.object_ref(&()), &note).await;
    Ok(Step::Again)
}

/// A registration at that place which begins now, of a secret that is not known.
pub(super) fn registration(place: Place, id: i64, name: String, expires_at: Timestamp) -> Registration {
    Registration {
        account: Some(place.account),
        base_url: Some(place.base_url),
        company_id: place.company_id,
        record: None,
        credential_id: id,
        ownership: Ownership::Created,
        fingerprint: Registration::UNKNOWN.into(),
        name,
        expires_at: Time(whole_second(expires_at)),
        registered_at: Time(whole_second(Timestamp::now())),
        token: None,
        change_sent_at: None,
        unknown: UnknownFields::default(),
    }
}

/// Takes the claim on the app at the account: another pass may be about to register it at this very moment.
pub(super) fn take_claim(context: &Context, gathered: &mut Gathered) -> bool {
    if let Some((key, claimant)) = gathered.claimant.clone() {
        gathered.observed.claim = context.index.take_claim(key, &claimant);
    }
    gathered.observed.claim == Claim::Ours
}

/// The status with a new registration. What was registered before at another account is to be removed, where
/// it is ours and the policy says so; else it is left there. Where it is the very same credential (the account
/// has another name now, or the object came back), it stays whose it was.
pub(super) fn with_registration(
    observed: &Observed,
    mut registration: Registration,
) -> MicrosoftGraphCredentialStatus {
    let mut fact = observed.status.clone();
    let is_it = |earlier: &Registration| {
        earlier.credential_id == registration.credential_id && earlier.base_url == registration.base_url
    };
    let known = fact.registration.iter().chain(&fact.retiring).find(|earlier| is_it(earlier)).cloned();
    fact.retiring.retain(|earlier| !is_it(earlier));
    let earlier = fact.registration.take().filter(|earlier| !is_it(earlier));
    if let Some(known) = known {
        (registration.ownership, registration.token) = (known.ownership, known.token);
        registration.change_sent_at = known.change_sent_at;
    }
    if let Some(earlier) = earlier {
        let is_removed = observed.object.spec.deletion_policy() == DeletionPolicy::Delete;
        if is_removed && observed.owns(&earlier) && fact.retiring.len() < MOST_RETIRING {
            fact.retiring.push(earlier);
        } else {
            tell_left(&earlier);
        }
    }
    fact.credential_id = Some(registration.credential_id);
    fact.expires_at = Some(registration.expires_at.clone());
    fact.registration = Some(registration);
    fact.pending = None;
    fact
}

/// Forgets what was still to be removed, for the policy says to leave it now.
pub(super) async fn leave_retiring(context: &Context, gathered: &mut Gathered) -> Result<Step> {
    let observed = &mut gathered.observed;
    let mut without = observed.status.clone();
    let left = std::mem::take(&mut without.retiring);
    status::write_once(context, observed, without).await?;
    for earlier in &left {
        tell_left(earlier);
        let text = format!(
            "the earlier credential {} is left, as deletionPolicy Retain says",
            earlier.credential_id
        );
        tell(context, observed, "Retained", text).await;
    }
    Ok(Step::Again)
}

fn tell_left(earlier: &Registration) {
    let account = earlier.account.as_ref().map(ToString::to_string);
    tracing::info!(id = earlier.credential_id, account, "an earlier registration is left where it is");
}

fn listed(observed: &Observed, id: i64) -> Option<Entry> {
    let listed = observed.learnt.listed.as_ref()?;
    listed.entries.iter().find(|entry| entry.id == id).cloned()
}
