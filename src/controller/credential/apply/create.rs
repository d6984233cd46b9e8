//! Creates a credential at Woodpecker: the intent is persisted before the request, and the result before anything else.
//!
//! A POST is not idempotent and its outcome can be unknown. The intent holds an idempotency token that is also in the
//! name of the new credential, so that the operator can recognize it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;

use crate::api::conditions::whole_second;
use crate::api::{AccountLocation, DeletionPolicy, PendingCreate, Registration, UnknownFields};
use crate::controller::context::Context;
use crate::controller::credential::apply::state::{take_claim, with_registration};
use crate::controller::credential::apply::{
    StepOutcome, defer_event, entries_for, failed, is_unchanged, verify_company_isolation,
};
use crate::controller::credential::observe::{Created, Session};
use crate::controller::error::Result;
use crate::controller::index::CredentialRef;
use crate::controller::orphans;
use crate::controller::status_writer;
use crate::core::failure::Operation;
use crate::core::model::{Listed, MaxAge, Observed, ReadyTarget, Source, Target, registration};
use crate::core::orphan::OrphanCause;
use crate::core::remote::{TOKEN_ALPHABET, TOKEN_LENGTH, name_with_token};
use crate::woodpecker::{ApiError, Effect, NewCredential, RemoteAccount, RequestSlot, SecretUpdate};

/// Registers the app at the account.
pub(super) async fn create(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    if !take_claim(context, session) {
        return Ok(StepOutcome::Done);
    }
    let Some(account) = session.account.clone() else { return Ok(StepOutcome::Done) };
    // The permit comes before the intent, so that a waiting request does not look as if it might have been sent. The
    // intent comes before the slot, so that no other request waits for the write.
    session
        .request_permit(&account)
        .map_err(|error| failed(context, &session.observed, Operation::Create, &error))?;
    // All attempts share one token, so that the result of any of them is recognized.
    let earlier = session.observed.status.pending_create.clone();
    let token = earlier.as_ref().map_or_else(token, |earlier| Ok(earlier.idempotency_token.clone()))?;
    let Some(pending) = new_pending_create(&session.observed, &token, earlier.clone()) else {
        return Ok(StepOutcome::Done);
    };
    // No intent is written for a request that can no longer be sent.
    context.leadership.check_call(context.policy.timing.longest_call())?;
    let mut intent = session.observed.status.clone();
    intent.pending_create = Some(pending);
    status_writer::persist_intent(context, &mut session.observed, intent).await?;
    let slot = match recheck_before_create(context, session, &account).await {
        Ok(Some(slot)) if is_unchanged(context, &session.observed) => slot,
        rechecked => {
            let ended =
                rechecked.map(|slot| if slot.is_some() { StepOutcome::Requeue } else { StepOutcome::Done });
            clear_intent(context, &mut session.observed, earlier).await?;
            return ended;
        }
    };
    let name = name_with_token(&session.observed.object.remote_name(), &token);
    let uid = session.observed.object.metadata.uid.clone().unwrap_or_default();
    context.index.with(&uid, |known| known.create.begin(&token));
    let posted = post(session, &account, &slot, &name).await;
    drop(slot);
    // The next holder of the slot sends its request before this result is persisted.
    tokio::task::yield_now().await;
    match posted {
        Ok(id) => {
            session.created = Some(Created::Credential(id));
            Ok(record_registration(&mut session.observed, id, name, token))
        }
        Err(error) => {
            let failed = failed(context, &session.observed, Operation::Create, &error);
            if error.effect() == Effect::Unknown {
                context.index.with(&uid, |known| known.create.begin(&token));
            } else {
                context.index.with(&uid, |known| known.create.end(&token));
                clear_intent(context, &mut session.observed, earlier).await?;
            }
            Err(failed)
        }
    }
}

/// Acquires the slot for the create; `None` if the account's entries have changed since the plan was made, while this
/// reconcile waited.
async fn recheck_before_create(
    context: &Context,
    session: &mut Session,
    account: &RemoteAccount,
) -> Result<Option<RequestSlot>> {
    let slot = session.acquire_slot_unconditionally(account).await;
    let observed = &mut session.observed;
    let slot = slot.map_err(|error| failed(context, observed, Operation::Create, &error))?;
    verify_company_isolation(context, observed, account, &slot).await?;
    let listed = account.list(&slot, context.policy.timing.listing_max_age).await;
    let listing = listed.map_err(|error| failed(context, observed, Operation::List, &error))?;
    let entries = entries_for(observed, &listing);
    if observed.results.listed.as_ref().is_some_and(|known| known.entries == entries) {
        return Ok(Some(slot));
    }
    observed.results.listed = Some(Listed { entries, max_age: MaxAge::Recent });
    Ok(None)
}

