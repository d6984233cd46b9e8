//! The end of an object, and the finalizer that makes a deletion wait for it.

use kube::{Api, Resource};

use super::listing::{distrust, refused_though_listed};
use super::{Step, failed, is_shown, step_failed, tell};
use crate::controller::context::Context;
use crate::controller::decide::Parting;
use crate::controller::error::{PassError, Result};
use crate::controller::finalizers;
use crate::controller::index::{Kin, Named};
use crate::controller::observe::Gathered;
use crate::controller::observed::Observed;
use crate::controller::status;
use crate::destination::{Failure, FailureKind, Operation};
use crate::events::Note;
use crate::resources::{FINALIZER, MicrosoftGraphCredential, Registration};
use crate::store::record::record_name;
use crate::woodpecker::{ApiError, RemoteAccount};

/// Puts our finalizer on the object or takes it off, under the resource version that was seen.
pub(super) async fn set_finalizer(context: &Context, gathered: &mut Gathered, wanted: bool) -> Result<Step> {
    let object = &gathered.observed.object;
    let api: Api<MicrosoftGraphCredential> = Api::namespaced(context.client.clone(), object.namespace_name());
    let set = finalizers::set(&context.leadership, &api, object, FINALIZER, wanted).await?;
    let object = set.ok_or(PassError::Gone)?;
    context.note_written(&object);
    gathered.observed.object = object;
    Ok(Step::Done)
}

/// Removes the registration from the account. What another object has registered as well is left to it.
pub(super) async fn delete(context: &Context, gathered: &mut Gathered) -> Result<Step> {
    let Some(registration) = gathered.observed.status.registration.clone() else { return Ok(Step::Done) };
    let Some(account) = gathered.account.clone() else { return Ok(Step::Done) };
    let uid = gathered.observed.object.metadata.uid.clone().unwrap_or_default();
    let id = registration.credential_id;
    let object = &gathered.observed.object;
    let place = registration.place();
    let other = place.and_then(|place| context.index.other_holder(&uid, Kin::of(object, &place, id)));
    if let Some(other) = other {
        tracing::error!(id, %other, "the credential is held by another object as well, and is left to it");
        gathered.observed.learnt.left_to = Some(other);
    } else {
        remove(context, gathered, &account, &registration).await?;
    }
    gathered.observed.learnt.removed = true;
    if gathered.observed.status.retiring.is_empty() {
        return Ok(Step::Done);
    }
    // The object stays until its earlier registrations are removed too.
    let mut without = gathered.observed.status.clone();
    (without.registration, without.credential_id, without.expires_at) = (None, None, None);
    status::write_fact(context, &mut gathered.observed, without).await?;
    Ok(Step::Done)
}

/// Removes an earlier registration from its account. What is registered now, here or by another object, is
/// left: then only the books are wrong.
pub(super) async fn retire(context: &Context, gathered: &mut Gathered) -> Result<Step> {
    let Some(first) = gathered.observed.retiring.as_ref().map(|it| it.registration.clone()) else {
        return Ok(Step::Done);
    };
    let Some(account) = gathered.retiring_account.clone() else { return Ok(Step::Done) };
    let id = first.credential_id;
    let object = &gathered.observed.object;
    let is_in_use = first.place().is_some_and(|place| context.index.is_current(Kin::of(object, &place, id)));
    let removed = if is_in_use { Ok(()) } else { remove(context, gathered, &account, &first).await };
    match removed {
        Err(PassError::Step(failure)) if !matches!(failure.kind, FailureKind::Queued(_)) => {
            gathered.observed.learnt.retiring_failure = Some(Failure { id: Some(id), ..failure });
            // The others have their turn before it is tried again.
            let retiring = &mut gathered.observed.status.retiring;
            if let Some(at) = retiring.iter().position(|earlier| *earlier == first) {
                let failed = retiring.remove(at);
                retiring.push(failed);
            }
            return Ok(Step::Done);
        }
        removed => removed?,
    }
    let observed = &mut gathered.observed;
    let mut without = observed.status.clone();
    without.retiring.retain(|earlier| *earlier != first);
    status::write_fact(context, observed, without).await?;
    if !is_in_use {
        let account = first.account.as_ref().map(ToString::to_string).unwrap_or_default();
        let text = format!("the earlier credential {id} at WoodpeckerAccount {account} was removed");
        tell(context, observed, "Retired", text).await;
    }
    Ok(Step::Again)
}

