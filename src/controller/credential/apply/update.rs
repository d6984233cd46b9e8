//! Updates a registration: secret, expiry and name.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::Registration;
use crate::api::conditions::whole_second;
use crate::controller::context::Context;
use crate::controller::credential::apply::listing::record_missing;
use crate::controller::credential::apply::{StepOutcome, defer_event, exists_remotely, failed, is_unchanged};
use crate::controller::credential::observe::{Session, change_key};
use crate::controller::error::Result;
use crate::controller::status_writer;
use crate::core::failure::Operation;
use crate::core::model::{Observed, Source};
use crate::woodpecker::{ApiError, Effect, SecretUpdate};

/// Replaces secret and expiry. Until the response arrives, it is unknown which secret the credential has. The status
/// says so before the request is sent, so that after a crash a restored Secret does not count as registered.
pub(super) async fn update(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    const OPERATION: Operation = Operation::Update;
    let Some(account) = session.account.clone() else { return Ok(StepOutcome::Done) };
    let Some(before) = session.observed.status.registration.clone() else { return Ok(StepOutcome::Done) };
    // No secret is sent unless the registration is known to exist; the plan checks that first.
    if !exists_remotely(context, session, &account, &before, OPERATION).await? {
        return Ok(StepOutcome::Done);
    }
    let Some(secret) = session.secret.clone() else { return Ok(StepOutcome::Done) };
    // As with a create, the intent is written between permit and slot.
    session
        .request_permit(&account)
        .map_err(|error| failed(context, &session.observed, OPERATION, &error))?;
    let Source::Usable(source) = &session.observed.source else { return Ok(StepOutcome::Done) };
    let Some(expires_at) = source.expires_at else { return Ok(StepOutcome::Done) };
    let fingerprint = source.fingerprint.clone();
    // No intent is written for a request that can no longer be sent.
    context.leadership.check_call(context.policy.timing.longest_call())?;
    let mut intent = session.observed.status.clone();
    let updating = Registration { fingerprint: Registration::UNKNOWN.into(), ..with_update_sent(&before) };
    intent.registration = Some(updating.clone());
    status_writer::persist_intent(context, &mut session.observed, intent).await?;
    let slot = session.acquire_slot_unconditionally(&account).await;
    let observed = &mut session.observed;
    let sent = match slot {
        Ok(slot) if !is_unchanged(context, observed) => {
            drop(slot);
            // The change requeues the object.
            revert_intent(context, observed, before).await?;
            return Ok(StepOutcome::Requeue);
        }
        Ok(slot) => {
            let update = SecretUpdate { secret: &secret, expires_at };
            account.update(&slot, before.credential_id, update).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        return on_update_failed(context, session, before, &updating, &error).await;
    }
    set_updated(
        observed,
        Registration {
            fingerprint,
            expires_at: Time(whole_second(expires_at)),
            registration_time: Time(whole_second(Timestamp::now())),
            update_sent_time: None,
            ..before
        },
    );
    Ok(StepOutcome::Done)
}

/// Woodpecker has accepted the new secret.
fn set_updated(observed: &mut Observed, registration: Registration) {
    let id = registration.credential_id;
    if let Source::Usable(source) = &mut observed.source {
        source.is_registered = true;
    }
    observed.status.registration = Some(registration);
    observed.status.pending_secret = None;
    observed.has_unpersisted_changes = true;
    tracing::info!(id, "Woodpecker has the new secret");
    defer_event(observed, "Updated", format!("Woodpecker has the new secret for credential {id}"));
}

/// An update failed, or its outcome is unknown.
async fn on_update_failed(
    context: &Context,
    session: &mut Session,
    before: Registration,
    updating: &Registration,
    error: &ApiError,
) -> Result<StepOutcome> {
    let (observed, id) = (&mut session.observed, before.credential_id);
    match error.effect() {
        Effect::NotApplied => revert_intent(context, observed, before).await?,
        Effect::Unknown => start_settle_period(context, observed, updating),
    }
    match error {
        ApiError::NotFound => record_missing(context, session, id, Operation::Update).await?,
        error => return Err(failed(context, observed, Operation::Update, error)),
    }
    Ok(StepOutcome::Done)
}

/// Restores the registration, because nothing was changed. An earlier update has settled, or this one would not have
/// begun.
async fn revert_intent(context: &Context, observed: &mut Observed, before: Registration) -> Result<()> {
    let mut fact = observed.status.clone();
    fact.registration = Some(Registration { update_sent_time: None, ..before });
    status_writer::persist_result(context, observed, fact).await
}

/// The registration with an update in flight.
fn with_update_sent(registration: &Registration) -> Registration {
    Registration { update_sent_time: Some(Time(whole_second(Timestamp::now()))), ..registration.clone() }
}

/// Starts the settle period of an update whose response was lost.
fn start_settle_period(context: &Context, observed: &Observed, updating: &Registration) {
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    let key = change_key(updating).unwrap_or_default();
    context.index.with(uid, |known| known.change.begin(&key));
}

/// Replaces only the name.
pub(super) async fn rename(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    const OPERATION: Operation = Operation::Rename;
    let Some(account) = session.account.clone() else { return Ok(StepOutcome::Done) };
    let Some(mut registration) = session.observed.status.registration.clone() else {
        return Ok(StepOutcome::Done);
    };
    let name = session.observed.desired_name();
    let id = registration.credential_id;
    if !exists_remotely(context, session, &account, &registration, OPERATION).await? {
        return Ok(StepOutcome::Done);
    }
    let renamed = match session.acquire_slot(&account).await {
        Ok(slot) => account.rename(&slot, id, &name).await,
        Err(error) => Err(error),
    };
    let observed = &mut session.observed;
    match &renamed {
        Ok(()) => registration.name = name,
        Err(ApiError::NotFound) => {
            record_missing(context, session, id, OPERATION).await?;
            return Ok(StepOutcome::Done);
        }
        Err(error) if error.effect() == Effect::Unknown => {
            let failed = failed(context, observed, OPERATION, error);
            // Its name is unknown now.
            record_lost_rename(context, observed, registration, String::new()).await?;
            return Err(failed);
        }
        Err(_) => {}
    }
    registration.update_sent_time = None;
    observed.status.registration = Some(registration);
    renamed.map_err(|error| failed(context, observed, OPERATION, &error))?;
    Ok(StepOutcome::Done)
}

/// Records that the response to a rename was lost, and what is known of the name.
pub(super) async fn record_lost_rename(
    context: &Context,
    observed: &mut Observed,
    registration: Registration,
    name: String,
) -> Result<()> {
    let updating = Registration { name, ..with_update_sent(&registration) };
    start_settle_period(context, observed, &updating);
    let mut fact = observed.status.clone();
    fact.registration = Some(updating);
    status_writer::persist_result(context, observed, fact).await
}