fn new_pending_create(
    observed: &Observed,
    token: &str,
    earlier: Option<Box<PendingCreate>>,
) -> Option<Box<PendingCreate>> {
    let (Source::Usable(source), Target::Ready(target)) = (&observed.source, &observed.target) else {
        return None;
    };
    let entries =
        observed.results.listed.as_ref().map(|listed| listed.entries.as_slice()).unwrap_or_default();
    let (since, unknown) = earlier.map_or_else(
        || (Time(whole_second(Timestamp::now())), UnknownFields::default()),
        |earlier| (earlier.start_time, earlier.unknown),
    );
    Some(Box::new(PendingCreate {
        idempotency_token: token.to_owned(),
        start_time: since,
        existing_ids: entries.iter().map(|entry| entry.id).collect(),
        account: target.location.account.clone(),
        base_url: target.location.base_url.clone(),
        company_id: target.location.company_id,
        fingerprint: source.fingerprint.clone(),
        unknown,
    }))
}

async fn post(
    session: &Session,
    account: &RemoteAccount,
    slot: &RequestSlot,
    name: &str,
) -> Result<i64, ApiError> {
    let spec = &session.observed.object.spec;
    let (Some(secret), Source::Usable(source)) = (&session.secret, &session.observed.source) else {
        return Err(ApiError::NotFound);
    };
    let Some(expires_at) = source.expires_at else { return Err(ApiError::NotFound) };
    let secret = SecretUpdate { secret, expires_at };
    account
        .create(slot, &NewCredential { tenant: &spec.tenant_id, client: &spec.client_id, secret, name })
        .await
}

/// Puts the registration into the status, which is written before anything else is sent.
fn record_registration(observed: &mut Observed, id: i64, name: String, token: String) -> StepOutcome {
    let (Source::Usable(source), Target::Ready(target)) = (&mut observed.source, &observed.target) else {
        return StepOutcome::Done;
    };
    // Nothing is sent without an expiry.
    let Some(expires_at) = source.expires_at else { return StepOutcome::Done };
    let registration = Registration {
        fingerprint: source.fingerprint.clone(),
        idempotency_token: Some(token),
        ..registration::at(target.location.clone(), id, name, expires_at, Timestamp::now())
    };
    source.is_registered = true;
    tracing::info!(id, account = %target.location.account, "Woodpecker created the credential");
    observed.status = with_registration(observed, registration);
    observed.status.pending_secret = None;
    observed.has_unpersisted_changes = true;
    // The last listing is older.
    observed.cached_entries = None;
    defer_event(observed, "Registered", format!("Woodpecker created credential {id}"));
    if observed.status.previous_registrations.is_empty() { StepOutcome::Done } else { StepOutcome::Requeue }
}

/// Deletes a credential whose object was deleted during the create, if the deletion policy allows it; otherwise reports
/// it.
pub(super) async fn roll_back(context: &Context, session: &mut Session, id: i64) {
    let Some(account) = session.account.clone() else { return };
    let slot = session.acquire_slot_unconditionally(&account).await;
    let observed = &session.observed;
    let Target::Ready(ReadyTarget { location, .. }) = &observed.target else { return };
    let removed = match slot {
        Ok(slot)
            if may_roll_back(context, observed, location, id)
                && status_writer::is_deleted(context, observed).await =>
        {
            matches!(account.delete(&slot, id).await, Ok(()) | Err(ApiError::NotFound))
        }
        Ok(_) | Err(_) => false,
    };
    if removed {
        tracing::warn!(id, "the object was deleted during the create; its credential was deleted again");
        return;
    }
    let cause = OrphanCause::ObjectDeleted;
    let text = format!(
        "credential {id} is left at WoodpeckerAccount {}, because {cause}: delete it there",
        location.account
    );
    let regarding = observed.object.object_ref(&());
    orphans::log(&regarding, cause, &text);
    orphans::publish(context, &regarding, cause, text).await;
}

/// Whether the policy is Delete, all objects are known, and no other one has registered the credential meanwhile.
fn may_roll_back(context: &Context, observed: &Observed, location: &AccountLocation, id: i64) -> bool {
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    observed.object.spec.deletion_policy() == DeletionPolicy::Delete
        && context.index.are_credentials_listed()
        && context.index.other_owner(uid, CredentialRef::of(&observed.object, location, id)).is_none()
}

/// Restores the earlier intent, because nothing was sent or created.
async fn clear_intent(
    context: &Context,
    observed: &mut Observed,
    earlier: Option<Box<PendingCreate>>,
) -> Result<()> {
    let mut without = observed.status.clone();
    without.pending_create = earlier;
    status_writer::persist_result(context, observed, without).await
}

/// Twelve random letters and digits: sixty bits.
pub(super) fn token() -> Result<String> {
    let mut random = [0_u8; TOKEN_LENGTH];
    getrandom::fill(&mut random)?;
    Ok(random
        .iter()
        .filter_map(|byte| TOKEN_ALPHABET.get(usize::from(byte & 31)))
        .map(|byte| char::from(*byte))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_fresh_and_of_full_length() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert_ne!(one, other);
        assert!(
            one.len() == 12 && one.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()),
            "{one}"
        );
    }
}
