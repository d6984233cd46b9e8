//! The error responses: the vendor's two formats, and our own errors in the same formats.
//!
//! Source: the vendor's pages on create (401, 404, 422, 500) and on rate limits (429). The other codes, and every constant
//! except `INVALID_CLIENT_SECRET`, are ours.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::RETRY_AFTER;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

use crate::core::diagnosis::Diagnosis;

use crate::api::conditions::Reason;
use crate::core::diagnosis::Rejection as MicrosoftRejection;
use crate::core::secret_form::SecretForm;
use crate::core::secret_value::ValueProblem;

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestError {
    /// Its content is rejected: 422 with a constant, and what is wrong with a value if that is known.
    Rejected(ErrorCode, Option<Detail>),
    /// Its API key is missing or unknown: 401.
    Unauthorized,
    /// There is nothing at the path: 404.
    NotFound,
    /// The path does not support the method: 405.
    MethodNotAllowed,
    /// Its body did not arrive in time: 408.
    TimedOut,
    /// Its body is too long: 413.
    TooLarge,
    /// Its body is not uncompressed JSON: 415.
    UnsupportedMediaType,
    /// Microsoft limits the rate, the account has too many open connections, or its queue is full: 429, with the wait if it
    /// is known.
    TooManyRequests(Option<Duration>),
    /// An internal error: 500. A write may have been saved.
    Internal,
}

/// What is wrong with a value. Shows no more of it than one character that cannot be part of it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Detail {
    /// With the name of the field.
    #[error("{0} {1}")]
    Unusable(&'static str, ValueProblem),
    /// What a client secret that Microsoft rejected looks like.
    #[error("{0}")]
    Form(SecretForm),
}

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])* $name:ident => $code:literal,)*) => {
        /// Why the response is a 422. The constants never change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[doc = $doc])* $name,)* }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The constant in the response's `message`.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $code,)* }
            }

            /// What it means.
            pub fn meaning(self) -> &'static str {
                match self { $(ErrorCode::$name => concat!($($doc),*).trim_ascii(),)* }
            }
        }
    };
}

error_codes! {
    /// The client secret is missing, empty, too long, has white space at an end or an invisible character, or Microsoft
    /// rejects it.
    InvalidClientSecret => "INVALID_CLIENT_SECRET",
    /// The body is not a JSON object, or contains a field twice.
    MalformedRequest => "MALFORMED_REQUEST",
    /// The request is on behalf of a company, which this API does not support.
    UnknownCompany => "UNKNOWN_COMPANY",
    /// The body has a field that the endpoint does not know.
    UnknownField => "UNKNOWN_FIELD",
    /// `tenant_id` is missing or not a GUID.
    InvalidTenantId => "INVALID_TENANT_ID",
    /// `client_id` is missing or not a GUID.
    InvalidClientId => "INVALID_CLIENT_ID",
    /// `secret_expires_at` is missing or not a date.
    InvalidSecretExpiresAt => "INVALID_SECRET_EXPIRES_AT",
    /// `secret_expires_at` is in the past.
    SecretExpiresAtInPast => "SECRET_EXPIRES_AT_IN_PAST",
    /// `name` is not a text of 1 to 253 characters, or contains control characters.
    InvalidName => "INVALID_NAME",
    /// An update has only one of `client_secret` and `secret_expires_at`.
    SecretAndExpiryBelongTogether => "SECRET_AND_EXPIRY_REQUIRED_TOGETHER",
    /// An update changes nothing.
    NothingToUpdate => "NOTHING_TO_UPDATE",
    /// The account has reached its limit of credentials.
    TooManyCredentials => "TOO_MANY_CREDENTIALS",
    /// According to Microsoft, the secret has expired.
    ClientSecretExpired => "CLIENT_SECRET_EXPIRED",
    /// Microsoft knows no such app in the tenant.
    ApplicationNotFound => "APPLICATION_NOT_FOUND",
    /// Microsoft knows no such tenant.
    TenantNotFound => "TENANT_NOT_FOUND",
    /// The tenant is blocked because of inactivity, or was deleted.
    TenantBlocked => "TENANT_BLOCKED",
    /// A proxy between this API and Microsoft does not allow the tenant.
    TenantRestricted => "TENANT_RESTRICTED",
    /// The app has no service principal in the tenant.
    ServicePrincipalMissing => "SERVICE_PRINCIPAL_MISSING",
    /// The app is disabled.
    ApplicationDisabled => "APPLICATION_DISABLED",
    /// The app is a public client and must not use a secret.
    PublicClient => "PUBLIC_CLIENT",
    /// A Conditional Access policy of the tenant blocks the request.
    ConditionalAccessBlocked => "CONDITIONAL_ACCESS_BLOCKED",
    /// The tenant is in another Microsoft cloud.
    WrongCloud => "WRONG_CLOUD",
    /// Microsoft rejects the secret for another reason.
    RejectedByMicrosoft => "REJECTED_BY_MICROSOFT",
}

#[derive(Serialize)]
struct Problem<'a> {
    title: &'static str,
    status: u16,
    detail: &'a str,
    timestamp: String,
}

/// An error in the vendor's first format.
pub(crate) fn problem(status: StatusCode, detail: &str, now: Timestamp) -> Response {
    let title = match status {
        StatusCode::INTERNAL_SERVER_ERROR => "Internal server error",
        _ => status.canonical_reason().unwrap_or_default(),
    };
    // `2025-03-05 17:57:00` in UTC, as in the vendor's errors.
    let timestamp = now.strftime("%Y-%m-%d %H:%M:%S").to_string();
    (status, Json(Problem { title, status: status.as_u16(), detail, timestamp })).into_response()
}

