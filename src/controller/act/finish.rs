//! The end of an object, and the finalizer that makes a deletion wait for it.

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::{Step, is_gone, note_failure, refused_though_listed};
use crate::controller::context::Context;
use crate::controller::decide::Parting;
use crate::controller::error::PassError;
use crate::controller::index::Named;
use crate::controller::observe::Gathered;
use crate::controller::report::Note;
use crate::destination::Operation;
use crate::resources::{FINALIZER, MicrosoftGraphCredential};
use crate::woodpecker::ApiError;

/// Puts our finalizer on the object or takes it off, under the resource version that was seen.
pub(super) async fn set_finalizer(
    context: &Context,
    gathered: &mut Gathered,
    wanted: bool,
) -> Result<Step, PassError> {
    context.leadership.admit_write()?;
    let object = &gathered.observed.object;
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    if wanted {
        finalizers.push(FINALIZER.to_owned());
    }
    let patch =
        json!({"metadata": {"resourceVersion": object.metadata.resource_version, "finalizers": finalizers}});
    let api: Api<MicrosoftGraphCredential> = Api::namespaced(context.client.clone(), object.namespace_name());
    match api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(object) => {
            gathered.observed.object = object;
            Ok(Step::Done)
        }
        Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(Step::ObjectGone),
        Err(kube::Error::Api(answer)) if answer.is_conflict() => Err(PassError::Conflict),
        Err(error) => Err(PassError::WriteFinalizer(error)),
    }
}

/// Removes the registration from the account. A 404 counts only where a fresh listing agrees.
pub(super) async fn delete(context: &Context, gathered: &mut Gathered) {
    let Some(id) =
        gathered.observed.status.registration.as_ref().map(|registration| registration.credential_id)
    else {
        return;
    };
    let Some(account) = gathered.account.clone() else { return };
    match account.delete(id).await {
        Ok(()) => gathered.observed.learnt.removed = true,
        Err(ApiError::NotFound) => match is_gone(gathered, id).await {
            Ok(true) => gathered.observed.learnt.removed = true,
            Ok(false) => gathered.observed.learnt.failure = Some(refused_though_listed(Operation::Delete)),
            Err(error) => note_failure(context, &mut gathered.observed, Operation::List, &error),
        },
        Err(error) => note_failure(context, &mut gathered.observed, Operation::Delete, &error),
    }
    if gathered.observed.learnt.removed {
        let account = gathered
            .observed
            .status
            .registration
            .as_ref()
            .and_then(|registration| registration.account.clone());
        if let Some(account) = account {
            context.accounts.forget_registration(&account, &gathered.observed.object, &context.calls);
        }
    }
}

/// Tells what is left and lets the object go.
pub(super) async fn let_go(
    context: &Context,
    gathered: &mut Gathered,
    parting: Parting,
) -> Result<Step, PassError> {
    let observed = &gathered.observed;
    let own = Named::of(&observed.object);
    let what = match &observed.status.registration {
        Some(registration) => {
            let account = registration.account.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("credential {} at WoodpeckerAccount {account}", registration.credential_id)
        }
        None => "what a create of unknown outcome may have made".to_owned(),
    };
    let (is_warning, reason, text) = match parting {
        Parting::NeverRegistered => (false, "Released", "nothing was registered".to_owned()),
        Parting::Removed => (false, "Deleted", format!("{what} was removed")),
        Parting::Retained => (false, "Retained", format!("{what} is left as deletionPolicy Retain says")),
        Parting::NotOurs => (false, "Retained", format!("{what} is left, for this object did not make it")),
        Parting::OrphanedBySuspension => (
            true,
            "Orphaned",
            format!("{what} is left although deletionPolicy is Delete, for the object was suspended"),
        ),
        Parting::OrphanedByNamespace => (
            true,
            "Orphaned",
            format!(
                "{what} is left although deletionPolicy is Delete, for the namespace could not wait longer"
            ),
        ),
    };
    match parting {
        Parting::OrphanedBySuspension => context.metrics.orphaned("suspended"),
        Parting::OrphanedByNamespace => context.metrics.orphaned("namespace"),
        Parting::NeverRegistered | Parting::Removed | Parting::Retained | Parting::NotOurs => {}
    }
    if is_warning {
        tracing::error!(object = %own, text, "an orphan is left");
    } else {
        tracing::info!(object = %own, text, "let go");
    }
    let note = Note { is_warning, reason, action: "Delete", text };
    context.events.publish(&observed.object.object_ref(&()), &note).await;
    match set_finalizer(context, gathered, false).await? {
        Step::ObjectGone => Ok(Step::ObjectGone),
        Step::Done => Ok(Step::Done),
    }
}