/// Removes a registration from its account, where the object still says so. A 404 counts only where a fresh listing agrees,
/// and where not everything else is missing as well.
async fn remove(
    context: &Context,
    gathered: &mut Gathered,
    account: &RemoteAccount,
    registration: &Registration,
) -> Result<()> {
    const OPERATION: Operation = Operation::Delete;
    let id = registration.credential_id;
    is_shown(context, gathered, account, registration, OPERATION).await?;
    let deleted = match gathered.turn(account).await {
        Ok(turn) => {
            status::confirm(context, &gathered.observed).await?;
            account.delete(&turn, id).await
        }
        Err(error) => Err(error),
    };
    match deleted {
        Ok(()) => {
            if let Some(name) = &registration.account {
                context.accounts.note_removed(name, id);
            }
            return Ok(());
        }
        Err(ApiError::NotFound) => {}
        Err(error) => return Err(failed(context, &gathered.observed, OPERATION, &error)),
    }
    // It was not found: whether it is gone indeed.
    let listed = gathered.list_to_finish(account).await;
    let observed = &gathered.observed;
    let listing = listed.map_err(|error| failed(context, observed, Operation::List, &error))?;
    if listing.contains(id) {
        return Err(refused_though_listed(OPERATION));
    }
    match registration.account.as_ref().and_then(|name| distrust(context, name, &listing)) {
        Some(kind) => Err(step_failed(OPERATION, kind, Some(id))),
        None => Ok(()),
    }
}

/// Tells what is left and lets the object go.
pub(super) async fn let_go(context: &Context, gathered: &mut Gathered, parting: Parting) -> Result<Step> {
    let observed = &gathered.observed;
    let own = Named::of(&observed.object);
    let what = what_is_held(observed);
    let (orphaned, reason, text) = match parting {
        Parting::NeverRegistered => (None, "Released", "nothing was registered".to_owned()),
        Parting::Removed => match &observed.learnt.left_to {
            None => (None, "Deleted", format!("{what} was removed")),
            Some(other) => (None, "Retained", format!("{what} is left, for {other} holds it as well")),
        },
        Parting::Retained => (None, "Retained", format!("{what} is left as deletionPolicy Retain says")),
        Parting::NotOurs => (None, "Retained", format!("{what} is left, for this object did not make it")),
        Parting::OrphanedBySuspension => {
            let why = "for the object was suspended";
            (
                Some("suspended"),
                "Orphaned",
                format!("{what} is left although deletionPolicy is Delete, {why}"),
            )
        }
        Parting::OrphanedByNamespace => {
            let why = "for the namespace could not wait longer";
            (
                Some("namespace"),
                "Orphaned",
                format!("{what} is left although deletionPolicy is Delete, {why}"),
            )
        }
    };
    let is_warning = orphaned.is_some();
    if is_warning {
        tracing::error!(object = %own, text, "an orphan is left");
    } else {
        tracing::info!(object = %own, text, "let go");
    }
    let regarding = observed.object.object_ref(&());
    // Told once it is so: what fails here is tried again.
    let released = set_finalizer(context, gathered, false).await;
    if !matches!(released, Ok(_) | Err(PassError::Gone)) {
        return released;
    }
    if let Some(cause) = orphaned {
        context.metrics.credentials.orphaned(cause);
    }
    let note = Note { is_warning, reason, action: "Delete", text, ids: String::new() };
    if is_warning {
        context.events.publish_orphan(&regarding, &note).await;
    } else {
        context.events.emit(&regarding, &note).await;
    }
    released
}

/// What the object holds or may hold, in words.
fn what_is_held(observed: &Observed) -> String {
    let status = &observed.status;
    let registered = status.registration.iter().chain(&status.retiring).map(|registration| {
        let id = registration.credential_id;
        match (&registration.record, &registration.account) {
            (Some(record), _) => format!("credential {id} in SealedGraphCredential {record}"),
            (None, Some(account)) => format!("credential {id} at WoodpeckerAccount {account}"),
            (None, None) => format!("credential {id}"),
        }
    });
    let is_unbooked = observed.has_unbooked_record();
    let unbooked = is_unbooked.then(|| format!("SealedGraphCredential {}", record_name(&observed.object)));
    let pending = status.pending.iter().map(|pending| {
        format!(
            "what a create of unknown outcome may have made at WoodpeckerAccount {} (its name ends with [{}])",
            pending.account, pending.token
        )
    });
    let all = registered.chain(pending).chain(unbooked).collect::<Vec<_>>().join(", ");
    if all.is_empty() {
        format!("SealedGraphCredential {}, if there is one,", record_name(&observed.object))
    } else {
        all
    }
}
