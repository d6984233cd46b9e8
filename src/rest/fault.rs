//! What the API answers when it does not do what was asked: the vendor's two dialects, and ours in the same shapes. PURE
//! but for the time of an answer.
//!
//! Source: the vendor's page on create (401, 404, 422, 500) and on rate limits (429). The other codes, and every constant
//! but `INVALID_CLIENT_SECRET`, are ours.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::RETRY_AFTER;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::microsoft::{Diagnosis, Refusal as MicrosoftRefusal};
use crate::resources::conditions::Reason;

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What it says cannot be saved: 422 with a constant.
    Refused(Refusal),
    /// Its API key is missing or unknown: 401.
    Unauthorized,
    /// There is nothing at the address: 404.
    NotFound,
    /// There is something at the address, and not for this method: 405.
    MethodNotAllowed,
    /// Its body did not come in time: 408.
    TimedOut,
    /// Its body is too long: 413.
    TooLarge,
    /// Its body is not plain JSON: 415.
    UnsupportedMediaType,
    /// Microsoft asks to slow down, or the account has as many requests under way as it may have, for so long, or its queue
    /// is full: 429.
    TooManyRequests(Option<Duration>),
    /// It failed on our side: 500. What it was to save may have been saved.
    Internal,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident => $word:literal,)*) => {
        /// Why a 422 was answered. Its constant stays the same for ever.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal { $($(#[$doc])* $name,)* }

        impl Refusal {
            /// Every one there is.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$name,)*];

            /// The constant in the answer's `message`.
            pub fn as_str(self) -> &'static str {
                match self { $(Refusal::$name => $word,)* }
            }
        }
    };
}

refusals! {
    /// The client secret is missing, empty, too long, has white space around it or a control character, or is refused by
    /// Microsoft.
    InvalidClientSecret => "INVALID_CLIENT_SECRET",
    /// The body is no JSON object, or names a field twice.
    MalformedRequest => "MALFORMED_REQUEST",
    /// The request is on behalf of a company: there are none here.
    UnknownCompany => "UNKNOWN_COMPANY",
    /// The body has a field that the endpoint does not know.
    UnknownField => "UNKNOWN_FIELD",
    /// `tenant_id` is missing or no GUID.
    InvalidTenantId => "INVALID_TENANT_ID",
    /// `client_id` is missing or no GUID.
    InvalidClientId => "INVALID_CLIENT_ID",
    /// `secret_expires_at` is missing or no date.
    InvalidSecretExpiresAt => "INVALID_SECRET_EXPIRES_AT",
    /// `secret_expires_at` has passed.
    SecretExpiresAtInPast => "SECRET_EXPIRES_AT_IN_PAST",
    /// `name` is no text of 1 to 253 characters, or holds control characters.
    InvalidName => "INVALID_NAME",
    /// An update has one of `client_secret` and `secret_expires_at` and not the other.
    SecretAndExpiryBelongTogether => "SECRET_AND_EXPIRY_REQUIRED_TOGETHER",
    /// An update changes nothing.
    NothingToUpdate => "NOTHING_TO_UPDATE",
    /// The account has as many credentials as it may have.
    TooManyCredentials => "TOO_MANY_CREDENTIALS",
    /// Microsoft says that the secret has expired.
    ClientSecretExpired => "CLIENT_SECRET_EXPIRED",
    /// Microsoft knows no such app in the tenant.
    ApplicationNotFound => "APPLICATION_NOT_FOUND",
    /// Microsoft knows no such tenant.
    TenantNotFound => "TENANT_NOT_FOUND",
    /// The app has no service principal in the tenant.
    ServicePrincipalMissing => "SERVICE_PRINCIPAL_MISSING",
    /// The app is disabled.
    ApplicationDisabled => "APPLICATION_DISABLED",
    /// The app is a public client and must not use a secret.
    PublicClient => "PUBLIC_CLIENT",
    /// A Conditional Access policy of the tenant blocks the request.
    ConditionalAccessBlocked => "CONDITIONAL_ACCESS_BLOCKED",
    /// The tenant lives in another Microsoft cloud.
    WrongCloud => "WRONG_CLOUD",
    /// Microsoft refuses for another reason.
    RejectedByMicrosoft => "REJECTED_BY_MICROSOFT",
}

#[derive(Serialize)]
struct Problem {
    title: &'static str,
    status: u16,
    detail: &'static str,
    timestamp: String,
}

// === impl Fault ===

