//! What came of a proof: in words, as JSON, and as an exit code.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::microsoft::codes::{self, Remedy};
use crate::microsoft::{Diagnosis, Refusal, Trace, Verdict, diagnosis};
use crate::resources::catalogue::{self, Actor};
use crate::resources::conditions::Reason;

/// What came of it. No text of Microsoft's is in it, but ids and times that have their proper shape.
#[derive(Debug)]
pub(super) struct Finding {
    reason: Reason,
    message: String,
    code: Option<u32>,
    roles: Option<Vec<String>>,
    retry_after: Option<Duration>,
    trace: Trace,
}

// === impl Finding ===

impl Finding {
    /// The secret is no usable value: it `problem`, and nothing was sent.
    pub(super) fn unusable(reason: Reason, problem: &str) -> Self {
        let cause = match reason {
            Reason::SurroundingWhitespace => {
                ", with which Microsoft would refuse it: write it without (printf %s or echo -n adds none)"
            }
            _ => "",
        };
        Self::new(reason, format!("the secret {problem}{cause}; nothing was sent"))
    }

    /// What Microsoft's verdict means.
    pub(super) fn of(verdict: Verdict, required_roles: &[String], looks_like_an_id: bool) -> Self {
        let (diagnosis, retry_after, trace) = match verdict {
            Verdict::Issued { roles } => return Self::issued(roles, required_roles),
            Verdict::NotIssued { diagnosis, retry_after, trace } => (diagnosis, retry_after, trace),
        };
        let found = match diagnosis {
            Diagnosis::Refused(refusal) => Self::refused(&refusal, looks_like_an_id),
            Diagnosis::Throttled => {
                Self::new(Reason::Throttled, "Microsoft asks to slow down: try again in some minutes".into())
            }
            Diagnosis::Unavailable => Self::new(Reason::MicrosoftUnavailable, unavailable(&trace).into()),
        };
        let code =
            found.code.or_else(|| trace.codes.iter().copied().find(|code| codes::find(*code).is_some()));
        Self { code, retry_after, trace, ..found }
    }

    fn new(reason: Reason, message: String) -> Self {
        Self { reason, message, code: None, roles: None, retry_after: None, trace: Trace::default() }
    }

    fn refused(refusal: &Refusal, looks_like_an_id: bool) -> Self {
        let message = diagnosis::advice(refusal, looks_like_an_id);
        Self { code: refusal.code, ..Self::new(refusal.reason, message) }
    }

    fn issued(roles: Option<Vec<String>>, required: &[String]) -> Self {
        let have = roles.as_deref().unwrap_or_default();
        let missing: Vec<&str> =
            required.iter().filter(|role| !have.contains(role)).map(String::as_str).collect();
        let message = match &roles {
            _ if missing.is_empty() => {
                let message = "Microsoft issues tokens for the secret".into();
                return Self { roles, ..Self::new(Reason::TokenIssued, message) };
            }
            Some(_) => format!("Microsoft issues tokens, and they lack the roles {}", missing.join(", ")),
            None => "Microsoft issues tokens, and the roles in them cannot be read".into(),
        };
        Self { roles, ..Self::new(Reason::RequiredRolesMissing, message) }
    }

