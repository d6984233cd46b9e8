//! Changes of what is registered: another secret, another name.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::listing::note_vanishing;
use super::{Step, failed, is_as_read, is_shown, note};
use crate::controller::context::Context;
use crate::controller::error::Result;
use crate::controller::observe::{Gathered, change_mark};
use crate::controller::observed::{Observed, Source};
use crate::controller::status;
use crate::destination::Operation;
use crate::resources::Registration;
use crate::resources::conditions::whole_second;
use crate::woodpecker::{ApiError, Certainty, SecretUpdate};

/// Replaces secret and expiry. Until the answer is there it is unknown which secret the credential has, and
/// the status says so before the request is sent: a crash, or a Secret that is put back, must not pass for
/// the secret that was registered before.
pub(super) async fn update(context: &Context, gathered: &mut Gathered) -> Result<Step> {
    const OPERATION: Operation = Operation::Update;
    let Some(account) = gathered.account.clone() else { return Ok(Step::Done) };
    let Some(before) = gathered.observed.status.registration.clone() else { return Ok(Step::Done) };
    // No secret goes to what is not shown to be there: `decide` asks for it first.
    if !is_shown(context, gathered, &account, &before, OPERATION).await? {
        return Ok(Step::Done);
    }
    let Some(secret) = gathered.secret.clone() else { return Ok(Step::Done) };
    // As with a create, the intent is written between grant and turn.
    gathered.ask(&account).map_err(|error| failed(context, &gathered.observed, OPERATION, &error))?;
    let Source::Usable(source) = &gathered.observed.source else { return Ok(Step::Done) };
    let (fingerprint, expires_at) = (source.fingerprint.clone(), source.expires_at);
    // Nothing is written down for a request that may not be sent any more.
    context.leadership.admit(context.rules.timing.longest_call())?;
    let mut intent = gathered.observed.status.clone();
    let changing = Registration { fingerprint: Registration::UNKNOWN.into(), ..changing(&before) };
    intent.registration = Some(changing.clone());
    status::write_intent(context, &mut gathered.observed, intent).await?;
    let turn = gathered.turn_to_finish(&account).await;
    let observed = &mut gathered.observed;
    let sent = match turn {
        Ok(turn) if !is_as_read(context, observed) => {
            drop(turn);
            // Another pass is called by the change.
            give_up(context, observed, before).await?;
            return Ok(Step::Again);
        }
        Ok(turn) => {
            let update = SecretUpdate { secret: &secret, expires_at };
            account.update(&turn, before.credential_id, update).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        return not_updated(context, gathered, before, &changing, &error).await;
    }
    let id = before.credential_id;
    if let Source::Usable(source) = &mut observed.source {
        source.is_registered = true;
    }
    observed.status.registration = Some(Registration {
        fingerprint,
        expires_at: Time(whole_second(expires_at)),
        registered_at: Time(whole_second(Timestamp::now())),
        change_sent_at: None,
        ..before
    });
    observed.status.candidate = None;
    observed.is_unrecorded = true;
    tracing::info!(id, "Woodpecker has the new secret");
    note(observed, "Updated", format!("Woodpecker has the new secret for credential {id}"));
    Ok(Step::Done)
}

/// An update failed, or its outcome is unknown.
async fn not_updated(
    context: &Context,
    gathered: &mut Gathered,
    before: Registration,
    changing: &Registration,
    error: &ApiError,
) -> Result<Step> {
    let (observed, id) = (&mut gathered.observed, before.credential_id);
    match error.certainty() {
        Certainty::NotProcessed => give_up(context, observed, before).await?,
        Certainty::Unknown => begin_to_settle(context, observed, changing),
    }
    match error {
        ApiError::NotFound => note_vanishing(context, gathered, id, Operation::Update).await?,
        error => return Err(failed(context, observed, Operation::Update, error)),
    }
    Ok(Step::Done)
}

/// Nothing has changed: what was registered before is so again. An earlier change has settled, or this one would
/// not have begun.
async fn give_up(context: &Context, observed: &mut Observed, before: Registration) -> Result<()> {
    let mut fact = observed.status.clone();
    fact.registration = Some(Registration { change_sent_at: None, ..before });
    status::write_fact(context, observed, fact).await
}

/// A registration to which a change is being sent.
fn changing(registration: &Registration) -> Registration {
    Registration { change_sent_at: Some(Time(whole_second(Timestamp::now()))), ..registration.clone() }
}

/// The answer to the change was lost just now.
fn begin_to_settle(context: &Context, observed: &Observed, changing: &Registration) {
    let uid = observed.object.metadata.uid.as_deref().unwrap_or_default();
    let mark = change_mark(changing).unwrap_or_default();
    context.index.with(uid, |known| known.change.begin(&mark));
}

/// Replaces the name alone.
pub(super) async fn rename(context: &Context, gathered: &mut Gathered) -> Result<Step> {
    const OPERATION: Operation = Operation::Rename;
    let Some(account) = gathered.account.clone() else { return Ok(Step::Done) };
    let Some(mut registration) = gathered.observed.status.registration.clone() else { return Ok(Step::Done) };
    let name = gathered.observed.wanted_name();
    let id = registration.credential_id;
    if !is_shown(context, gathered, &account, &registration, OPERATION).await? {
        return Ok(Step::Done);
    }
    let renamed = match gathered.turn(&account).await {
        Ok(turn) => account.rename(&turn, id, &name).await,
        Err(error) => Err(error),
    };
    let observed = &mut gathered.observed;
    match &renamed {
        Ok(()) => registration.name = name,
        Err(ApiError::NotFound) => {
            note_vanishing(context, gathered, id, OPERATION).await?;
            return Ok(Step::Done);
        }
        Err(error) if error.certainty() == Certainty::Unknown => {
            let failed = failed(context, observed, OPERATION, error);
            // Whatever name it has then, it is not the right one for sure.
            note_lost_rename(context, observed, registration, String::new()).await?;
            return Err(failed);
        }
        Err(_) => {}
    }
    registration.change_sent_at = None;
    observed.status.registration = Some(registration);
    renamed.map_err(|error| failed(context, observed, OPERATION, &error))?;
    Ok(Step::Done)
}

/// Writes down that the answer to a rename was lost, and what is known of the name then.
pub(super) async fn note_lost_rename(
    context: &Context,
    observed: &mut Observed,
    registration: Registration,
    name: String,
) -> Result<()> {
    let changing = Registration { name, ..changing(&registration) };
    begin_to_settle(context, observed, &changing);
    let mut fact = observed.status.clone();
    fact.registration = Some(changing);
    status::write_fact(context, observed, fact).await
}
