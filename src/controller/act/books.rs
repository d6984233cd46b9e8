//! Changes of what is written down as registered, without a change at the destination.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;

use super::{Step, tell};
use crate::controller::context::Context;
use crate::controller::error::PassError;
use crate::controller::observe::Gathered;
use crate::controller::observed::{Claim, Observed, Source, Target};
use crate::controller::report::Note;
use crate::controller::status::{self, Written};
use crate::resources::conditions::whole_second;
use crate::resources::{DeletionPolicy, MicrosoftGraphCredentialStatus, Ownership, Registration};
use crate::woodpecker::{Entry, mark};

/// Writes down what a create of unknown outcome has made. Which secret it holds is not taken for known.
pub(super) async fn recover(context: &Context, gathered: &mut Gathered, id: i64) -> Result<Step, PassError> {
    let observed = &mut gathered.observed;
    let (Some(pending), Some(entry)) = (observed.status.pending.clone(), listed(observed, id)) else {
        return Ok(Step::Done);
    };
    let name = if entry.name.is_empty() {
        format!("{} {}", observed.object.remote_name(), mark(&pending.token))
    } else {
        entry.name
    };
    let registration = Registration {
        account: Some(pending.account),
        base_url: Some(pending.base_url),
        company_id: pending.company_id,
        record: None,
        credential_id: id,
        ownership: Ownership::Created,
        fingerprint: Registration::UNKNOWN.into(),
        name,
        expires_at: Time(whole_second(entry.expires_at.unwrap_or(pending.since.0))),
        registered_at: Time(whole_second(Timestamp::now())),
        token: Some(pending.token),
    };
    let fact = with_registration(observed, registration);
    if status::write_fact(context, observed, fact).await? == Written::ObjectGone {
        return Ok(Step::ObjectGone);
    }
    tracing::info!(id, "a create without an answer has made this credential");
    tell(context, observed, "Recovered", format!("a create without an answer has made credential {id}"))
        .await;
    Ok(Step::Again)
}

/// Writes down that the create of unknown outcome has made nothing.
pub(super) async fn forget_pending(context: &Context, gathered: &mut Gathered) -> Result<Step, PassError> {
    let observed = &mut gathered.observed;
    let mut without = observed.status.clone();
    without.pending = None;
    match status::write_once(context, observed, without).await? {
        Written::Yes => Ok(Step::Again),
        Written::ObjectGone => Ok(Step::ObjectGone),
    }
}

/// Writes down as ours what existed before; the secret follows as an update.
pub(super) async fn adopt(context: &Context, gathered: &mut Gathered, id: i64) -> Result<Step, PassError> {
    if !take_claim(context, gathered) {
        return Ok(Step::Done);
    }
    let observed = &mut gathered.observed;
    let (Target::Ready(target), Source::Usable(source), Some(entry)) =
        (&observed.target, &observed.source, listed(observed, id))
    else {
        return Ok(Step::Done);
    };
    let registration = Registration {
        account: Some(target.account.clone()),
        base_url: Some(target.base_url.clone()),
        company_id: target.company_id,
        record: None,
        credential_id: id,
        ownership: Ownership::Adopted,
        fingerprint: Registration::UNKNOWN.into(),
        name: entry.name,
        expires_at: Time(whole_second(entry.expires_at.unwrap_or(source.expires_at))),
        registered_at: Time(whole_second(Timestamp::now())),
        token: None,
    };
    let intent = with_registration(observed, registration);
    if status::write_once(context, observed, intent).await? == Written::ObjectGone {
        return Ok(Step::ObjectGone);
    }
    tracing::info!(id, "an existing credential is taken over");
    tell(context, observed, "Adopted", format!("the existing credential {id} is taken over")).await;
    Ok(Step::Again)
}

/// Writes down that the registration is gone; it is made anew.
pub(super) async fn forget_registration(
    context: &Context,
    gathered: &mut Gathered,
) -> Result<Step, PassError> {
    let observed = &mut gathered.observed;
    let Some(gone) = observed.status.registration.clone() else { return Ok(Step::Done) };
    let mut without = observed.status.clone();
    without.registration = None;
    without.credential_id = None;
    without.expires_at = None;
    if status::write_once(context, observed, without).await? == Written::ObjectGone {
        return Ok(Step::ObjectGone);
    }
    if let Some(account) = &gone.account {
        context.accounts.forget_registration(account, &observed.object, &context.calls);
    }
    let id = gone.credential_id;
    tracing::warn!(id, "the credential is gone at Woodpecker and is registered anew");
    let text =
        format!("credential {id} is gone at Woodpecker, removed by other hands; it is registered anew");
    let note = Note { is_warning: true, reason: "Vanished", action: "Reconcile", text };
    context.events.publish(&observed.object.object_ref(&()), &note).await;
    Ok(Step::Again)
}

/// Takes the claim on the app at the account: another pass may be about to register it at this very moment.
pub(super) fn take_claim(context: &Context, gathered: &mut Gathered) -> bool {
    if let Some((key, claimant)) = gathered.claimant.clone() {
        gathered.observed.claim = context.claims.take(key, &claimant);
    }
    gathered.observed.claim == Claim::Ours
}

/// The status with a new registration. What was registered before at another account is to be removed, where
/// it is ours and the policy says so; else it is left there.
pub(super) fn with_registration(
    observed: &Observed,
    registration: Registration,
) -> MicrosoftGraphCredentialStatus {
    let mut fact = observed.status.clone();
    let is_removed = |earlier: &Registration| {
        observed.object.spec.deletion_policy() == DeletionPolicy::Delete && observed.owns(earlier)
    };
    if let Some(earlier) = fact.registration.take() {
        if is_removed(&earlier) {
            fact.retiring.push(earlier);
        } else {
            tracing::info!(
                id = earlier.credential_id,
                account = earlier.account.as_ref().map(ToString::to_string),
                "the earlier registration is left where it is"
            );
        }
    }
    fact.credential_id = Some(registration.credential_id);
    fact.expires_at = Some(registration.expires_at.clone());
    fact.registration = Some(registration);
    fact.pending = None;
    fact
}

fn listed(observed: &Observed, id: i64) -> Option<Entry> {
    let listed = observed.learnt.listed.as_ref()?;
    listed.entries.iter().find(|entry| entry.id == id).cloned()
}
