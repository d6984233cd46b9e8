//! The content of a Kubernetes event.

use crate::api::conditions::Condition;

/// The content of an event about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBody {
    pub is_warning: bool,
    /// A stable word in `CamelCase`.
    pub reason: &'static str,
    /// What the operator was doing.
    pub action: &'static str,
    /// What happened and what to do.
    pub text: String,
    /// IDs and times by which the remote side finds the request, if there was one; they differ on each attempt.
    pub request_ids: String,
}

// === impl EventBody ===

impl EventBody {
    /// An event with the reason and message of a condition, if this version knows its reason.
    pub fn of(
        condition: &Condition,
        is_warning: bool,
        action: &'static str,
        request_ids: String,
    ) -> Option<Self> {
        let reason = condition.as_desired()?.reason.as_str();
        Some(Self { is_warning, reason, action, text: condition.message.clone(), request_ids })
    }
}