impl Fault {
    /// The answer as it is given at that time, in the vendor's words where it has any.
    fn answer(self, now: Timestamp) -> Response {
        let (status, detail) = match self {
            Self::Refused(refusal) => {
                let body = Json(json!({"message": refusal.as_str()}));
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
        let title = match self {
            Self::Internal => "Internal server error",
            _ => status.canonical_reason().unwrap_or_default(),
        };
        // `2025-03-05 17:57:00`, UTC, as the vendor writes the time of an error.
        let timestamp = now.strftime("%Y-%m-%d %H:%M:%S").to_string();
        let problem = Problem { title, status: status.as_u16(), detail, timestamp };
        let mut answer = (status, Json(problem)).into_response();
        if let Self::TooManyRequests(Some(wait)) = self {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        answer
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        self.answer(Timestamp::now())
    }
}

// === impl Refusal ===

impl Refusal {
    /// What a refusal of Microsoft's means here.
    fn of_microsoft(refusal: &MicrosoftRefusal) -> Self {
        match refusal.reason {
            Reason::InvalidClientSecret => Self::InvalidClientSecret,
            Reason::SecretExpired => Self::ClientSecretExpired,
            Reason::ApplicationNotFound => Self::ApplicationNotFound,
            Reason::TenantNotFound => Self::TenantNotFound,
            Reason::ServicePrincipalMissing => Self::ServicePrincipalMissing,
            Reason::ApplicationDisabled => Self::ApplicationDisabled,
            Reason::PublicClient => Self::PublicClient,
            Reason::ConditionalAccessBlocked => Self::ConditionalAccessBlocked,
            Reason::WrongCloud => Self::WrongCloud,
            _ => Self::RejectedByMicrosoft,
        }
    }
}

/// What the answer is where Microsoft issued no token. `retry_after` is how long to wait, where somebody said so.
pub fn of_diagnosis(diagnosis: &Diagnosis, retry_after: Option<Duration>) -> Fault {
    match diagnosis {
        Diagnosis::Refused(refusal) => Refusal::of_microsoft(refusal).into(),
        Diagnosis::Throttled => Fault::TooManyRequests(Some(retry_after.unwrap_or(UNNAMED_WAIT))),
        Diagnosis::Unavailable => Fault::Internal,
    }
}

/// How long to wait after a request to slow down that does not say how long: as at Woodpecker, whose queue drains so fast.
const UNNAMED_WAIT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::Value;

    use super::*;

    async fn seen(fault: Fault) -> (u16, Value) {
        let answer = fault.answer("2025-03-05T17:57:00.9Z".parse().unwrap());
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn the_documented_answers_are_the_vendors_word_for_word() {
        let problem = |title: &str, status: u16, detail: &str| {
            let timestamp = "2025-03-05 17:57:00";
            (status, json!({"title": title, "status": status, "detail": detail, "timestamp": timestamp}))
        };
        assert_eq!(seen(Fault::Unauthorized).await, problem("Unauthorized", 401, "Invalid api key"));
        assert_eq!(
            seen(Fault::NotFound).await,
            problem("Not Found", 404, "Requested resource does not exist")
        );
        let unexpected = "An unexpected error has occurred. Please try again later.";
        assert_eq!(seen(Fault::Internal).await, problem("Internal server error", 500, unexpected));
        for (fault, title) in [
            (Fault::MethodNotAllowed, "Method Not Allowed"),
            (Fault::TimedOut, "Request Timeout"),
            (Fault::TooLarge, "Payload Too Large"),
            (Fault::UnsupportedMediaType, "Unsupported Media Type"),
            (Fault::TooManyRequests(None), "Too Many Requests"),
        ] {
            assert_eq!(seen(fault).await.1["title"], title);
        }
        assert_eq!(
            seen(Refusal::InvalidClientSecret.into()).await,
            (422, json!({"message": "INVALID_CLIENT_SECRET"}))
        );
    }

    #[test]
    fn a_429_says_when_to_come_back_in_whole_seconds() {
        for (wait, expected) in [(Duration::from_millis(1), "1"), (Duration::from_secs(15), "15")] {
            let answer = Fault::TooManyRequests(Some(wait)).into_response();
            assert_eq!(answer.headers()[RETRY_AFTER], expected);
        }
    }

    #[test]
    fn every_refusal_has_a_constant_of_its_own() {
        for (at, refusal) in Refusal::ALL.iter().enumerate() {
            let word = refusal.as_str();
            assert!(word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{word}");
            assert_eq!(Refusal::ALL.iter().position(|other| other.as_str() == word), Some(at), "{word}");
        }
    }
}
