//! The meaning of a response of Microsoft Graph to a write: whether it was applied, and what prevents it.
//!
//! A write is not idempotent, so a response that does not say that nothing was written leaves it open. Source: Microsoft
//! Graph, "application: addPassword", "application: removePassword" and "Microsoft Graph error responses and resource
//! types". Codes are preferred; where several problems share a code, the message decides.

use crate::core::graph_error::ErrorBody;

/// Graph's message for two writes to one app close together. It comes with several codes and statuses.
const CONCURRENT: &str = "concurrent requests";

/// Graph's message for the removal of a client secret that it does not find.
const NO_SUCH_KEY: &str = "no password credential found";

/// Why a write has no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteFailure {
    /// Nothing was written.
    NotApplied(WriteRejection),
    /// It may have been written: only reads of the app can tell, and they can be outdated for some minutes.
    Unknown,
}

/// Why nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteRejection {
    /// There was no connection to Graph.
    Unreachable,
    /// A policy of the tenant limits the lifetime of client secrets.
    LifetimeNotAllowed,
    /// A policy of the tenant forbids client secrets.
    SecretsNotAllowed,
    /// An app that personal accounts may use has at most two client secrets.
    TooManySecrets,
    /// The app has too many values. Graph responds with 403, but no permission is missing.
    AppTooLarge,
    /// Graph considers the dates invalid: the clocks differ.
    InvalidDates,
    /// The identity lacks a role or consent in this tenant, or is not an owner of the app. A token from before such a
    /// change lacks it as well.
    Forbidden,
    /// The tenant has no such application, or it was created some minutes ago.
    AppNotFound,
    /// The app has no client secret with this ID, or Graph does not know of it yet. Only for a removal.
    KeyNotFound,
    /// Another write to the app was too recent.
    Concurrent,
    Throttled,
    /// The token is expired, or for another audience.
    InvalidToken,
    /// Another rejection, with its HTTP status.
    Other(u16),
}

/// The meaning of a response with that status, which is not a success. `body` is `None` if it is not JSON.
pub(crate) fn classify(status: u16, body: Option<&ErrorBody>) -> WriteFailure {
    let code = body.map(|body| body.error.code.as_str()).unwrap_or_default();
    let message = body.map(|body| body.error.message.to_ascii_lowercase()).unwrap_or_default();
    let is_concurrent = code == "Directory_ConcurrencyViolation" || message.contains(CONCURRENT);
    match status {
        400..=431 if is_concurrent => WriteFailure::NotApplied(WriteRejection::Concurrent),
        // A gateway that waited in vain does not know what happened behind it. Statuses from 432 on are not in any
        // standard; gateways use some of them for clients that disconnected.
        408 | 432..=u16::MAX | 0..=399 => WriteFailure::Unknown,
        400..=431 => WriteFailure::NotApplied(rejection(status, code, &message)),
    }
}

/// Why Graph rejects a write with that status from 400 to 431; `message` in lower case.
fn rejection(status: u16, code: &str, message: &str) -> WriteRejection {
    let is_limit = message.contains("maximum of")
        && (message.contains("password") || message.contains("encrypted credential"));
    match (status, code) {
        (429, _) | (_, "TooManyRequests" | "Request_ThrottledTemporarily" | "activityLimitReached") => {
            WriteRejection::Throttled
        }
        (_, "CredentialInvalidLifetimeAsPerAppPolicy") => WriteRejection::LifetimeNotAllowed,
        (_, "CredentialTypeNotAllowedAsPerAppPolicy") => WriteRejection::SecretsNotAllowed,
        // Graph says "key" for client secrets too.
        (_, "KeyCredentialsInvalidEndDate" | "KeyCredentialsInvalidStartDate") => {
            WriteRejection::InvalidDates
        }
        (_, "Directory_ResourceSizeExceeded") => WriteRejection::AppTooLarge,
        (400 | 404, _) if message.contains(NO_SUCH_KEY) => WriteRejection::KeyNotFound,
        (400 | 403, _) if is_limit => WriteRejection::TooManySecrets,
        (401, _) | (_, "InvalidAuthenticationToken") => WriteRejection::InvalidToken,
        (403, _) | (_, "Authorization_RequestDenied") => WriteRejection::Forbidden,
        // A 404 without Graph's body is from a proxy, or from another server.
        (404, code) if !code.is_empty() => WriteRejection::AppNotFound,
        (_, "Request_ResourceNotFound") => WriteRejection::AppNotFound,
        (409, _) => WriteRejection::Concurrent,
        _ => WriteRejection::Other(status),
    }
}

// === impl WriteFailure ===

impl WriteFailure {
    /// The value of the metric label.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::NotApplied(rejection) => rejection.outcome(),
            Self::Unknown => "unknown",
        }
    }
}

// === impl WriteRejection ===

impl WriteRejection {
    /// The value of the metric label.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::AppNotFound | Self::KeyNotFound => "not_found",
            Self::InvalidToken | Self::Forbidden => "denied",
            Self::Throttled => "throttled",
            Self::Concurrent => "conflict",
            Self::Unreachable => "unavailable",
            Self::LifetimeNotAllowed
            | Self::SecretsNotAllowed
            | Self::TooManySecrets
            | Self::AppTooLarge
            | Self::InvalidDates
            | Self::Other(_) => "rejected",
        }
    }
}

#[cfg(test)]
mod tests;
