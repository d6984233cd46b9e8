//! Changes of what is registered: another secret, another name.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::drift::note_vanishing;
use super::{Step, check_app, note_failure, tell};
use crate::controller::context::Context;
use crate::controller::error::PassError;
use crate::controller::observe::Gathered;
use crate::controller::observed::Source;
use crate::controller::status::{self, Written};
use crate::destination::Operation;
use crate::resources::Registration;
use crate::resources::conditions::whole_second;
use crate::woodpecker::{ApiError, Certainty, SecretUpdate};

/// Replaces secret and expiry. Until the answer is there it is unknown which secret the credential has, and
/// the status says so before the request is sent: a crash, or a Secret that is put back, must not pass for
/// the secret that was registered before.
pub(super) async fn update(context: &Context, gathered: &mut Gathered) -> Result<Step, PassError> {
    let Gathered { observed, secret: Some(secret), account: Some(account), .. } = gathered else {
        return Ok(Step::Done);
    };
    let Some(before) = observed.status.registration.clone() else { return Ok(Step::Done) };
    let Source::Usable(source) = &observed.source else { return Ok(Step::Done) };
    let (fingerprint, expires_at) = (source.fingerprint.clone(), source.expires_at);
    if let Err(failure) = check_app(context, observed, account, before.credential_id, Operation::Update).await
    {
        observed.learnt.failure = Some(failure);
        return Ok(Step::Done);
    }
    let turn = match account.enter().await {
        Ok(turn) => turn,
        Err(error) => {
            note_failure(context, observed, Operation::Update, &error);
            return Ok(Step::Done);
        }
    };
    let mut intent = observed.status.clone();
    intent.registration = Some(Registration { fingerprint: Registration::UNKNOWN.into(), ..before.clone() });
    if intent != observed.written
        && status::write_intent(context, observed, intent).await? == Written::ObjectGone
    {
        return Ok(Step::ObjectGone);
    }
    let id = before.credential_id;
    if let Err(error) = account.update(&turn, id, SecretUpdate { secret, expires_at }).await {
        drop(turn);
        if error.certainty() == Certainty::NotProcessed {
            observed.status.registration = Some(before);
        }
        match error {
            ApiError::NotFound => note_vanishing(context, gathered, id, Operation::Update).await,
            error => note_failure(context, observed, Operation::Update, &error),
        }
        return Ok(Step::Done);
    }
    drop(turn);
    if let Source::Usable(source) = &mut observed.source {
        source.is_registered = true;
    }
    let mut fact = observed.status.clone();
    fact.registration = Some(Registration {
        fingerprint,
        expires_at: Time(whole_second(expires_at)),
        registered_at: Time(whole_second(Timestamp::now())),
        ..before
    });
    fact.candidate = None;
    tracing::info!(id, "Woodpecker has the new secret");
    if status::write_fact(context, observed, fact).await? == Written::ObjectGone {
        return Ok(Step::ObjectGone);
    }
    tell(context, observed, "Updated", format!("Woodpecker has the new secret for credential {id}")).await;
    Ok(Step::Done)
}

pub(super) async fn rename(context: &Context, gathered: &mut Gathered) {
    let Gathered { observed, account: Some(account), .. } = gathered else { return };
    let name = observed.wanted_name();
    let Some(mut registration) = observed.status.registration.clone() else { return };
    let id = registration.credential_id;
    if let Err(failure) = check_app(context, observed, account, id, Operation::Rename).await {
        observed.learnt.failure = Some(failure);
        return;
    }
    let renamed = match account.enter().await {
        Ok(turn) => account.rename(&turn, registration.credential_id, &name).await,
        Err(error) => Err(error),
    };
    match renamed {
        Ok(()) => {}
        Err(ApiError::NotFound) => {
            note_vanishing(context, gathered, registration.credential_id, Operation::Rename).await;
            return;
        }
        Err(error) => {
            note_failure(context, observed, Operation::Rename, &error);
            return;
        }
    }
    registration.name = name;
    observed.status.registration = Some(registration);
}