// === impl RestError ===

impl RestError {
    /// The response at that time. Texts that the vendor documents are the vendor's.
    fn response(self, now: Timestamp) -> Response {
        let (status, detail) = match self {
            Self::Rejected(code, detail) => {
                let mut body = json!({"message": code.as_str()});
                if let Some(detail) = detail {
                    body["detail"] = detail.to_string().into();
                }
                let body = Json(body);
                return (StatusCode::UNPROCESSABLE_ENTITY, body).into_response();
            }
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Invalid api key"),
            Self::NotFound => (StatusCode::NOT_FOUND, "Requested resource does not exist"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "The resource does not know this method; see the Allow header",
            ),
            Self::TimedOut => (StatusCode::REQUEST_TIMEOUT, "The request body did not arrive in time"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "The request body is longer than 64 KiB"),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Send the request body as Content-Type: application/json",
            ),
            Self::TooManyRequests(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "Too many requests; please try again later")
            }
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "An unexpected error has occurred. Please try again later.",
            ),
        };
        let mut response = problem(status, detail, now);
        if let Self::TooManyRequests(Some(wait)) = self {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<ErrorCode> for RestError {
    fn from(code: ErrorCode) -> Self {
        Self::Rejected(code, None)
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        self.response(Timestamp::now())
    }
}

// === impl ErrorCode ===

impl ErrorCode {
    /// The code for a rejection by Microsoft.
    fn of_microsoft(rejection: &MicrosoftRejection) -> Self {
        match rejection.reason {
            Reason::InvalidClientSecret => Self::InvalidClientSecret,
            Reason::SecretExpired => Self::ClientSecretExpired,
            Reason::ApplicationNotFound => Self::ApplicationNotFound,
            Reason::TenantNotFound => Self::TenantNotFound,
            Reason::TenantBlocked => Self::TenantBlocked,
            Reason::TenantRestricted => Self::TenantRestricted,
            Reason::ServicePrincipalMissing => Self::ServicePrincipalMissing,
            Reason::ApplicationDisabled => Self::ApplicationDisabled,
            Reason::PublicClient => Self::PublicClient,
            Reason::ConditionalAccessBlocked => Self::ConditionalAccessBlocked,
            Reason::WrongCloud => Self::WrongCloud,
            _ => Self::RejectedByMicrosoft,
        }
    }
}

/// The error if Microsoft issued no token. `retry_after` is the wait that Microsoft asked for, if any, and `form` what
/// the secret looks like.
pub fn of_diagnosis(
    diagnosis: &Diagnosis,
    retry_after: Option<Duration>,
    form: Option<SecretForm>,
) -> RestError {
    match diagnosis {
        Diagnosis::Rejected(rejection) => {
            let code = ErrorCode::of_microsoft(rejection);
            let form = form.filter(|_| code == ErrorCode::InvalidClientSecret);
            RestError::Rejected(code, form.map(Detail::Form))
        }
        Diagnosis::Throttled => RestError::TooManyRequests(Some(retry_after.unwrap_or(DEFAULT_WAIT))),
        Diagnosis::Unavailable => RestError::Internal,
    }
}

/// The wait if Microsoft limits the rate without naming one: as long as Woodpecker's queue takes to drain.
const DEFAULT_WAIT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::Value;

    use super::*;

    async fn rendered(error: RestError) -> (u16, Value) {
        let response = error.response("2025-03-05T17:57:00.9Z".parse().unwrap());
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn documented_responses_equal_the_vendors() {
        let problem = |title: &str, status: u16, detail: &str| {
            let timestamp = "2025-03-05 17:57:00";
            (status, json!({"title": title, "status": status, "detail": detail, "timestamp": timestamp}))
        };
        assert_eq!(rendered(RestError::Unauthorized).await, problem("Unauthorized", 401, "Invalid api key"));
        assert_eq!(
            rendered(RestError::NotFound).await,
            problem("Not Found", 404, "Requested resource does not exist")
        );
        let unexpected = "An unexpected error has occurred. Please try again later.";
        assert_eq!(rendered(RestError::Internal).await, problem("Internal server error", 500, unexpected));
        for (error, title) in [
            (RestError::MethodNotAllowed, "Method Not Allowed"),
            (RestError::TimedOut, "Request Timeout"),
            (RestError::TooLarge, "Payload Too Large"),
            (RestError::UnsupportedMediaType, "Unsupported Media Type"),
            (RestError::TooManyRequests(None), "Too Many Requests"),
        ] {
            assert_eq!(rendered(error).await.1["title"], title);
        }
        assert_eq!(
            rendered(ErrorCode::InvalidClientSecret.into()).await,
            (422, json!({"message": "INVALID_CLIENT_SECRET"}))
        );
    }

    #[test]
    fn a_429_has_a_retry_after_in_whole_seconds() {
        for (wait, expected) in [(Duration::from_millis(1), "1"), (Duration::from_secs(15), "15")] {
            let response = RestError::TooManyRequests(Some(wait)).into_response();
            assert_eq!(response.headers()[RETRY_AFTER], expected);
        }
    }

    #[test]
    fn every_error_code_has_its_own_constant() {
        for (at, code) in ErrorCode::ALL.iter().enumerate() {
            let text = code.as_str();
            assert!(text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{text}");
            assert_eq!(ErrorCode::ALL.iter().position(|other| other.as_str() == text), Some(at), "{text}");
        }
    }
}
