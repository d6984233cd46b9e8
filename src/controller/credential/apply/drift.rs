//! Checks differences between the account and the status before anything is changed.

use crate::controller::context::Context;
use crate::controller::credential::apply::listing::{check_mismatch, record_missing};
use crate::controller::credential::apply::update::record_lost_rename;
use crate::controller::credential::apply::{
    StepOutcome, emit_event, exists_remotely, failed, failure, step_failed,
};
use crate::controller::credential::observe::Session;
use crate::controller::error::{ReconcileError, Result};
use crate::controller::index::CredentialRef;
use crate::controller::status_writer;
use crate::core::failure::{Failure, FailureKind, Operation};
use crate::core::model::{Existence, Target};
use crate::core::remote::Entry;
use crate::telemetry::metrics::Drift;
use crate::woodpecker::{ApiError, Effect};

/// Checks that the registration exists by renaming it to its current name: a listing may be incomplete, empty or of
/// another account.
pub(super) async fn check_existence(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    const OPERATION: Operation = Operation::Rename;
    let Some(registration) = session.observed.status.registration.clone() else {
        return Ok(StepOutcome::Done);
    };
    let Some(account) = session.account.clone() else { return Ok(StepOutcome::Done) };
    let id = registration.credential_id;
    exists_remotely(context, session, &account, &registration, OPERATION).await?;
    check_mismatch(context, session)?;
    let known = Some(registration.name.clone()).filter(|name| !name.is_empty());
    let name = known.unwrap_or_else(|| session.observed.desired_name());
    if name.is_empty() {
        tracing::warn!(id, "the listing lacks a credential whose name is not known");
        return Err(step_failed(OPERATION, FailureKind::NameUnknown, None));
    }
    let renamed = match session.acquire_slot(&account).await {
        Ok(slot) => account.rename(&slot, id, &name).await,
        Err(error) => Err(error),
    };
    match renamed {
        Ok(()) => {
            context.metrics.credentials.drifted(Drift::Unlisted);
            tracing::warn!(id, "the listing lacks a credential that exists");
            session.observed.results.existence = Some(Existence::Present);
            if let Target::Ready(target) = &session.observed.target {
                context.accounts.record_present(&target.location.account, id, &context.requeuer);
            }
        }
        Err(ApiError::NotFound) => record_missing(context, session, id, OPERATION).await?,
        Err(error) => {
            let failed = failed(context, &session.observed, OPERATION, &error);
            if error.effect() == Effect::Unknown {
                let name = registration.name.clone();
                record_lost_rename(context, &mut session.observed, registration, name).await?;
            }
            return Err(failed);
        }
    }
    Ok(StepOutcome::Done)
}

/// Deletes a duplicate that a late request of the operator created. A failure does not stop other steps.
pub(super) async fn delete_duplicate(
    context: &Context,
    session: &mut Session,
    id: i64,
) -> Result<StepOutcome> {
    let Some(account) = session.account.clone() else { return Ok(StepOutcome::Done) };
    let Target::Ready(target) = &session.observed.target else { return Ok(StepOutcome::Done) };
    let are_objects_known = context.index.are_credentials_listed();
    if !are_objects_known && session.observed.object.is_deleted() {
        // Nothing would delete it later, so the deletion waits.
        tracing::warn!(id, "a duplicate is not removed before all objects are known");
        return Err(step_failed(Operation::Delete, FailureKind::ObjectsUnknown, Some(id)));
    }
    if !are_objects_known
        || context.index.is_current(CredentialRef::of(&session.observed.object, &target.location, id))
    {
        tracing::warn!(
            id,
            are_objects_known,
            "a duplicate is left, because another object may have registered it"
        );
        session.observed.results.failed_duplicates.push(id);
        return Ok(StepOutcome::Done);
    }
    let removed = match session.acquire_slot(&account).await {
        Ok(slot) => {
            status_writer::confirm_unchanged(context, &session.observed).await?;
            account.delete(&slot, id).await
        }
        Err(error) => Err(error),
    };
    let observed = &mut session.observed;
    match removed {
        Ok(()) | Err(ApiError::NotFound) => {
            context.metrics.credentials.drifted(Drift::Duplicate);
            tracing::warn!(id, "a late duplicate of this object's own credential was deleted");
            let text = format!("duplicate credential {id}, which a late request had created, was deleted");
            emit_event(context, observed, "DuplicateRemoved", text).await;
            let without = |entries: &mut Vec<Entry>| entries.retain(|entry| entry.id != id);
            observed.cached_entries.iter_mut().for_each(without);
            observed.results.listed.iter_mut().for_each(|listed| without(&mut listed.entries));
        }
        Err(error) => {
            let failure = Failure { id: Some(id), ..failure(context, observed, Operation::Delete, &error) };
            if observed.object.is_deleted() || matches!(failure.kind, FailureKind::Queued(_)) {
                return Err(ReconcileError::Step(failure));
            }
            observed.results.failed_duplicates.push(id);
        }
    }
    Ok(StepOutcome::Done)
}
