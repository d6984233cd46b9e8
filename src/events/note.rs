//! What there is to tell. PURE.

use crate::resources::conditions::Condition;

/// Something to tell people as an event of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub is_warning: bool,
    /// One word, stable.
    pub reason: &'static str,
    /// What was being done.
    pub action: &'static str,
    /// What is so and what to do.
    pub text: String,
    /// Ids and times by which the remote side finds the request, where there was one; they differ on each try.
    pub ids: String,
}

// === impl Note ===

impl Note {
    /// What a condition says, where this version knows its reason.
    pub fn of(condition: &Condition, is_warning: bool, action: &'static str, ids: String) -> Option<Self> {
        let reason = condition.as_desired()?.reason.as_str();
        Some(Self { is_warning, reason, action, text: condition.message.clone(), ids })
    }
}
