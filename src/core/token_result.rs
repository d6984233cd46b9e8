//! The result of a token request to Microsoft.

use std::time::Duration;

use super::diagnosis::Diagnosis;

/// Whether Microsoft issued a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenResult {
    /// A token was issued. It is dropped at once; only its roles are kept, if they can be read.
    Issued {
        /// Sorted; `None` if the token cannot be read.
        roles: Option<Vec<String>>,
    },
    NotIssued {
        diagnosis: Diagnosis,
        /// The minimum wait, if the response gave one.
        retry_after: Option<Duration>,
        /// For logs and events, never for conditions: it differs on each attempt.
        request_ids: RequestIds,
    },
}

/// The IDs by which Microsoft's support finds a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestIds {
    /// HTTP status; `None` if there was no response.
    pub status: Option<u16>,
    /// Its AADSTS codes.
    pub codes: Vec<u32>,
    /// Microsoft's trace ID.
    pub id: Option<String>,
    /// Microsoft's correlation ID, or the one that the operator sent.
    pub correlation_id: Option<String>,
    /// The time of the response, by Microsoft's clock.
    pub timestamp: Option<String>,
    /// Why there was no response.
    pub failure: Option<String>,
}

// === impl TokenResult ===

impl TokenResult {
    /// Whether a token was issued.
    pub fn is_issued(&self) -> bool {
        matches!(self, Self::Issued { .. })
    }
}

// === impl RequestIds ===

impl RequestIds {
    /// The codes and IDs as text: for an event, never for a condition.
    pub fn summary(&self) -> String {
        let codes = self.codes.iter().map(|code| format!("AADSTS{code}"));
        let ids = [
            ("trace", &self.id),
            ("correlation", &self.correlation_id),
            ("time", &self.timestamp),
            ("failure", &self.failure),
        ];
        let ids = ids.iter().filter_map(|(name, id)| id.as_ref().map(|id| format!("{name} {id}")));
        codes.chain(ids).collect::<Vec<_>>().join(", ")
    }
}

// === impl TokenResult ===

impl TokenResult {
    /// The value of the metric label.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Issued { .. } => "issued",
            Self::NotIssued { diagnosis: Diagnosis::Rejected(_), .. } => "rejected",
            Self::NotIssued { diagnosis: Diagnosis::Throttled, .. } => "throttled",
            Self::NotIssued { diagnosis: Diagnosis::Unavailable, .. } => "unavailable",
        }
    }
}
