//! Deletes registrations, and adds and removes the finalizer.

use kube::{Api, Resource};

use crate::api::{
    FINALIZER, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, NamespacedName, Ownership,
    Registration,
};
use crate::controller::context::Context;
use crate::controller::credential::apply::listing::{listing_mismatch, not_found_but_listed};
use crate::controller::credential::apply::{
    StepOutcome, emit_event, exists_remotely, failed, rotation, step_failed,
};
use crate::controller::credential::observe::Session;
use crate::controller::error::{ReconcileError, Result};
use crate::controller::index::CredentialRef;
use crate::controller::orphans;
use crate::controller::{finalizers, status_writer};
use crate::core::event::EventBody;
use crate::core::failure::{Failure, FailureKind, Operation};
use crate::core::model::Observed;
use crate::core::orphan::OrphanCause;
use crate::core::plan::Finalization;
use crate::core::remote::split_token;
use crate::store::record::record_name;
use crate::woodpecker::{ApiError, RemoteAccount};

/// Adds or removes the finalizer, conditional on the resource version.
pub(super) async fn set_finalizer(
    context: &Context,
    session: &mut Session,
    wanted: bool,
) -> Result<StepOutcome> {
    let object = &session.observed.object;
    let api: Api<MicrosoftGraphCredential> = Api::namespaced(context.client.clone(), object.namespace_name());
    let set = finalizers::set(&context.leadership, &api, object, FINALIZER, wanted).await?;
    let object = set.ok_or(ReconcileError::Deleted)?;
    context.on_written(&object);
    session.observed.object = object;
    Ok(StepOutcome::Done)
}

/// Deletes the registration from the account, unless another object has registered it as well.
pub(super) async fn delete(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let Some(registration) = session.observed.status.registration.clone() else {
        return Ok(StepOutcome::Done);
    };
    let Some(account) = session.account.clone() else { return Ok(StepOutcome::Done) };
    let uid = session.observed.object.metadata.uid.clone().unwrap_or_default();
    let id = registration.credential_id;
    let object = &session.observed.object;
    let location = registration.location();
    let other = location
        .and_then(|location| context.index.other_owner(&uid, CredentialRef::of(object, &location, id)));
    if let Some(other) = other {
        tracing::error!(id, %other, "another object has registered the credential as well; it is left to that object");
        session.observed.results.other_owner = Some(other);
    } else {
        remove(context, session, &account, &registration).await?;
    }
    session.observed.results.is_deletion_done = true;
    if session.observed.status.previous_registrations.is_empty() {
        return Ok(StepOutcome::Done);
    }
    // The object stays until its previous registrations are deleted too. Its last event does not name this one.
    let observed = &session.observed;
    let what = describe(&registration);
    let (reason, text) = match &observed.results.other_owner {
        Some(other) => ("Retained", left_to(&what, other)),
        None => ("Deleted", format!("{what} was deleted")),
    };
    emit_event(context, observed, reason, text).await;
    let mut without = session.observed.status.clone();
    if session.observed.results.other_owner.is_some() {
        keep_secrets(&mut without, &registration);
    }
    (without.registration, without.credential_id, without.expires_at) = (None, None, None);
    status_writer::persist_result(context, &mut session.observed, without).await?;
    Ok(StepOutcome::Done)
}

/// A registration that is left has one of the client secrets that were in use when it was sent last, so none of these is
/// ever removed.
pub(super) fn keep_secrets(status: &mut MicrosoftGraphCredentialStatus, left: &Registration) {
    let Some(rotation) = status.rotation.as_deref_mut() else { return };
    // The outcome of the last update may be unknown.
    let sent = left.update_sent_time.iter().map(|at| at.0).fold(left.registration_time.0, Ord::max);
    let created = rotation.current.iter_mut().chain(&mut rotation.pending);
    for used in created.filter(|it| it.creation_time.0 <= sent) {
        used.kept = true;
    }
    for used in rotation.earlier.iter_mut().filter(|it| !it.unused && it.removal_time.is_none()) {
        used.kept = true;
    }
}

