//! The result of a verification, as text, JSON and exit code.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::TenantId;
use crate::api::reasons::{self, Actor, Reason};
use crate::cli::output::{Report, Text};
use crate::core::aadsts::{self, Remedy};
use crate::core::diagnosis;
use crate::core::diagnosis::{Diagnosis, Rejection};
use crate::core::secret_form::SecretForm;
use crate::core::secret_value::{ValueKind, ValueProblem};
use crate::core::sign_in;
use crate::core::token_result::{RequestIds, TokenResult};
use crate::entra::identity::{GraphToken, GraphTokenError, IdentitySnapshot};

/// The result of a verification. It contains no text from Microsoft, only well-formed ids and times.
#[derive(Debug)]
pub(super) struct VerifyResult {
    reason: Reason,
    message: String,
    code: Option<u32>,
    roles: Option<Vec<String>>,
    retry_after: Option<Duration>,
    request_ids: RequestIds,
}

// === impl VerifyResult ===

impl VerifyResult {
    /// The secret is unusable, and nothing was sent.
    pub(super) fn unusable(problem: ValueProblem) -> Self {
        let remedy = problem.remedy(ValueKind::ClientSecret);
        Self::new(problem.reason(), format!("the secret {problem}, so nothing was sent: {remedy}"))
    }

    /// The meaning of Microsoft's response.
    pub(super) fn of(result: TokenResult, required_roles: &[String], form: Option<SecretForm>) -> Self {
        let (diagnosis, retry_after, request_ids) = match result {
            TokenResult::Issued { roles } => return Self::issued(roles, required_roles),
            TokenResult::NotIssued { diagnosis, retry_after, request_ids } => {
                (diagnosis, retry_after, request_ids)
            }
        };
        let found = match diagnosis {
            Diagnosis::Rejected(rejection) => Self::rejected(&rejection, form),
            Diagnosis::Throttled => Self::new(
                Reason::RateLimited,
                "Microsoft limits the rate of requests: try again in a few minutes".into(),
            ),
            Diagnosis::Unavailable => {
                Self::new(Reason::MicrosoftUnavailable, unavailable(&request_ids).into())
            }
        };
        let code = found
            .code
            .or_else(|| request_ids.codes.iter().copied().find(|code| aadsts::find(*code).is_some()));
        Self { code, retry_after, request_ids, ..found }
    }

    /// The result of signing in with an identity. The token is dropped.
    pub(super) fn of_sign_in(
        token: Result<GraphToken, GraphTokenError>,
        identity: &IdentitySnapshot,
        tenant: &TenantId,
        authority: &str,
        required_roles: &[String],
    ) -> anyhow::Result<Self> {
        let error = match token {
            Ok(token) => {
                let roles = token.roles().map(<[String]>::to_vec);
                let lacks_permission =
                    identity.has_grant_in(tenant) && !sign_in::can_read_apps(roles.as_deref());
                if lacks_permission && required_roles.is_empty() {
                    let message = sign_in::permission_advice(authority, tenant, &identity.client_id);
                    return Ok(Self { roles, ..Self::new(Reason::PermissionMissing, message) });
                }
                return Ok(Self::issued(roles, required_roles));
            }
            Err(error) => error,
        };
        let Some(reason) = error.reason() else { return Err(error.into()) };
        let code = match &error {
            GraphTokenError::Rejected { rejection, .. } => rejection.code,
            GraphTokenError::Unusable(_)
            | GraphTokenError::ReadSecret { .. }
            | GraphTokenError::RateLimited { .. }
            | GraphTokenError::Unavailable { .. }
            | GraphTokenError::NotLeading(_) => None,
        };
        Ok(Self { code, retry_after: error.retry_after(), ..Self::new(reason, error.to_string()) })
    }

    fn new(reason: Reason, message: String) -> Self {
        Self {
            reason,
            message,
            code: None,
            roles: None,
            retry_after: None,
            request_ids: RequestIds::default(),
        }
    }

    fn rejected(rejection: &Rejection, form: Option<SecretForm>) -> Self {
        let message = diagnosis::advice(rejection, form);
        Self { code: rejection.code, ..Self::new(rejection.reason, message) }
    }

    fn issued(roles: Option<Vec<String>>, required: &[String]) -> Self {
        let have = roles.as_deref().unwrap_or_default();
        let missing: Vec<&str> =
            required.iter().filter(|role| !have.contains(role)).map(String::as_str).collect();
        let message = match &roles {
            _ if missing.is_empty() => {
                let message = "Microsoft issues tokens".into();
                return Self { roles, ..Self::new(Reason::TokenIssued, message) };
            }
            Some(_) => format!("Microsoft issues tokens, but they lack the roles {}", missing.join(", ")),
            None => "Microsoft issues tokens, but their roles cannot be read".into(),
        };
        Self { roles, ..Self::new(Reason::RequiredRolesMissing, message) }
    }

