//! The priority of a request in the queue of its account.

use std::time::Duration;

/// What a request is for, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestPriority {
    /// A deletion in a terminating namespace.
    TerminatingNamespace,
    /// A registered secret that does not work, expires within two days, or is unknown.
    Repair,
    /// A first registration.
    New,
    /// A new secret for an existing registration.
    Rotation,
    /// A deletion.
    Delete,
    /// A check of a difference between the account and the status.
    Drift,
    /// A periodic check.
    Resync,
    /// A new name, or the question who an API key belongs to, on which nothing depends.
    Rename,
    /// A listing of mailboxes, or their connection.
    Mailboxes,
}

// === impl RequestPriority ===

impl RequestPriority {
    pub const ALL: [Self; 9] = [
        Self::TerminatingNamespace,
        Self::Repair,
        Self::New,
        Self::Rotation,
        Self::Delete,
        Self::Drift,
        Self::Resync,
        Self::Rename,
        Self::Mailboxes,
    ];

    /// The value of the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TerminatingNamespace => "terminating_namespace",
            Self::Repair => "repair",
            Self::New => "new",
            Self::Rotation => "rotation",
            Self::Delete => "delete",
            Self::Drift => "drift",
            Self::Resync => "resync",
            Self::Rename => "rename",
            Self::Mailboxes => "mailboxes",
        }
    }

    /// The rank after waiting that long; 0 is the most urgent.
    pub fn rank(self, waited: Duration, aging: Duration) -> u128 {
        let lifted = waited.as_nanos() / aging.as_nanos().max(1);
        (self as u128).saturating_sub(lifted)
    }
}