/// Deletes a previous registration from its account. If it is the current registration of any object, only the status
/// is corrected.
pub(super) async fn delete_previous(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let Some(first) = session.observed.previous_registration.as_ref().map(|it| it.registration.clone())
    else {
        return Ok(StepOutcome::Done);
    };
    let Some(account) = session.previous_account.clone() else { return Ok(StepOutcome::Done) };
    let id = first.credential_id;
    let object = &session.observed.object;
    let owner = first
        .location()
        .and_then(|location| context.index.current_owner(CredentialRef::of(object, &location, id)));
    let removed = match owner {
        Some(_) => Ok(()),
        None => remove(context, session, &account, &first).await,
    };
    match removed {
        Err(ReconcileError::Step(failure)) if !matches!(failure.kind, FailureKind::Queued(_)) => {
            session.observed.results.previous_failure = Some(Failure { id: Some(id), ..failure });
            // The others are tried before this one is retried.
            let previous = &mut session.observed.status.previous_registrations;
            if let Some(at) = previous.iter().position(|earlier| *earlier == first) {
                let failed = previous.remove(at);
                previous.push(failed);
            }
            return Ok(StepOutcome::Done);
        }
        removed => removed?,
    }
    let observed = &mut session.observed;
    let mut without = observed.status.clone();
    without.previous_registrations.retain(|earlier| *earlier != first);
    status_writer::persist_result(context, observed, without).await?;
    let what = format!("the previous {}", describe(&first));
    match owner {
        None => emit_event(context, observed, "PreviousDeleted", format!("{what} was deleted")).await,
        Some(owner) if owner != NamespacedName::of(&observed.object) => {
            emit_event(context, observed, "Retained", left_to(&what, &owner)).await;
        }
        // The object has returned to it.
        Some(_) => {}
    }
    Ok(StepOutcome::Requeue)
}

/// Deletes a registration from its account, after reading the object again. A 404 counts only if a live listing agrees,
/// and not everything else is missing as well.
async fn remove(
    context: &Context,
    session: &mut Session,
    account: &RemoteAccount,
    registration: &Registration,
) -> Result<()> {
    const OPERATION: Operation = Operation::Delete;
    let id = registration.credential_id;
    exists_remotely(context, session, account, registration, OPERATION).await?;
    let deleted = match session.acquire_slot(account).await {
        Ok(slot) => {
            status_writer::confirm_unchanged(context, &session.observed).await?;
            account.delete(&slot, id).await
        }
        Err(error) => Err(error),
    };
    match deleted {
        Ok(()) => {
            if let Some(name) = &registration.account {
                context.accounts.record_deleted(name, id);
            }
            return Ok(());
        }
        Err(ApiError::NotFound) => {}
        Err(error) => return Err(failed(context, &session.observed, OPERATION, &error)),
    }
    // A 404 alone is not enough.
    let listed = session.list_unconditionally(account).await;
    let observed = &session.observed;
    let listing = listed.map_err(|error| failed(context, observed, Operation::List, &error))?;
    if listing.contains(id) {
        return Err(not_found_but_listed(OPERATION));
    }
    match registration.account.as_ref().and_then(|name| listing_mismatch(context, name, &listing)) {
        Some(kind) => Err(step_failed(OPERATION, kind, Some(id))),
        None => Ok(()),
    }
}

