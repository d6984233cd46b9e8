//! One request for a Graph token.
//!
//! Source: Microsoft, "OAuth 2.0 client credentials flow" (v2.0), second and third case.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::api::TenantId;
use crate::api::conditions::Reason;
use crate::core::diagnosis::{Diagnosis, ErrorBody};
use crate::core::error_chain::chain;
use crate::core::sign_in::{FederatedClaims, SignIn, advice, consent_url, diagnose_sign_in};
use crate::core::token_result::RequestIds;
use crate::entra::breaker::Breaker;
use crate::entra::identity::credential::{ClientCredential, CredentialSources};
use crate::entra::identity::error::GraphTokenError;
use crate::entra::identity::snapshot::IdentitySnapshot;
use crate::entra::token::{EndpointConfig, MAX_RESPONSE, copy_ids, first_json, request_id};
use crate::entra::{cloud, roles};
use crate::http::client;
use crate::secret_text::SecretText;

/// The type of an assertion. Source: RFC 7523 §2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The lifetime of a token whose response does not tell it: the shortest that Microsoft issues by default is an hour.
const DEFAULT_LIFETIME: Duration = Duration::from_hours(1);

/// Longest lifetime that is believed.
const MAX_LIFETIME: Duration = Duration::from_hours(24);

/// Exchanges the credential of an identity for a token.
pub(super) struct Exchange {
    pub(super) config: EndpointConfig,
    pub(super) sources: CredentialSources,
    pub(super) breaker: Breaker,
    pub(super) time_out: Duration,
}

/// A token as it was issued.
#[derive(Debug)]
pub(super) struct IssuedToken {
    pub(super) text: SecretText,
    pub(super) lifetime: Duration,
    /// Its application roles; `None` if they cannot be read.
    pub(super) roles: Option<Arc<[String]>>,
}

#[derive(Deserialize)]
struct TokenBody {
    access_token: SecretText,
    #[serde(default)]
    expires_in: Option<Seconds>,
}

/// A number, or the same as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
    Other(IgnoredAny),
}

/// A request that was answered, or the cause why there is no answer.
struct Response {
    status: u16,
    retry_after: Option<Duration>,
    body: Zeroizing<Vec<u8>>,
    request_id: String,
}

// === impl Exchange ===

impl Exchange {
    /// Requests a token of the identity in that tenant, once.
    pub(super) async fn token(
        &self,
        identity: &IdentitySnapshot,
        tenant: &TenantId,
    ) -> Result<IssuedToken, GraphTokenError> {
        self.config.leadership.check_call(self.time_out)?;
        let authority = self.config.authorities.of(identity.cloud);
        let url = format!("{authority}/{tenant}/oauth2/v2.0/token");
        let credential = self.sources.credential(identity, &url).await?;
        let unavailable = |retry_after| GraphTokenError::Unavailable { retry_after };
        let mut admission = self.breaker.admit(authority).map_err(|wait| unavailable(Some(wait)))?;
        let started = Instant::now();
        let response = self.send(identity, &url, &credential).await;
        match &response {
            Ok(_) => admission.responded(),
            Err(_) => admission.got_no_response(),
        }
        let result = match response {
            Ok(response) => self.read(identity, tenant, &credential, response),
            Err(cause) => {
                tracing::warn!(identity = %identity.key, %tenant, error = cause, "failed to reach the token endpoint");
                Err(unavailable(None))
            }
        };
        let outcome = result.as_ref().map_or_else(GraphTokenError::category, |_| "issued");
        self.config.metrics.remote.ended("microsoft", "graph_token", outcome, started.elapsed());
        result
    }

    /// Sends the request. `Err` says why there was no response.
    async fn send(
        &self,
        identity: &IdentitySnapshot,
        url: &str,
        credential: &ClientCredential,
    ) -> Result<Response, String> {
        let http = self.config.http.current().map_err(|error| chain(&error))?;
        let request_id = request_id();
        let request = http
            .post(url)
            .timeout(self.time_out)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .header("client-request-id", &request_id)
            .body(form(identity, credential));
        let response = request.send().await.map_err(|error| chain(&error.without_url()))?;
        let retry_after = client::retry_after(response.headers(), Timestamp::now());
        let status = response.status().as_u16();
        let body = client::body(response, MAX_RESPONSE).await.map_err(|error| chain(&error))?;
        Ok(Response { status, retry_after, body: Zeroizing::new(body), request_id })
    }

