//! Why there is no token for Microsoft Graph.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::api::conditions::Reason;
use crate::core::diagnosis::Rejection;
use crate::core::model::ConditionFailure;
use crate::k8s::leadership::NotLeading;

/// Why there is no token for Microsoft Graph. The texts name the problem and what to do, and stay the same on each
/// attempt.
#[derive(Clone, Debug, Error)]
pub enum GraphTokenError {
    /// The ServiceAccount token, the certificate or the client secret cannot be used; nothing was sent.
    #[error("{}", .0.message)]
    Unusable(ConditionFailure),
    /// The API server did not respond with the Secret; trying again may help.
    #[error("failed to read Secret {name}")]
    ReadSecret { name: String, source: Arc<kube::Error> },
    /// Entra rejects the sign-in until a person changes something.
    #[error("{message}")]
    Rejected {
        rejection: Rejection,
        /// The problem and what to do.
        message: String,
        /// Where an admin of the tenant consents, if that is what is missing.
        consent_url: Option<String>,
    },
    #[error("Microsoft limits the rate of requests; the operator tries again")]
    RateLimited { retry_after: Option<Duration> },
    #[error(
        "Microsoft's token endpoint could not be reached or failed; the operator tries again. If this persists, check \
         its outbound connection to the internet"
    )]
    Unavailable { retry_after: Option<Duration> },
    /// This replica does not lead for long enough; nothing was sent.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
}

// === impl GraphTokenError ===

impl GraphTokenError {
    /// The reason of a condition; `None` if the error says nothing about the identity.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Unusable(problem) => Some(problem.reason),
            Self::Rejected { rejection, .. } => Some(rejection.reason),
            Self::RateLimited { .. } => Some(Reason::RateLimited),
            Self::Unavailable { .. } => Some(Reason::MicrosoftUnavailable),
            Self::ReadSecret { .. } | Self::NotLeading(_) => None,
        }
    }

    /// As log lines and metrics name it.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unusable(_) => "unusable",
            Self::ReadSecret { .. } => "read_secret",
            Self::Rejected { .. } => "rejected",
            Self::RateLimited { .. } => "throttled",
            Self::Unavailable { .. } => "unavailable",
            Self::NotLeading(_) => "not_leading",
        }
    }

    /// Whether it lasts until a person changes something.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Unusable(_) | Self::Rejected { .. })
    }

    /// The minimum wait, if Microsoft gave one.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::Unavailable { retry_after } => *retry_after,
            Self::Unusable(_) | Self::ReadSecret { .. } | Self::Rejected { .. } | Self::NotLeading(_) => None,
        }
    }

    pub fn consent_url(&self) -> Option<&str> {
        match self {
            Self::Rejected { consent_url, .. } => consent_url.as_deref(),
            Self::Unusable(_)
            | Self::ReadSecret { .. }
            | Self::RateLimited { .. }
            | Self::Unavailable { .. }
            | Self::NotLeading(_) => None,
        }
    }
}