    /// By class, as `verify --help` has it.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self.reason {
            Reason::TokenIssued => ExitCode::SUCCESS,
            Reason::Throttled | Reason::MicrosoftUnavailable => ExitCode::from(4),
            _ => ExitCode::from(3),
        }
    }

    /// Who must act, and how: what the code says, else what the reason says.
    fn remedy(&self) -> Remedy {
        let code = self.code.and_then(codes::find).filter(|code| code.reason() == self.reason);
        code.map_or_else(
            || {
                let entry = catalogue::entry(self.reason);
                Remedy { actor: entry.actor, cure: entry.cure }
            },
            codes::Code::remedy,
        )
    }

    pub(super) fn text(&self) -> String {
        let remedy = self.remedy();
        let mut lines = vec![format!("{}: {}", self.reason, self.message)];
        let mut line = |name: &str, value: &str| lines.push(format!("  {:<12} {value}", format!("{name}:")));
        if remedy.actor != Actor::Nobody {
            line("who acts", remedy.actor.as_str());
            line("what to do", remedy.cure);
        }
        if let Some(wait) = self.retry_after {
            line("wait", &format!("{} s at least", wait.as_secs()));
        }
        if let Some(roles) = &self.roles {
            line("roles seen", if roles.is_empty() { "none".into() } else { roles.join(", ") }.as_str());
        }
        let trace = &self.trace;
        for (name, value) in [
            ("trace id", &trace.id),
            ("correlation", &trace.correlation_id),
            ("time", &trace.timestamp),
            ("failure", &trace.failure),
        ] {
            if let Some(value) = value {
                line(name, value);
            }
        }
        lines.join("\n") + "\n"
    }

    pub(super) fn json(&self) -> Value {
        let (remedy, trace) = (self.remedy(), &self.trace);
        json!({
            "reason": self.reason.as_str(), "message": self.message, "whoActs": remedy.actor.as_str(),
            "cure": remedy.cure, "code": self.code.map(|code| format!("AADSTS{code}")), "codes": trace.codes,
            "status": trace.status, "retryAfterSeconds": self.retry_after.map(|wait| wait.as_secs()),
            "roles": self.roles, "traceId": trace.id, "correlationId": trace.correlation_id,
            "time": trace.timestamp, "failure": trace.failure
        })
    }
}

fn unavailable(trace: &Trace) -> &'static str {
    match trace.status {
        None => "Microsoft's token endpoint could not be reached: check the way out to the internet",
        Some(_) => {
            "Microsoft's token endpoint had a failure, or what answered was not Microsoft: try again in some minutes"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::catalogue::Kind;

    fn not_issued(diagnosis: Diagnosis, codes: Vec<u32>) -> Finding {
        let trace = Trace { codes, ..Trace::default() };
        Finding::of(Verdict::NotIssued { diagnosis, retry_after: None, trace }, &[], false)
    }

    #[test]
    fn a_code_says_who_acts_where_its_reason_cannot() {
        let refusal = Refusal { reason: Reason::Rejected, code: Some(500_011) };
        let found = not_issued(Diagnosis::Refused(refusal), vec![500_011]);
        assert_eq!(found.remedy().actor, Actor::TenantAdmin);
        let support = not_issued(Diagnosis::Unavailable, vec![90_036]);
        assert!(support.text().contains("Microsoft's support"), "{}", support.text());
        let unknown = Refusal { reason: Reason::Rejected, code: Some(123_456) };
        let unknown = not_issued(Diagnosis::Refused(unknown), vec![123_456]);
        assert_eq!(unknown.remedy().cure, catalogue::entry(Reason::Rejected).cure);
    }

    #[test]
    fn roles_that_cannot_be_read_are_not_said_to_be_missing() {
        let required = ["Mail.Send".to_owned()];
        let opaque = Finding::of(Verdict::Issued { roles: None }, &required, false);
        assert!(opaque.message.contains("cannot be read"), "{opaque:?}");
        let opaque = Finding::of(Verdict::Issued { roles: None }, &[], false);
        assert_eq!(opaque.reason, Reason::TokenIssued);
    }

    #[test]
    fn what_is_found_stands_on_credentials_and_has_a_cure() {
        for code in codes::CODES {
            let refusal = Refusal { reason: code.reason(), code: Some(code.number) };
            let found = not_issued(Diagnosis::Refused(refusal), vec![code.number]);
            assert_eq!(catalogue::entry(found.reason).kind, Kind::Credential);
            assert_eq!(found.json()["cure"], code.remedy().cure);
        }
    }
}
