//! Rejections of the token endpoint and Microsoft's error body: the AADSTS table, the two layouts of the
//! description, and ids that are new in every response. Source:
//! <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde_json::{Value, json};

/// The two layouts of `error_description` seen in the wild.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Trace id, correlation id and timestamp on separate lines, separated by `\r\n`: the layout of
    /// Microsoft's docs.
    #[default]
    Lines,
    /// Everything on one line, separated by spaces.
    OneLine,
}

/// Why no token is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    WrongSecret,
    ExpiredSecret,
    UnknownApp,
    UnknownTenant,
    MalformedTenant,
    SharedTenant,
    NoServicePrincipal,
    AppDisabled,
    PublicClient,
    BlockedByPolicy,
    /// The app has no federated credential.
    NoFederatedCredential,
    /// Entra cannot fetch the keys of the issuer.
    UnreachableIssuer,
    WrongIssuer(String),
    WrongAudience(String),
    WrongSubject(String),
    InvalidAssertion,
    AssertionOutOfTime,
    MissingParameter(&'static str),
    MissingSecret,
    Malformed,
    WrongGrant,
    WrongScope,
    /// An unknown code and `error`.
    Unknown(u32, String),
}

/// A rejection, ready to be written.
pub(crate) struct Rejection {
    pub(crate) status: u16,
    pub(crate) error: String,
    pub(crate) code: u32,
    text: String,
}

/// The values that are specific to one response.
pub(crate) struct ResponseIds {
    trace_id: String,
    correlation_id: String,
    timestamp: String,
    layout: Layout,
}

/// An id in the format of a GUID, new in every call.
pub(crate) fn new_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default();
    // The counter makes it unique in this process, the clock between processes.
    format!(
        "{:08x}-{:04x}-4{:03x}-9{:03x}-{:012x}",
        nanos >> 32,
        (nanos >> 16) & 0xffff,
        nanos & 0xfff,
        std::process::id() & 0xfff,
        count
    )
}

// === impl Cause ===

impl Cause {
    pub(crate) fn rejection(&self, tenant: &str, client: &str) -> Rejection {
        let (status, error, code, text) = match self {
            Self::WrongSecret => (401, "invalid_client", 7_000_215, format!("Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{client}'.")),
            Self::ExpiredSecret => (401, "invalid_client", 7_000_222, format!("The provided client secret keys for app '{client}' are expired. Create new keys for your app or consider using certificate credentials for added security.")),
            Self::UnknownApp => (400, "unauthorized_client", 700_016, format!("Application with identifier '{client}' was not found in the directory '{tenant}'.")),
            Self::UnknownTenant => (400, "invalid_tenant", 90_002, format!("Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.")),
            Self::MalformedTenant => (400, "invalid_request", 900_023, format!("Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid external domain.")),
            Self::SharedTenant => (400, "invalid_request", 9_001_023, "The grant type is not supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific endpoint.".to_owned()),
            Self::NoServicePrincipal => (401, "invalid_client", 7_000_229, format!("The client application '{client}' is missing service principal in the tenant '{tenant}'.")),
            Self::AppDisabled => (400, "unauthorized_client", 7_000_112, format!("Application '{client}' is disabled.")),
            Self::PublicClient => (401, "invalid_client", 700_025, "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.".to_owned()),
            Self::BlockedByPolicy => (400, "invalid_grant", 53_003, "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.".to_owned()),
            Self::NoFederatedCredential => (401, "invalid_client", 70_025, format!("The client '{client}' has no configured federated identity credentials.")),
            Self::UnreachableIssuer => (400, "invalid_request", 90_061, "Request to External OIDC endpoint failed.".to_owned()),
            Self::WrongIssuer(issuer) => (401, "invalid_client", 700_211, format!("No matching federated identity record found for presented assertion issuer '{issuer}'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion.")),
            Self::WrongAudience(audience) => (401, "invalid_client", 700_212, format!("No matching federated identity record found for presented assertion audience '{audience}'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion.")),
            Self::WrongSubject(subject) => (401, "invalid_client", 700_213, format!("No matching federated identity record found for presented assertion subject '{subject}'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion.")),
            Self::InvalidAssertion => (401, "invalid_client", 700_027, "Client assertion failed signature validation.".to_owned()),
            Self::AssertionOutOfTime => (401, "invalid_client", 700_024, "Client assertion is not within its valid time range.".to_owned()),
            Self::MissingParameter(name) => (400, "invalid_request", 900_144, format!("The request body must contain the following parameter: '{name}'.")),
            Self::MissingSecret => (401, "invalid_client", 7_000_218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.".to_owned()),
            Self::Malformed => (400, "invalid_request", 9_002_313, "Invalid request. Request is malformed or invalid.".to_owned()),
            Self::WrongGrant => (400, "unsupported_grant_type", 70_003, "The app requested an unsupported grant type.".to_owned()),
            Self::WrongScope => (400, "invalid_scope", 70_011, "The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid.".to_owned()),
            Self::Unknown(code, error) => {
                let status = if error == "invalid_client" { 401 } else { 400 };
                return Rejection { status, error: error.clone(), code: *code, text: "An unknown error.".to_owned() };
            }
        };
        Rejection { status, error: error.to_owned(), code, text }
    }
}

// === impl Rejection ===

impl Rejection {
    pub(crate) fn body(&self, ids: &ResponseIds) -> Value {
        let mut body = json!({
            "error": self.error,
            "error_description": ids.describe(self.code, &self.text),
            "error_codes": [self.code],
            "timestamp": ids.timestamp,
            "trace_id": ids.trace_id,
            "correlation_id": ids.correlation_id,
        });
        // Only if Microsoft's lookup page knows the code.
        if !matches!(self.code, 7_000_229 | 900_023) {
            let uri = format!("https://login.microsoftonline.com/error?code={}", self.code);
            body["error_uri"] = uri.into();
        }
        body
    }
}

// === impl ResponseIds ===

impl ResponseIds {
    /// `client_request_id` is returned as the correlation id, as Microsoft does.
    pub(crate) fn new(client_request_id: Option<&str>, layout: Layout) -> Self {
        Self {
            trace_id: new_id(),
            correlation_id: client_request_id.map_or_else(new_id, str::to_owned),
            timestamp: Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            layout,
        }
    }

    fn describe(&self, code: u32, text: &str) -> String {
        let between = match self.layout {
            Layout::Lines => "\r\n",
            Layout::OneLine => " ",
        };
        [
            format!("AADSTS{code}: {text}"),
            format!("Trace ID: {}", self.trace_id),
            format!("Correlation ID: {}", self.correlation_id),
            format!("Timestamp: {}", self.timestamp),
        ]
        .join(between)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_guids() {
        let ids: std::collections::BTreeSet<String> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let lengths: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        }
    }

    #[test]
    fn an_unknown_code_keeps_its_error_and_gets_the_status_of_its_kind() {
        let of = |error: &str| Cause::Unknown(123, error.to_owned()).rejection("t", "c");
        assert_eq!((of("invalid_client").status, of("new_error").status), (401, 400));
        assert_eq!(of("new_error").error, "new_error");
    }
}
