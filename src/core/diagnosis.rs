//! The diagnosis of an error response of the token endpoint.
//!
//! HTTP status and `error` decide the kind of the response. AADSTS codes only refine the reason, because Microsoft may
//! change them at any time. Unknown codes fall back to `error`.

use serde::{Deserialize, Deserializer};

use crate::api::conditions::Reason;
use crate::core::aadsts::{self, Class};
use crate::core::lenient::{Lenient, readable};
use crate::core::secret_form::SecretForm;

/// Why Microsoft did not issue a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diagnosis {
    /// It rejects the request until a person changes something.
    Rejected(Rejection),
    Throttled,
    /// It has a failure of its own, or the response is not from Microsoft.
    Unavailable,
}

/// A rejection by Microsoft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: Reason,
    /// The most specific AADSTS code, if there is one.
    pub code: Option<u32>,
}

/// The body of an error response; every field may be missing, null or of another type. Source: Microsoft, "Microsoft
/// Entra authentication and authorization error codes".
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ErrorBody {
    #[serde(deserialize_with = "readable")]
    pub(crate) error: String,
    #[serde(deserialize_with = "readable")]
    pub(crate) error_description: String,
    #[serde(deserialize_with = "readable_codes")]
    pub(crate) error_codes: Vec<u32>,
    #[serde(deserialize_with = "readable")]
    pub(crate) trace_id: Option<String>,
    #[serde(deserialize_with = "readable")]
    pub(crate) correlation_id: Option<String>,
    #[serde(deserialize_with = "readable")]
    pub(crate) timestamp: Option<String>,
}

/// The codes that are numbers of the known size.
fn readable_codes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u32>, D::Error> {
    let codes: Vec<Lenient<u32>> = readable(from)?;
    Ok(codes.into_iter().filter_map(Lenient::value).collect())
}

/// The AADSTS code as people look it up, or a text if there is none.
pub fn code_text(rejection: &Rejection) -> String {
    match rejection.code {
        Some(code) => format!("AADSTS{code}"),
        None => "without an AADSTS code".to_owned(),
    }
}

/// The problem and what to do, in a text that stays the same on each attempt. `form` is what the secret looks like.
pub fn advice(rejection: &Rejection, form: Option<SecretForm>) -> String {
    if let Some((text, action)) = own_advice(rejection) {
        return format!("Microsoft rejects the request: {text} ({}). {action}", code_text(rejection));
    }
    let text = match rejection.reason {
        Reason::InvalidClientSecret => {
            "Microsoft rejects the client secret: put the current secret's Value (not its ID) into the Secret, or create a new one under Certificates & secrets"
        }
        Reason::SecretExpired => {
            "Microsoft reports that the client secret has expired: create a new one under Certificates & secrets and put it into the Secret with its expiry"
        }
        Reason::ApplicationNotFound => {
            "the tenant has no such app: if spec.clientId or spec.tenantId is wrong, create a new object, because both are immutable; otherwise an admin of the tenant must consent to the app"
        }
        Reason::TenantNotFound => {
            "this cloud has no such tenant: create a new object with the right spec.tenantId and spec.cloud, because both are immutable"
        }
        Reason::ServicePrincipalMissing => {
            "the app has no service principal in the tenant: an admin of the tenant must consent to it or create an enterprise application for it"
        }
        Reason::ApplicationDisabled => {
            "the app is disabled in the tenant: an admin must enable sign-in under Enterprise applications > Properties"
        }
        Reason::PublicClient => {
            "the app is a public client, which cannot use a client secret: turn off 'Allow public client flows' under Authentication, or register a web app"
        }
        Reason::ConditionalAccessBlocked => {
            "a Conditional Access policy for workload identities blocks the operator's IP address: allow it (Entra's sign-in log of service principals shows both), or use verification.policy BestEffort"
        }
        Reason::TenantBlocked => {
            "the tenant is blocked because of inactivity, or was deleted: one of its admins must ask Microsoft's support within 20 days of the block to reactivate it"
        }
        Reason::TenantRestricted => {
            "a proxy between the operator and Microsoft does not allow this tenant: add the tenant to its tenant restrictions, let the operator bypass the proxy, or use verification.policy BestEffort"
        }
        Reason::WrongCloud => {
            "the tenant is in another Microsoft cloud: create a new object with the right spec.cloud"
        }
        _ if rejection.code.is_none() => {
            "Microsoft rejects the request: ask Microsoft's support with the trace ID of the event or the log"
        }
        _ => "Microsoft rejects the request: look up the code at https://login.microsoftonline.com/error",
    };
    format!("{text} ({}){}", code_text(rejection), hint(rejection, form))
}

/// What a code means and what to do, if that differs from its reason.
fn own_advice(rejection: &Rejection) -> Option<(&'static str, String)> {
    let code = aadsts::find(rejection.code?).filter(|code| code.reason() == rejection.reason)?;
    Some((code.text, code.own_remedy()?.action.replace('`', "").trim_end_matches('.').to_owned()))
}