    /// As documented in `verify --help`.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self.reason {
            Reason::TokenIssued => ExitCode::SUCCESS,
            Reason::RateLimited | Reason::MicrosoftUnavailable => ExitCode::from(4),
            _ => ExitCode::from(3),
        }
    }

    /// The remedy of the code, or else of the reason.
    fn remedy(&self) -> Remedy {
        let code = self.code.and_then(aadsts::find).filter(|code| code.reason() == self.reason);
        code.map_or_else(
            || {
                let entry = reasons::entry(self.reason);
                Remedy { actor: entry.actor, action: entry.action }
            },
            aadsts::Code::remedy,
        )
    }
}

impl Report for VerifyResult {
    fn text(&self, _is_wide: bool) -> Text {
        let remedy = self.remedy();
        let mut lines = vec![format!("{}: {}", self.reason, self.message)];
        let mut line = |name: &str, value: &str| lines.push(format!("  {:<12} {value}", format!("{name}:")));
        if remedy.actor != Actor::Nobody {
            line("who acts", remedy.actor.as_str());
            line("what to do", remedy.action);
        }
        if let Some(wait) = self.retry_after {
            line("wait", &format!("at least {} s", wait.as_secs()));
        }
        if let Some(roles) = &self.roles {
            line("roles seen", if roles.is_empty() { "none".into() } else { roles.join(", ") }.as_str());
        }
        let request_ids = &self.request_ids;
        for (name, value) in [
            ("trace id", &request_ids.id),
            ("correlation", &request_ids.correlation_id),
            ("time", &request_ids.timestamp),
            ("failure", &request_ids.failure),
        ] {
            if let Some(value) = value {
                line(name, value);
            }
        }
        Text::of(&(lines.join("\n") + "\n"))
    }

    fn json(&self) -> Value {
        let (remedy, request_ids) = (self.remedy(), &self.request_ids);
        json!({
            "reason": self.reason.as_str(), "message": self.message, "whoActs": remedy.actor.as_str(),
            "whatToDo": remedy.action, "code": self.code.map(|code| format!("AADSTS{code}")), "codes": request_ids.codes,
            "status": request_ids.status, "retryAfterSeconds": self.retry_after.map(|wait| wait.as_secs()),
            "roles": self.roles, "traceId": request_ids.id, "correlationId": request_ids.correlation_id,
            "time": request_ids.timestamp, "failure": request_ids.failure
        })
    }
}

fn unavailable(request_ids: &RequestIds) -> &'static str {
    match request_ids.status {
        None => "Microsoft's token endpoint could not be reached: check outbound connections",
        Some(_) => {
            "Microsoft's token endpoint failed, or another server answered: try again in a few minutes"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reasons::Kind;

    fn not_issued(diagnosis: Diagnosis, codes: Vec<u32>) -> VerifyResult {
        let request_ids = RequestIds { codes, ..RequestIds::default() };
        VerifyResult::of(TokenResult::NotIssued { diagnosis, retry_after: None, request_ids }, &[], None)
    }

    #[test]
    fn a_code_determines_the_remedy_if_its_reason_does_not() {
        let rejection = Rejection { reason: Reason::VerificationRejected, code: Some(500_011) };
        let found = not_issued(Diagnosis::Rejected(rejection), vec![500_011]);
        assert_eq!(found.remedy().actor, Actor::TenantAdmin);
        let support = not_issued(Diagnosis::Unavailable, vec![90_036]);
        assert!(support.text(false).as_str().contains("Microsoft's support"), "{support:?}");
        let unknown = Rejection { reason: Reason::VerificationRejected, code: Some(123_456) };
        let unknown = not_issued(Diagnosis::Rejected(unknown), vec![123_456]);
        assert_eq!(unknown.remedy().action, reasons::entry(Reason::VerificationRejected).action);
    }

    #[test]
    fn unreadable_roles_are_not_reported_as_missing() {
        let required = ["Mail.Send".to_owned()];
        let opaque = VerifyResult::of(TokenResult::Issued { roles: None }, &required, None);
        assert!(opaque.message.contains("cannot be read"), "{opaque:?}");
        let opaque = VerifyResult::of(TokenResult::Issued { roles: None }, &[], None);
        assert_eq!(opaque.reason, Reason::TokenIssued);
    }

    #[test]
    fn every_result_is_a_reason_of_credentials_with_a_remedy() {
        for code in aadsts::CODES {
            let rejection = Rejection { reason: code.reason(), code: Some(code.first()) };
            let found = not_issued(Diagnosis::Rejected(rejection), vec![code.first()]);
            assert_eq!(reasons::entry(found.reason).kind, Kind::Credential);
            assert_eq!(found.json()["whatToDo"], code.remedy().action);
        }
    }
}
