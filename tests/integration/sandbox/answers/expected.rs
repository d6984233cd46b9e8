//! What each answer is: written down here once more, because the sandbox generates all of its tables from one.

use serde_json::{Value, json};

use self::Form::{Closed, Html, Json, Late, NoBody, Problem, Rejected, Silent, Text, Truncated};

/// An answer as a client knows it.
pub struct Expected {
    pub name: &'static str,
    /// Part of its ids, which never change.
    pub number: i64,
    pub is_saved: bool,
    pub form: Form,
}

/// What a client receives.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// 422 with this constant.
    Rejected(&'static str),
    /// The vendor's problem: status, title and detail.
    Problem(u16, &'static str, &'static str),
    /// Other JSON.
    Json(u16, &'static str),
    /// A page of a proxy with this heading.
    Html(u16, &'static str),
    Text(u16, &'static str),
    NoBody(u16),
    /// The regular response, after five seconds.
    Late,
    /// The first half of the regular response.
    Truncated,
    /// The connection is closed at once.
    Closed,
    /// Nothing for a minute.
    Silent,
}

/// The answers that reject the content of a request.
const REJECTIONS: [(i64, &str, &str); 23] = [
    (42200, "invalid-client-secret", "INVALID_CLIENT_SECRET"),
    (42201, "malformed-request", "MALFORMED_REQUEST"),
    (42202, "unknown-company", "UNKNOWN_COMPANY"),
    (42203, "unknown-field", "UNKNOWN_FIELD"),
    (42204, "invalid-tenant-id", "INVALID_TENANT_ID"),
    (42205, "invalid-client-id", "INVALID_CLIENT_ID"),
    (42206, "invalid-secret-expires-at", "INVALID_SECRET_EXPIRES_AT"),
    (42207, "secret-expires-at-in-past", "SECRET_EXPIRES_AT_IN_PAST"),
    (42208, "invalid-name", "INVALID_NAME"),
    (42209, "secret-and-expiry-required-together", "SECRET_AND_EXPIRY_REQUIRED_TOGETHER"),
    (42210, "nothing-to-update", "NOTHING_TO_UPDATE"),
    (42211, "too-many-credentials", "TOO_MANY_CREDENTIALS"),
    (42212, "client-secret-expired", "CLIENT_SECRET_EXPIRED"),
    (42213, "application-not-found", "APPLICATION_NOT_FOUND"),
    (42214, "tenant-not-found", "TENANT_NOT_FOUND"),
    (42215, "tenant-blocked", "TENANT_BLOCKED"),
    (42216, "tenant-restricted", "TENANT_RESTRICTED"),
    (42217, "service-principal-missing", "SERVICE_PRINCIPAL_MISSING"),
    (42218, "application-disabled", "APPLICATION_DISABLED"),
    (42219, "public-client", "PUBLIC_CLIENT"),
    (42220, "conditional-access-blocked", "CONDITIONAL_ACCESS_BLOCKED"),
    (42221, "wrong-cloud", "WRONG_CLOUD"),
    (42222, "rejected-by-microsoft", "REJECTED_BY_MICROSOFT"),
];

const UNAUTHORIZED: Form = Problem(401, "Unauthorized", "Invalid api key");
const NOT_FOUND: Form = Problem(404, "Not Found", "Requested resource does not exist");
const TOO_MANY: Form = Problem(429, "Too Many Requests", "Too many requests; please try again later");
const INTERNAL: Form =
    Problem(500, "Internal server error", "An unexpected error has occurred. Please try again later.");
const BAD_GATEWAY: Form = Html(502, "502 Bad Gateway");

const OTHERS: [(i64, &str, bool, Form); 28] = [
    (40100, "unauthorized", false, UNAUTHORIZED),
    (40400, "not-found", false, NOT_FOUND),
    (42900, "too-many-requests", false, TOO_MANY),
    (42901, "too-many-requests-retry-after", false, TOO_MANY),
    (50000, "internal-error", false, INTERNAL),
    (50001, "internal-error-saved", true, INTERNAL),
    (
        40101,
        "no-api-addon",
        false,
        Json(401, r#"{"title": "Unauthorized", "status": 401, "detail": "No API addon"}"#),
    ),
    (
        40102,
        "plan-too-small",
        false,
        Json(401, r#"{"title": "Unauthorized", "status": 401, "detail": "Upgrade your plan"}"#),
    ),
    (
        40300,
        "no-agency-addon",
        false,
        Json(403, r#"{"title": "Forbidden", "status": 403, "detail": "No Agency addon"}"#),
    ),
    (
        40000,
        "code-and-details",
        false,
        Json(400, r#"{"code": "VALIDATION_ERROR", "details": ["client_secret"]}"#),
    ),
    (
        40901,
        "conflict",
        false,
        Json(409, r#"{"code": "CONFLICT", "details": ["The credential already exists"]}"#),
    ),
    (
        20000,
        "v1-error",
        false,
        Json(
            200,
            r#"{"status": {"status": "ERROR", "code": "E_SESSION", "msg": "Invalid or expired API key"}}"#,
        ),
    ),
    (
        40001,
        "v1-too-many-requests",
        false,
        Json(
            400,
            r#"{"status": {"status": "ERROR", "code": "E_TOO_MANY_REQUESTS", "msg": "Too many requests"}}"#,
        ),
    ),
    (40900, "in-use", false, Json(409, r#"{"message": "CREDENTIAL_IN_USE"}"#)),
    (42290, "unknown-constant", false, Json(422, r#"{"message": "A_CONSTANT_OF_TOMORROW"}"#)),
    (42291, "message-not-text", false, Json(422, r#"{"message": {"code": 1}}"#)),
    (50200, "bad-gateway", false, BAD_GATEWAY),
    (50201, "bad-gateway-saved", true, BAD_GATEWAY),
    (50300, "unavailable", false, NoBody(503)),
    (50401, "gateway-timeout-saved", true, Html(504, "504 Gateway Time-out")),
    (20001, "empty-saved", true, NoBody(200)),
    (20002, "not-json-saved", true, Text(200, "OK")),
    (20003, "truncated-saved", true, Truncated),
    (20004, "slow-saved", true, Late),
    (10000, "closed", false, Closed),
    (10001, "closed-saved", true, Closed),
    (10002, "timeout", false, Silent),
    (10003, "timeout-saved", true, Silent),
];

/// All answers.
pub fn all() -> Vec<Expected> {
    let rejections = REJECTIONS.into_iter().map(|(number, name, constant)| Expected {
        name,
        number,
        is_saved: false,
        form: Rejected(constant),
    });
    let others =
        OTHERS.into_iter().map(|(number, name, is_saved, form)| Expected { name, number, is_saved, form });
    rejections.chain(others).collect()
}

// === impl Expected ===

impl Expected {
    pub fn secret(&self) -> String {
        format!("sandbox-{}", self.name)
    }

    pub fn guid(&self) -> String {
        format!("00000000-0000-4000-8000-{:012}", self.number)
    }

    /// What is not saved can be provoked by the id of a credential, too.
    pub fn credential_id(&self) -> Option<i64> {
        (!self.is_saved).then_some(9_000_000_000 + self.number)
    }

    pub fn retry_after(&self) -> Option<&'static str> {
        (self.name == "too-many-requests-retry-after").then_some("2")
    }

    /// Its entry in the sandbox's table, as far as a client depends on it.
    pub fn listed(&self) -> Value {
        let status = match self.form {
            Rejected(_) => "422".to_owned(),
            Problem(status, ..) | Json(status, _) | Html(status, _) | Text(status, _) | NoBody(status) => {
                status.to_string()
            }
            Late | Truncated => "2xx".to_owned(),
            Closed | Silent => "none".to_owned(),
        };
        json!({
            "answer": self.name, "client_secret": self.secret(), "tenant_or_client_id": self.guid(),
            "credential_id": self.credential_id(), "status": status, "saved": self.is_saved
        })
    }
}