/// What a client secret that Microsoft rejects looks like, to append to a message.
pub fn hint(rejection: &Rejection, form: Option<SecretForm>) -> String {
    let form = form.filter(|_| rejection.reason == Reason::InvalidClientSecret);
    form.map(|form| format!("; {form}")).unwrap_or_default()
}

/// The diagnosis of an error response.
pub(crate) fn diagnose(status: u16, body: Option<&ErrorBody>) -> Diagnosis {
    if status == 429 {
        return Diagnosis::Throttled;
    }
    let Some(body) = body else { return Diagnosis::Unavailable };
    if status == 408 || !(400..500).contains(&status) {
        return Diagnosis::Unavailable;
    }
    let numbers = numbers(body);
    let known = numbers.iter().find_map(|number| Some((*number, aadsts::find(*number)?.class)));
    match known {
        Some((_, Class::Throttled)) => return Diagnosis::Throttled,
        Some((_, Class::Unavailable)) => return Diagnosis::Unavailable,
        Some((_, Class::Rejected(_))) | None => {}
    }
    let Some(by_error) = reason_of_error(&body.error) else { return Diagnosis::Unavailable };
    let (code, reason) = match known {
        Some((number, Class::Rejected(reason))) => (Some(number), reason),
        _ => (numbers.first().copied(), by_error),
    };
    Diagnosis::Rejected(Rejection { reason, code })
}

/// The AADSTS codes of a response: its list, or else the one at the beginning of its description.
fn numbers(body: &ErrorBody) -> Vec<u32> {
    if !body.error_codes.is_empty() {
        return body.error_codes.clone();
    }
    let digits = body.error_description.strip_prefix("AADSTS").map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    });
    digits.and_then(|digits| digits.parse().ok()).into_iter().collect()
}

