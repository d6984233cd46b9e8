//! One token request, as the double remembers it.

use jiff::Timestamp;

use super::form::Form;
use crate::double::SecretText;
use crate::double::http::Request;

/// A token request that has arrived. The secret is kept, and only compared: see [`TokenRequest::secret_is`].
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// When it arrived.
    pub at: Timestamp,
    /// The tenant of the path, as sent.
    pub tenant: String,
    /// `client_id`, as sent; empty where it could not be read.
    pub client: String,
    /// `scope`, as sent; empty where it could not be read.
    pub scope: String,
    /// What came of it, so far.
    pub outcome: Outcome,
    /// The `client-request-id` header.
    pub client_request_id: Option<String>,
    /// All headers in their order, names in lower case; the value of `authorization` is replaced.
    pub headers: Vec<(String, String)>,
    secret: SecretText,
}

/// What came of a token request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not answered yet.
    Open,
    /// A token.
    Issued,
    /// An error body of Microsoft's shape.
    Refused {
        /// HTTP status.
        status: u16,
        /// The `error` field.
        error: String,
        /// The AADSTS code.
        code: u32,
    },
    /// This fault (its variant's name) instead of what the books say.
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
            secret: form.secret.clone(),
        }
    }
}