/// Removes the finalizer and reports what is left.
pub(super) async fn finalize(
    context: &Context,
    session: &mut Session,
    finalization: Finalization,
) -> Result<StepOutcome> {
    let observed = &session.observed;
    let regarding = observed.object.object_ref(&());
    let (reason, text) = describe_finalization(observed, finalization);
    let text = match rotation::remaining(observed) {
        Some(left) => format!("{text}; {left}"),
        None => text,
    };
    let orphaned = orphan_cause(observed, finalization);
    let has_left = observed.rotation().is_some_and(|it| it.current.is_some() || it.pending.is_some());
    if matches!(finalization, Finalization::Deleted | Finalization::NeverRegistered)
        && observed.rotation().is_some()
        && !has_left
    {
        rotation::delete_record(context, session).await?;
    }
    if let Some(cause) = orphaned {
        orphans::log(&regarding, cause, &text);
    } else {
        tracing::info!(text, "finalized");
    }
    // Emitted only after the finalizer is removed, because a failure here is retried.
    let finalized = set_finalizer(context, session, false).await;
    if !matches!(finalized, Ok(_) | Err(ReconcileError::Deleted)) {
        return finalized;
    }
    if let Some(cause) = orphaned {
        orphans::publish(context, &regarding, cause, text).await;
    } else {
        let event =
            EventBody { is_warning: false, reason, action: "Delete", text, request_ids: String::new() };
        context.events.emit(&regarding, &event).await;
    }
    finalized
}

/// Why what stays is reported as orphaned. A namespace that ends takes the event and the record of a client secret with it.
fn orphan_cause(observed: &Observed, finalization: Finalization) -> Option<OrphanCause> {
    match finalization {
        Finalization::Orphaned(cause) => Some(cause),
        Finalization::Deleted
        | Finalization::NeverRegistered
        | Finalization::Retained
        | Finalization::NotOwned => {
            let is_left = observed.namespace_deleted_at.is_some() && rotation::remaining(observed).is_some();
            is_left.then_some(OrphanCause::Namespace)
        }
    }
}

/// The reason and the text of the event.
fn describe_finalization(observed: &Observed, finalization: Finalization) -> (&'static str, String) {
    let what = remaining_credentials(observed);
    let left = |why: &str| format!("{what} is left, because {why}");
    match (finalization, &observed.results.other_owner) {
        (Finalization::NeverRegistered, _) => ("Released", "nothing is registered".to_owned()),
        (Finalization::Deleted, None) => ("Deleted", format!("{what} was deleted")),
        (Finalization::Deleted, Some(other)) => ("Retained", left_to(&what, other)),
        (Finalization::Retained, _) => ("Retained", left("deletionPolicy is Retain")),
        (Finalization::NotOwned, _) => ("Retained", left("this object did not create it")),
        (Finalization::Orphaned(cause), _) => {
            ("Orphaned", format!("{what} is left although deletionPolicy is Delete, because {cause}"))
        }
    }
}

fn left_to(what: &str, other: &NamespacedName) -> String {
    format!("{what} is left, because {other} has registered it as well")
}

fn describe(registration: &Registration) -> String {
    let id = registration.credential_id;
    let what = match (&registration.record, &registration.account) {
        (Some(record), _) => format!("credential {id} in SealedGraphCredential {record}"),
        (None, Some(account)) => format!("credential {id} at WoodpeckerAccount {account}"),
        (None, None) => format!("credential {id}"),
    };
    let is_adopted = registration.ownership == Ownership::Adopted && registration.record.is_none();
    if is_adopted && split_token(&registration.name).is_some() {
        format!("{what} (created by an operator as {})", registration.name)
    } else {
        what
    }
}

/// Describes what the object has or may have registered.
fn remaining_credentials(observed: &Observed) -> String {
    let status = &observed.status;
    let registered = status.registration.iter().chain(&status.previous_registrations).map(describe);
    let has_unpersisted = observed.has_unpersisted_record();
    let unpersisted =
        has_unpersisted.then(|| format!("SealedGraphCredential {}", record_name(&observed.object)));
    let pending = status.pending_create.iter().map(|pending| {
        format!(
            "what a create of unknown outcome may have created at WoodpeckerAccount {} (its name ends with [{}])",
            pending.account, pending.idempotency_token
        )
    });
    let all = registered.chain(pending).chain(unpersisted).collect::<Vec<_>>().join(", ");
    if all.is_empty() {
        format!("SealedGraphCredential {}, if there is one,", record_name(&observed.object))
    } else {
        all
    }
}
