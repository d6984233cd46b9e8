//! What a refusal of the token endpoint means.
//!
//! HTTP status and `error` decide what kind of answer it is; AADSTS codes only refine the reason, for
//! Microsoft says of them that they may change at any time. Unknown codes fall back to what `error` says.

use serde::Deserialize;

use super::codes::{self, Class};
use crate::resources::conditions::Reason;

/// Why Microsoft did not issue a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diagnosis {
    /// It refuses, and will go on refusing until somebody changes something.
    Refused(Refusal),
    Throttled,
    /// It has a failure of its own, or what answered was not Microsoft.
    Unavailable,
}

/// A refusal in Microsoft's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it means to the person who must act.
    pub reason: Reason,
    /// The AADSTS code that says most, where there is one.
    pub code: Option<u32>,
}

/// The body of an error answer; every field may be missing. Source: Microsoft, "Microsoft Entra
/// authentication and authorization error codes".
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(default)]
    pub(super) error: String,
    #[serde(default)]
    pub(super) error_description: String,
    #[serde(default, deserialize_with = "readable_codes")]
    pub(super) error_codes: Vec<u32>,
    #[serde(default)]
    pub(super) trace_id: Option<String>,
    #[serde(default)]
    pub(super) correlation_id: Option<String>,
    #[serde(default)]
    pub(super) timestamp: Option<String>,
}

/// The codes that are numbers of the known size; an odd one must not hide the rest of the answer.
fn readable_codes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    let codes = serde_json::Value::deserialize(deserializer)?;
    let codes = codes.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(codes.iter().filter_map(|code| code.as_u64()?.try_into().ok()).collect())
}

/// The code of a refusal as people look it up, or the word for none.
pub fn code_text(refusal: &Refusal) -> String {
    match refusal.code {
        Some(code) => format!("AADSTS{code}"),
        None => "without an AADSTS code".to_owned(),
    }
}

/// What a refusal means and what to do about it, in words that stay the same on each try.
pub fn advice(refusal: &Refusal, secret_looks_like_an_id: bool) -> String {
    let text = match refusal.reason {
        Reason::InvalidClientSecret if secret_looks_like_an_id => {
            "Microsoft refuses the client secret, and it looks like a secret's ID: put the secret's Value into the Secret (it is shown only when the secret is made, so make a new one)"
        }
        Reason::InvalidClientSecret => {
            "Microsoft refuses the client secret: put the current secret's Value (not its ID) into the Secret, or make a new one under Certificates & secrets"
        }
        Reason::SecretExpired => {
            "Microsoft says that the client secret has expired: make a new one under Certificates & secrets and put it with its expiry into the Secret"
        }
        Reason::ApplicationNotFound => {
            "there is no such app in the tenant: check clientId and tenantId, and that an admin of the tenant has consented to the app"
        }
        Reason::TenantNotFound => "there is no such tenant in this cloud: check tenantId and cloud",
        Reason::ServicePrincipalMissing => {
            "the app has no service principal in the tenant: an admin of the tenant must consent to it or create an enterprise application for it"
        }
        Reason::ApplicationDisabled => {
            "the app is disabled in the tenant: an admin must enable sign-in under Enterprise applications > Properties"
        }
        Reason::PublicClient => {
            "the app is a public client and must not use a secret: register a web app, or turn off 'Allow public client flows'"
        }
        Reason::ConditionalAccessBlocked => {
            "a Conditional Access policy for workload identities blocks the operator's address: let it in, or use verification.policy BestEffort"
        }
        Reason::WrongCloud => "the tenant lives in another Microsoft cloud: set spec.cloud in a new object",
        _ => "Microsoft refuses the request: look its code up under login.microsoftonline.com/error",
    };
    format!("{text} ({})", code_text(refusal))
}

