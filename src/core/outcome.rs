//! How a reconcile ended.

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object is as its spec demands.
    Success,
    /// The operator waits for a delay, a permit or another object.
    Waiting,
    /// A condition is False or Unknown, until a person or a remote side acts.
    NotMet,
    /// Something changed meanwhile: the reconcile is repeated.
    Requeued,
    /// The process is ending, or this replica does not lead for long enough.
    Interrupted,
    /// The object is deleted.
    ObjectDeleted,
    /// The Kubernetes API failed, or the reconcile took too long or panicked.
    Failed,
}

// === impl Outcome ===

impl Outcome {
    /// The `result` that controller-runtime has for it.
    pub fn result(self) -> &'static str {
        match self {
            Self::Success | Self::ObjectDeleted => "success",
            Self::Waiting | Self::NotMet => "requeue_after",
            Self::Requeued | Self::Interrupted => "requeue",
            Self::Failed => "error",
        }
    }

    /// The word in the operator's own metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Waiting => "waiting",
            Self::NotMet => "not_met",
            Self::Requeued => "requeued",
            Self::Interrupted => "interrupted",
            Self::ObjectDeleted => "object_deleted",
            Self::Failed => "failed",
        }
    }
}
