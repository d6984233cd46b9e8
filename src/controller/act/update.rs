//! Changes of what is registered: another secret, another name.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::listing::note_vanishing;
use super::{Shown, Step, is_as_read, look_at, note, note_failure};
use crate::controller::context::Context;
use crate::controller::error::PassError;
use crate::controller::observe::{Gathered, change_mark};
use crate::controller::observed::{Observed, Source};
use crate::controller::status::{self, Written};
use crate::destination::Operation;
use crate::resources::Registration;
use crate::resources::conditions::whole_second;
use crate::woodpecker::{ApiError, Certainty, SecretUpdate};

/// Replaces secret and expiry. Until the answer is there it is unknown which secret the credential has, and
/// the status says so before the request is sent: a crash, or a Secret that is put back, must not pass for
/// the secret that was registered before.
pub(super) async fn update(context: &Context, gathered: &mut Gathered) -> Result<Step, PassError> {
    let Some(account) = gathered.account.clone() else { return Ok(Step::Done) };
    let Some(before) = gathered.observed.status.registration.clone() else { return Ok(Step::Done) };
    let id = before.credential_id;
    match look_at(context, gathered, &account, &before, Operation::Update).await {
        Ok(Shown::Ours) => {}
        // No secret goes to what is not shown to be there: `decide` asks for it first.
        Ok(Shown::Nothing) => return Ok(Step::Done),
        Err(failure) => {
            gathered.observed.learnt.failure = Some(failure);
            return Ok(Step::Done);
        }
    }
    if gathered.secret.is_none() {
        return Ok(Step::Done);
    }
    // As with a create, the intent is written between grant and turn.
    if let Err(error) = gathered.ask(&account) {
        note_failure(context, &mut gathered.observed, Operation::Update, &error);
        return Ok(Step::Done);
    }
    let Source::Usable(source) = &gathered.observed.source else { return Ok(Step::Done) };
    let (fingerprint, expires_at) = (source.fingerprint.clone(), source.expires_at);
    // Nothing is written down for a request that may not be sent any more.
    context.leadership.admit(context.rules.timing.longest_call())?;
    let mut intent = gathered.observed.status.clone();
    let changing = Registration { fingerprint: Registration::UNKNOWN.into(), ..changing(&before) };
    intent.registration = Some(changing.clone());
    if status::write_intent(context, &mut gathered.observed, intent).await? == Written::ObjectGone {
        return Ok(Step::ObjectGone);
    }
    let sent = match gathered.turn_to_finish(&account).await {
        Ok(_) if !is_as_read(context, &gathered.observed) => None,
        Ok(turn) => {
            let Some(secret) = &gathered.secret else { return Ok(Step::Done) };
            Some(account.update(&turn, id, SecretUpdate { secret, expires_at }).await)
        }
        Err(error) => Some(Err(error)),
    };
    let observed = &mut gathered.observed;
    let Some(sent) = sent else {
        // Another pass is called by the change.
        let given_up = give_up(context, observed, before).await?;
        return Ok(if given_up == Step::Done { Step::Again } else { given_up });
    };
    if let Err(error) = sent {
        match error.certainty() {
            Certainty::NotProcessed => {
                if give_up(context, observed, before).await? == Step::ObjectGone {
                    return Ok(Step::ObjectGone);
                }
            }
            Certainty::Unknown => begin_to_settle(context, observed, &changing),
        }
        match error {
            ApiError::NotFound => note_vanishing(context, gathered, id, Operation::Update).await,
            error => note_failure(context, observed, Operation::Update, &error),
        }
        return Ok(Step::Done);
    }
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

/// Nothing has changed: what was registered before is so again. An earlier change has settled, or this one would
/// not have begun.
async fn give_up(
    context: &Context,
    observed: &mut Observed,
    before: Registration,
) -> Result<Step, PassError> {
    let mut fact = observed.status.clone();
    fact.registration = Some(Registration { change_sent_at: None, ..before });
    match status::write_fact(context, observed, fact).await? {
        Written::Yes => Ok(Step::Done),
        Written::ObjectGone => Ok(Step::ObjectGone),
    }
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
pub(super) async fn rename(context: &Context, gathered: &mut Gathered) -> Result<Step, PassError> {
    let Some(account) = gathered.account.clone() else { return Ok(Step::Done) };
    let Some(mut registration) = gathered.observed.status.registration.clone() else { return Ok(Step::Done) };
    let name = gathered.observed.wanted_name();
    let id = registration.credential_id;
    match look_at(context, gathered, &account, &registration, Operation::Rename).await {
        Ok(Shown::Ours) => {}
        Ok(Shown::Nothing) => return Ok(Step::Done),
        Err(failure) => {
            gathered.observed.learnt.failure = Some(failure);
            return Ok(Step::Done);
        }
    }
    let renamed = match gathered.turn(&account).await {
        Ok(turn) => account.rename(&turn, id, &name).await,
        Err(error) => Err(error),
    };
    let observed = &mut gathered.observed;
    match renamed {
        Ok(()) => {
            registration.name = name;
            registration.change_sent_at = None;
            observed.status.registration = Some(registration);
        }
        Err(ApiError::NotFound) => note_vanishing(context, gathered, id, Operation::Rename).await,
        Err(error) => {
            note_failure(context, observed, Operation::Rename, &error);
            if error.certainty() == Certainty::Unknown {
                // Whatever name it has then, it is not the right one for sure.
                return note_lost_rename(context, observed, registration, String::new()).await;
            }
            registration.change_sent_at = None;
            observed.status.registration = Some(registration);
        }
    }
    Ok(Step::Done)
}

/// Writes down that the answer to a rename was lost, and what is known of the name then.
pub(super) async fn note_lost_rename(
    context: &Context,
    observed: &mut Observed,
    registration: Registration,
    name: String,
) -> Result<Step, PassError> {
    let changing = Registration { name, ..changing(&registration) };
    begin_to_settle(context, observed, &changing);
    let mut fact = observed.status.clone();
    fact.registration = Some(changing);
    match status::write_fact(context, observed, fact).await? {
        Written::Yes => Ok(Step::Done),
        Written::ObjectGone => Ok(Step::ObjectGone),
    }
}
