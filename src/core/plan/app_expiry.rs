//! The plan for the expiry at Microsoft Entra: when the app is read, and what waits for that.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::EntraStatus;
use crate::api::conditions::ConditionStatus;
use crate::core::app_reading::due_at;
use crate::core::expiry_confirmed;
use crate::core::model::{Observed, OperatorPolicy};
use crate::core::plan::conclusion::conclude;
use crate::core::plan::registration::{plan_cleanup, requeue_of_leftovers};
use crate::core::plan::retry::is_waiting;
use crate::core::plan::{Plan, ReconcileState, Requeue, Step};

/// For a verified secret: a reading that is due, or the end of the reconcile because the expiry is not known. What needs no
/// expiry is done before.
pub(super) fn plan_reading(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> Option<Plan> {
    let source = observed.usable_source()?;
    if is_due(observed, policy, now) {
        return Some(Plan::Step(Step::ReadExpiry));
    }
    if source.expires_at.is_some() {
        return None;
    }
    if !is_waiting(observed, now)
        && let Some(plan) = plan_cleanup(observed)
    {
        return Some(plan);
    }
    let problem = expiry_confirmed::condition(observed, &policy.timing, now);
    let needs_person = problem
        .is_some_and(|it| it.status != ConditionStatus::True && !expiry_confirmed::is_temporary(it.reason));
    let requeue = if needs_person { Requeue::Stalled(Duration::MAX) } else { Requeue::OnTrigger };
    let requeue = requeue_of_leftovers(observed, policy).unwrap_or(requeue);
    Some(conclude(ReconcileState::AwaitingExpiry, requeue))
}

fn is_due(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> bool {
    let is_new = observed.object.metadata.generation != Some(observed.status.observed_generation);
    // The expiry of a client secret that the operator created is known from its creation.
    let is_changed = is_new && !observed.rotates()
        || observed.object.is_reconcile_requested()
        || observed.is_reading_requested;
    observed.may_read_app()
        && observed.results.reading.is_none()
        && !observed.results.is_reading_deferred
        && (is_changed || reading_due_at(observed, observed.last_reading(), policy, now) <= now)
}

/// When the app must be read again, given what was last read about the secret.
pub fn reading_due_at(
    observed: &Observed,
    last: Option<&EntraStatus>,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> Timestamp {
    last.map_or(now, |last| due_at(last, &observed.app_name(), &policy.timing, now))
}