/// The reason for a value of `error`; `None` for a temporary failure or an unknown value.
fn reason_of_error(error: &str) -> Option<Reason> {
    match error {
        "invalid_client" => Some(Reason::InvalidClientSecret),
        "unauthorized_client" => Some(Reason::ApplicationNotFound),
        "invalid_tenant" => Some(Reason::TenantNotFound),
        "invalid_request"
        | "invalid_scope"
        | "invalid_resource"
        | "invalid_grant"
        | "interaction_required"
        | "unsupported_grant_type"
        | "access_denied" => Some(Reason::VerificationRejected),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(error: &str, codes: &[u32], description: &str) -> ErrorBody {
        ErrorBody {
            error: error.into(),
            error_codes: codes.into(),
            error_description: description.into(),
            ..ErrorBody::default()
        }
    }

    fn rejected(reason: Reason, code: Option<u32>) -> Diagnosis {
        Diagnosis::Rejected(Rejection { reason, code })
    }

    #[test]
    fn the_advice_for_a_code_without_a_reason_of_its_own_says_what_to_do() {
        let advice = |reason, code| advice(&Rejection { reason, code }, None);
        assert_eq!(
            advice(Reason::VerificationRejected, Some(650_056)),
            "Microsoft rejects the request: the app's permissions are misconfigured (AADSTS650056). Add the Microsoft \
             Graph application permissions to the app and grant them with admin consent"
        );
        for (reason, code, expected) in [
            (
                Reason::VerificationRejected,
                Some(123_456),
                "https://login.microsoftonline.com/error (AADSTS123456)",
            ),
            (Reason::VerificationRejected, None, "trace ID"),
            (Reason::InvalidClientSecret, Some(7_000_218), "Report a bug"),
            (Reason::InvalidClientSecret, Some(7_000_215), "Certificates & secrets"),
            (Reason::TenantNotFound, Some(90_002), "create a new object"),
        ] {
            let text = advice(reason, code);
            assert!(text.contains(expected) && !text.contains('`') && !text.ends_with('.'), "{text}");
        }
    }

    #[test]
    fn only_codes_of_the_known_form_are_read_and_the_rest_of_the_body_stays() {
        for (codes, read) in [
            ("[7000215, 50196]", vec![7_000_215, 50_196]),
            ("[\"7000215\", -1, 1.5, 4294967296, null, {\"a\": [1]}, 700016]", vec![700_016]),
            ("[]", vec![]),
            ("null", vec![]),
            ("7000215", vec![]),
            ("{\"0\": 7000215}", vec![]),
        ] {
            let text = format!(r#"{{"error": "invalid_client", "error_codes": {codes}, "trace_id": "t"}}"#);
            let body: ErrorBody = serde_json::from_str(&text).unwrap();
            assert_eq!((body.error_codes, body.trace_id.as_deref()), (read, Some("t")), "{codes}");
        }
    }

    #[test]
    fn null_and_values_of_other_types_count_as_missing() {
        for absent in ["null", "7", "[]", "{}"] {
            let text = format!(
                r#"{{"error": "invalid_client", "error_codes": [7000222], "error_description": {absent},
                "trace_id": {absent}, "correlation_id": {absent}, "timestamp": {absent}}}"#
            );
            let body: ErrorBody = serde_json::from_str(&text).unwrap();
            assert_eq!(
                diagnose(401, Some(&body)),
                rejected(Reason::SecretExpired, Some(7_000_222)),
                "{absent}"
            );
            assert_eq!((body.trace_id, body.correlation_id, body.timestamp), (None, None, None), "{absent}");
            let body: ErrorBody = serde_json::from_str(&format!(r#"{{"error": {absent}}}"#)).unwrap();
            assert_eq!(diagnose(401, Some(&body)), Diagnosis::Unavailable, "{absent}");
        }
    }

    #[test]
    fn codes_refine_the_reason_of_error() {
        for (status, error, code, reason) in [
            (401, "invalid_client", 7_000_215, Reason::InvalidClientSecret),
            (400, "invalid_client", 7_000_215, Reason::InvalidClientSecret),
            (401, "invalid_client", 7_000_222, Reason::SecretExpired),
            (400, "unauthorized_client", 700_016, Reason::ApplicationNotFound),
            (401, "invalid_client", 7_000_229, Reason::ServicePrincipalMissing),
            (400, "unauthorized_client", 7_000_112, Reason::ApplicationDisabled),
            (401, "invalid_client", 700_025, Reason::PublicClient),
            (400, "invalid_request", 90_002, Reason::TenantNotFound),
            (400, "invalid_tenant", 90_002, Reason::TenantNotFound),
            (400, "invalid_request", 900_439, Reason::WrongCloud),
            (400, "invalid_grant", 53_003, Reason::ConditionalAccessBlocked),
        ] {
            let diagnosis = diagnose(status, Some(&body(error, &[code], "")));
            assert_eq!(diagnosis, rejected(reason, Some(code)), "{code}");
        }
    }

    #[test]
    fn every_known_code_is_diagnosed_by_its_class_with_any_error() {
        for code in crate::core::aadsts::CODES {
            for error in ["invalid_client", "unauthorized_client", "invalid_request", "invalid_grant"] {
                let expected = match code.class {
                    Class::Rejected(reason) => rejected(reason, Some(code.first())),
                    Class::Throttled => Diagnosis::Throttled,
                    Class::Unavailable => Diagnosis::Unavailable,
                };
                assert_eq!(diagnose(400, Some(&body(error, &[code.first()], ""))), expected, "{code:?}");
            }
        }
    }

    #[test]
    fn codes_about_an_assertion_are_about_the_client_secret() {
        for codes in [&[70_002, 50_012][..], &[50_012, 70_002], &[50_012], &[700_027]] {
            let diagnosis = diagnose(401, Some(&body("invalid_client", codes, "")));
            assert_eq!(diagnosis, rejected(Reason::InvalidClientSecret, Some(codes[0])), "{codes:?}");
        }
    }

    #[test]
    fn an_unknown_code_falls_back_to_error() {
        let unknown = body("invalid_client", &[123_456], "");
        assert_eq!(diagnose(401, Some(&unknown)), rejected(Reason::InvalidClientSecret, Some(123_456)));
        let bare = body("unauthorized_client", &[], "");
        assert_eq!(diagnose(400, Some(&bare)), rejected(Reason::ApplicationNotFound, None));
    }

    #[test]
    fn a_code_is_read_from_the_description_if_the_list_is_missing() {
        for layout in
            ["AADSTS7000222: expired.\r\nTrace ID: x", "AADSTS7000222: expired. Trace ID: x", "AADSTS7000222"]
        {
            let diagnosis = diagnose(401, Some(&body("invalid_client", &[], layout)));
            assert_eq!(diagnosis, rejected(Reason::SecretExpired, Some(7_000_222)), "{layout}");
        }
    }

    #[test]
    fn a_temporary_failure_is_never_a_rejection() {
        assert_eq!(diagnose(429, None), Diagnosis::Throttled);
        assert_eq!(diagnose(400, Some(&body("invalid_grant", &[50_196], ""))), Diagnosis::Throttled);
        for (status, error) in [
            (503, "temporarily_unavailable"),
            (400, "temporarily_unavailable"),
            (400, "server_error"),
            (500, "invalid_client"),
            (408, "invalid_client"),
            (307, "invalid_client"),
            (400, "a_new_value"),
            (400, ""),
        ] {
            assert_eq!(
                diagnose(status, Some(&body(error, &[], ""))),
                Diagnosis::Unavailable,
                "{status} {error}"
            );
        }
        assert_eq!(diagnose(401, None), Diagnosis::Unavailable, "a proxy's page is not a rejection");
        assert_eq!(diagnose(400, Some(&body("invalid_request", &[90_033], ""))), Diagnosis::Unavailable);
    }
}
