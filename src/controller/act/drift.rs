//! What the account holds does not agree with what is written down: look closely before anything is done.

use super::listing::{check_divergence, note_vanishing};
use super::update::note_lost_rename;
use super::{Step, failed, failure, is_shown, step_failed, tell};
use crate::controller::context::Context;
use crate::controller::error::{PassError, Result};
use crate::controller::index::Kin;
use crate::controller::observe::Gathered;
use crate::controller::observed::{Probe, Target};
use crate::controller::status;
use crate::destination::{Failure, FailureKind, Operation};
use crate::telemetry::metrics::Drift;
use crate::woodpecker::{ApiError, Certainty, Entry};

/// Asks for the registration by its id, with the name that it has already: a listing may be short, empty or
/// somebody else's.
pub(super) async fn probe(context: &Context, gathered: &mut Gathered) -> Result<Step> {
    const OPERATION: Operation = Operation::Rename;
    let Some(registration) = gathered.observed.status.registration.clone() else { return Ok(Step::Done) };
    let Some(account) = gathered.account.clone() else { return Ok(Step::Done) };
    let id = registration.credential_id;
    is_shown(context, gathered, &account, &registration, OPERATION).await?;
    check_divergence(context, gathered)?;
    let known = Some(registration.name.clone()).filter(|name| !name.is_empty());
    let name = known.unwrap_or_else(|| gathered.observed.wanted_name());
    if name.is_empty() {
        tracing::warn!(id, "the listing lacks a credential whose name is not known");
        return Err(step_failed(OPERATION, FailureKind::NoName, None));
    }
    let asked = match gathered.turn(&account).await {
        Ok(turn) => account.rename(&turn, id, &name).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(()) => {
            context.metrics.credentials.drifted(Drift::Hidden);
            tracing::warn!(id, "the listing lacks a credential that is there");
            gathered.observed.learnt.probe = Some(Probe::Present);
            if let Target::Ready(target) = &gathered.observed.target {
                context.accounts.note_present(&target.place.account, id, &context.calls);
            }
        }
        Err(ApiError::NotFound) => note_vanishing(context, gathered, id, OPERATION).await?,
        Err(error) => {
            let failed = failed(context, &gathered.observed, OPERATION, &error);
            if error.certainty() == Certainty::Unknown {
                let name = registration.name.clone();
                note_lost_rename(context, &mut gathered.observed, registration, name).await?;
            }
            return Err(failed);
        }
    }
    Ok(Step::Done)
}

/// Removes what a late request of ours has made a second time. That it cannot be removed stops nothing else.
pub(super) async fn remove_duplicate(context: &Context, gathered: &mut Gathered, id: i64) -> Result<Step> {
    let Some(account) = gathered.account.clone() else { return Ok(Step::Done) };
    let Target::Ready(target) = &gathered.observed.target else { return Ok(Step::Done) };
    let is_known_to_be_ours = context.index.are_credentials_listed();
    if !is_known_to_be_ours && gathered.observed.object.is_deleted() {
        // Nobody looks for it afterwards, so the end waits.
        tracing::warn!(id, "a duplicate is not removed before all objects are known");
        return Err(step_failed(Operation::Delete, FailureKind::ObjectsUnknown, Some(id)));
    }
    if !is_known_to_be_ours || context.index.is_current(Kin::of(&gathered.observed.object, &target.place, id))
    {
        tracing::warn!(
            id,
            is_known_to_be_ours,
            "a duplicate is left, for another object may have registered it"
        );
        gathered.observed.learnt.stuck_duplicates.push(id);
        return Ok(Step::Done);
    }
    let removed = match gathered.turn(&account).await {
        Ok(turn) => {
            status::confirm(context, &gathered.observed).await?;
            account.delete(&turn, id).await
        }
        Err(error) => Err(error),
    };
    let observed = &mut gathered.observed;
    match removed {
        Ok(()) | Err(ApiError::NotFound) => {
            context.metrics.credentials.drifted(Drift::Duplicate);
            tracing::warn!(id, "a late duplicate of this object's own credential was removed");
            let text = format!("credential {id}, which a late request had made a second time, was removed");
            tell(context, observed, "DuplicateRemoved", text).await;
            let without = |entries: &mut Vec<Entry>| entries.retain(|entry| entry.id != id);
            observed.seen.iter_mut().for_each(without);
            observed.learnt.listed.iter_mut().for_each(|listed| without(&mut listed.entries));
        }
        Err(error) => {
            let failure = Failure { id: Some(id), ..failure(context, observed, Operation::Delete, &error) };
            if observed.object.is_deleted() || matches!(failure.kind, FailureKind::Queued(_)) {
                return Err(PassError::Step(failure));
            }
            observed.learnt.stuck_duplicates.push(id);
        }
    }
    Ok(Step::Done)
}
