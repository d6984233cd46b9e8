//! What the client secrets that the operator created for a credential mean for its state.

use super::{Assessment, ObjectState};
use crate::api::conditions::{Condition, ConditionStatus, ConditionType};
use crate::api::reasons::{Actor, ENTRIES, Entry};

/// The state of a credential that is Ready, if somebody must act so that its client secret is replaced in time, or because
/// of client secrets that nothing records.
pub(super) fn assess(state: &ObjectState) -> Option<Assessment> {
    let of = |type_, status| state.condition(type_).filter(|it| it.status == status);
    let condition = of(ConditionType::RotationReady, ConditionStatus::False)
        .or_else(|| of(ConditionType::UnknownOwnSecrets, ConditionStatus::True))?;
    let entry = entry(state, condition).filter(|entry| entry.actor != Actor::Nobody)?;
    let since = Some(condition.last_transition_time.0);
    Some(Assessment::in_progress(&condition.reason, &condition.message, since).needs(entry))
}

/// What the reason table says about the condition.
fn entry(state: &ObjectState, condition: &Condition) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| {
        entry.kind == state.kind
            && entry.condition.as_str() == condition.type_
            && entry.reason.as_str() == condition.reason
    })
}