    /// The token in a response, or why there is none.
    fn read(
        &self,
        identity: &IdentitySnapshot,
        tenant: &TenantId,
        credential: &ClientCredential,
        response: Response,
    ) -> Result<IssuedToken, GraphTokenError> {
        let Response { status, retry_after, body, request_id } = response;
        if status == 200 {
            let token = first_json::<TokenBody>(&body).and_then(issued);
            return token.ok_or(GraphTokenError::Unavailable { retry_after });
        }
        let body = first_json::<ErrorBody>(&body);
        let sign_in = SignIn {
            method: identity.method(),
            cloud: identity.cloud,
            client: &identity.client_id,
            home_tenant: &identity.home_tenant,
            tenant,
            federated: credential.federated(),
        };
        let diagnosis = diagnose_sign_in(status, body.as_ref(), &sign_in);
        let mut ids =
            RequestIds { correlation_id: Some(request_id), status: Some(status), ..RequestIds::default() };
        if let Some(body) = body {
            copy_ids(&mut ids, body, credential.text());
        }
        let summary = ids.summary();
        tracing::warn!(identity = %identity.key, %tenant, status, summary, "Microsoft did not issue a Graph token");
        let rejection = match diagnosis {
            Diagnosis::Throttled => return Err(GraphTokenError::RateLimited { retry_after }),
            Diagnosis::Unavailable => return Err(GraphTokenError::Unavailable { retry_after }),
            Diagnosis::Rejected(rejection) => rejection,
        };
        let authority = self.config.authorities.of(identity.cloud);
        let needs_consent = rejection.reason == Reason::ConsentMissing;
        let consent_url = needs_consent.then(|| consent_url(authority, tenant, &identity.client_id));
        let message = advice(&rejection, &sign_in, authority);
        Err(GraphTokenError::Rejected { rejection, message, consent_url })
    }
}

// === impl ClientCredential ===

impl ClientCredential {
    fn text(&self) -> &SecretText {
        match self {
            Self::Secret(text) | Self::Assertion { jwt: text, .. } => text,
        }
    }

    fn federated(&self) -> Option<&FederatedClaims> {
        match self {
            Self::Secret(_) => None,
            Self::Assertion { federated, .. } => federated.as_ref(),
        }
    }
}

/// The request's form, encoded once.
fn form(identity: &IdentitySnapshot, credential: &ClientCredential) -> Vec<u8> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("client_id", identity.client_id.as_str())
        .append_pair("grant_type", "client_credentials")
        .append_pair("scope", cloud::scope(identity.cloud));
    match credential {
        ClientCredential::Secret(secret) => form.append_pair("client_secret", secret.expose()),
        ClientCredential::Assertion { jwt, .. } => form
            .append_pair("client_assertion_type", ASSERTION_TYPE)
            .append_pair("client_assertion", jwt.expose()),
    };
    form.finish().into_bytes()
}

/// The token of a response; `None` if it cannot be sent in a header.
fn issued(body: TokenBody) -> Option<IssuedToken> {
    let TokenBody { access_token, expires_in } = body;
    let text = access_token.expose();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let seconds = match expires_in {
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Text(text)) => text.parse().ok(),
        Some(Seconds::Other(_)) | None => None,
    };
    let roles = roles::roles(text).map(Into::into);
    let lifetime = seconds.map_or(DEFAULT_LIFETIME, Duration::from_secs).min(MAX_LIFETIME);
    Some(IssuedToken { lifetime, roles, text: access_token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_read_as_number_and_as_text() {
        for (expires_in, seconds) in [
            ("3599", 3599),
            ("\"3599\"", 3599),
            ("null", 3600),
            ("{}", 3600),
            ("-1", 3600),
            ("99999999", 86_400),
        ] {
            let text = format!(r#"{{"access_token": "x", "expires_in": {expires_in}}}"#);
            let token = issued(first_json(text.as_bytes()).unwrap()).unwrap();
            assert_eq!(token.lifetime.as_secs(), seconds, "{expires_in}");
        }
        assert_eq!(
            issued(first_json(br#"{"access_token": "x"}"#).unwrap()).unwrap().lifetime,
            DEFAULT_LIFETIME
        );
    }

    #[test]
    fn a_text_that_no_header_can_carry_is_no_token() {
        for text in ["", "a b", "a\\nb", "\u{fc}"] {
            let body = format!(r#"{{"access_token": "{text}"}}"#);
            assert!(issued(first_json(body.as_bytes()).unwrap()).is_none(), "{text:?}");
        }
    }
}