/// Judges an error answer by its status and body.
pub(super) fn diagnose(status: u16, body: Option<&ErrorBody>) -> Diagnosis {
    if status == 429 {
        return Diagnosis::Throttled;
    }
    let Some(body) = body else { return Diagnosis::Unavailable };
    if status == 408 || !(400..500).contains(&status) {
        return Diagnosis::Unavailable;
    }
    let numbers = numbers(body);
    let known = numbers.iter().find_map(|number| codes::find(*number));
    match known.map(|code| code.class) {
        Some(Class::Throttled) => return Diagnosis::Throttled,
        Some(Class::Unavailable) => return Diagnosis::Unavailable,
        Some(Class::Refused(_)) | None => {}
    }
    let Some(by_error) = reason_of_error(&body.error) else { return Diagnosis::Unavailable };
    let (code, reason) = match known.map(|code| (code.number, code.class)) {
        Some((number, Class::Refused(reason))) => (Some(number), reason),
        _ => (numbers.first().copied(), by_error),
    };
    Diagnosis::Refused(Refusal { reason, code })
}

/// The AADSTS codes of an answer: its list, or else the one that its description begins with.
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

/// What `error` alone says; nothing for a temporary failure or an unknown word.
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
        | "access_denied" => Some(Reason::Rejected),
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

    fn refused(reason: Reason, code: Option<u32>) -> Diagnosis {
        Diagnosis::Refused(Refusal { reason, code })
    }

    #[test]
    fn codes_refine_what_error_says() {
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
            assert_eq!(diagnosis, refused(reason, Some(code)), "{code}");
        }
    }

    #[test]
    fn every_known_code_is_judged_by_its_class_whatever_error_comes_with_it() {
        for code in super::codes::CODES {
            for error in ["invalid_client", "unauthorized_client", "invalid_request", "invalid_grant"] {
                let expected = match code.class {
                    Class::Refused(reason) => refused(reason, Some(code.number)),
                    Class::Throttled => Diagnosis::Throttled,
                    Class::Unavailable => Diagnosis::Unavailable,
                };
                assert_eq!(diagnose(400, Some(&body(error, &[code.number], ""))), expected, "{code:?}");
            }
        }
    }

    #[test]
    fn an_unknown_code_falls_back_to_error() {
        let unknown = body("invalid_client", &[123_456], "");
        assert_eq!(diagnose(401, Some(&unknown)), refused(Reason::InvalidClientSecret, Some(123_456)));
        let bare = body("unauthorized_client", &[], "");
        assert_eq!(diagnose(400, Some(&bare)), refused(Reason::ApplicationNotFound, None));
    }

    #[test]
    fn a_code_is_read_from_the_description_where_the_list_is_missing() {
        for layout in
            ["AADSTS7000222: expired.\r\nTrace ID: x", "AADSTS7000222: expired. Trace ID: x", "AADSTS7000222"]
        {
            let diagnosis = diagnose(401, Some(&body("invalid_client", &[], layout)));
            assert_eq!(diagnosis, refused(Reason::SecretExpired, Some(7_000_222)), "{layout}");
        }
    }

    #[test]
    fn what_is_temporary_is_never_a_refusal() {
        assert_eq!(diagnose(429, None), Diagnosis::Throttled);
        assert_eq!(diagnose(400, Some(&body("invalid_grant", &[50_196], ""))), Diagnosis::Throttled);
        for (status, error) in [
            (503, "temporarily_unavailable"),
            (400, "temporarily_unavailable"),
            (400, "server_error"),
            (500, "invalid_client"),
            (408, "invalid_client"),
            (307, "invalid_client"),
            (400, "a_new_word"),
            (400, ""),
        ] {
            assert_eq!(
                diagnose(status, Some(&body(error, &[], ""))),
                Diagnosis::Unavailable,
                "{status} {error}"
            );
        }
        assert_eq!(diagnose(401, None), Diagnosis::Unavailable, "a proxy's page is no verdict");
        assert_eq!(diagnose(400, Some(&body("invalid_request", &[90_033], ""))), Diagnosis::Unavailable);
    }
}
