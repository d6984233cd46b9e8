//! A token request in the record of the double.

use jiff::Timestamp;

use super::form::Form;
use crate::double::SecretText;
use crate::double::http::Request;

/// A received token request. The secret is kept only for comparison: see [`TokenRequest::secret_is`].
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// When it arrived.
    pub at: Timestamp,
    /// The tenant of the path, as sent.
    pub tenant: String,
    /// `client_id`, as sent; empty if it could not be read.
    pub client: String,
    /// `scope`, as sent; empty if it could not be read.
    pub scope: String,
    /// The outcome so far.
    pub outcome: Outcome,
    /// The `client-request-id` header.
    pub client_request_id: Option<String>,
    /// All headers in order, names in lower case; the value of `authorization` is replaced.
    pub headers: Vec<(String, String)>,
    /// What it authenticated with.
    pub credential: SentCredential,
    secret: SecretText,
}

/// What a token request authenticated with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentCredential {
    /// A client secret, or nothing that can be read.
    Secret,
    /// A token of a ServiceAccount.
    FederatedToken,
    /// An assertion that is signed with a certificate.
    Certificate,
}

/// The outcome of a token request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not answered yet.
    Open,
    /// A token.
    Issued,
    /// An error body in Microsoft's format.
    Rejected {
        /// HTTP status.
        status: u16,
        /// The `error` field.
        error: String,
        /// The AADSTS code.
        code: u32,
    },
    /// This fault (the name of its variant) instead of the regular response.
    Fault(&'static str),
}

impl TokenRequest {
    /// Whether `secret` was sent, byte for byte.
    pub fn secret_is(&self, secret: &str) -> bool {
        self.secret.is(secret)
    }

    pub(crate) fn new(tenant: &str, form: &Form, request: &Request) -> Self {
        let mut headers = request.headers.clone();
        for (name, value) in &mut headers {
            if name == "authorization" {
                "[secret]".clone_into(value);
            }
        }
        Self {
            at: Timestamp::now(),
            tenant: tenant.to_owned(),
            client: form.client.clone(),
            scope: form.scope.clone(),
            outcome: Outcome::Open,
            client_request_id: request.header("client-request-id").map(str::to_owned),
            headers,
            credential: match &form.assertion {
                None => SentCredential::Secret,
                Some(assertion) if assertion.is_of_certificate() => SentCredential::Certificate,
                Some(_) => SentCredential::FederatedToken,
            },
            secret: form.secret.clone(),
        }
    }
}
