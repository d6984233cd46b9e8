//! Writes to Microsoft Graph: adds and removes client secrets of applications. Each call sends one request and never
//! repeats it, because a request without a response may have been applied, and Graph has no idempotency key.
//!
//! Source: Microsoft Graph, "application: addPassword" and "application: removePassword".

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;
use zeroize::Zeroizing;

use crate::api::conditions::whole_second;
use crate::api::{ClientId, is_guid, timestamp};
use crate::core::error_chain::chain;
use crate::core::graph_error::ErrorBody;
use crate::core::graph_write::{WriteFailure, WriteRejection, classify};
use crate::entra::identity::GraphToken;
use crate::graph::client::{GraphClient, TenantKey, request_id};
use crate::http::client;
use crate::k8s::leadership::NotLeading;
use crate::secret_text::SecretText;

/// Longest response that is read, in bytes: an added secret has some hundreds.
const MAX_RESPONSE: usize = 64 << 10;

/// A client secret to add. Entra makes its text, and it is valid at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSecret {
    /// Its description at Entra. Graph accepts duplicates; texts of more than 90 characters may be shortened.
    pub display_name: String,
    /// In whole seconds.
    pub expires_at: Timestamp,
}

/// A client secret as Entra made it. This is the only time that its text is returned.
#[derive(Clone, PartialEq, Eq)]
pub struct AddedSecret {
    /// A GUID in lower case.
    pub key_id: String,
    pub secret: SecretText,
    /// In whole seconds, as Entra returned it.
    pub expires_at: Timestamp,
}

/// Why a write has no success.
#[derive(Clone, Debug, Error)]
pub enum WriteError {
    #[error("Microsoft Graph: {failure:?}")]
    Graph {
        failure: WriteFailure,
        /// The minimum wait, if the response gave one.
        retry_after: Option<Duration>,
    },
    /// This replica does not lead for long enough; nothing was sent.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
}

type Result<T> = std::result::Result<T, WriteError>;

/// One request.
struct Write {
    operation: &'static str,
    path: String,
    body: Value,
}

/// A request without a success.
struct Unconfirmed {
    failure: WriteFailure,
    retry_after: Option<Duration>,
    is_answered: bool,
}

/// The response to addPassword. Other fields are not needed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AddedBody {
    key_id: String,
    secret_text: SecretText,
    end_date_time: String,
}

// === impl GraphClient ===

impl GraphClient {
    /// Adds a client secret to an application. Not idempotent: two calls add two secrets.
    pub async fn add_password(
        &self,
        at: &TenantKey,
        token: &GraphToken,
        client: &ClientId,
        new: &NewSecret,
    ) -> Result<AddedSecret> {
        let end = timestamp::rfc3339(new.expires_at);
        let write = Write {
            operation: "add_password",
            path: format!("applications(appId='{client}')/addPassword"),
            // Without an end Graph takes two years, which policies may forbid; it rejects a start in the past.
            body: json!({"passwordCredential": {"displayName": new.display_name, "endDateTime": end}}),
        };
        self.write(at, token, write, |_, body| AddedSecret::read(body)).await
    }

    /// Removes a client secret from an application. It can be repeated: a secret that is not there is
    /// [`WriteRejection::KeyNotFound`].
    pub async fn remove_password(
        &self,
        at: &TenantKey,
        token: &GraphToken,
        client: &ClientId,
        key_id: &str,
    ) -> Result<()> {
        let write = Write {
            operation: "remove_password",
            path: format!("applications(appId='{client}')/removePassword"),
            body: json!({"keyId": key_id}),
        };
        self.write(at, token, write, |status, _| (status == 204).then_some(())).await
    }

    /// Sends one request, unless Graph asked to wait, or did not answer several requests in a row. Only a leader sends it.
    /// `read` gets status and body of a success.
    async fn write<T>(
        &self,
        at: &TenantKey,
        token: &GraphToken,
        write: Write,
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<T> {
        self.config.leadership.check_call(self.time_out)?;
        if let Some(wait) = self.pause_left(at) {
            let failure = WriteFailure::NotApplied(WriteRejection::Throttled);
            return Err(WriteError::Graph { failure, retry_after: Some(wait) });
        }
        let mut admission = self.breaker.admit(self.config.roots.of(at.cloud)).map_err(|wait| {
            let failure = WriteFailure::NotApplied(WriteRejection::Unreachable);
            WriteError::Graph { failure, retry_after: Some(wait) }
        })?;
        let (started, operation) = (Instant::now(), write.operation);
        let span = tracing::debug_span!("microsoft graph", otel.kind = "client", operation, outcome = Empty);
        let result = self.send_write(at, token, &write, read).instrument(span.clone()).await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(Unconfirmed { failure, .. }) => failure.outcome(),
        };
        if result.as_ref().is_err_and(|unconfirmed| !unconfirmed.is_answered) {
            admission.got_no_response();
        } else {
            admission.responded();
        }
        span.record("outcome", outcome);
        self.config.metrics.remote.ended("microsoft", operation, outcome, started.elapsed());
        result.map_err(|Unconfirmed { failure, retry_after, .. }| {
            if failure == WriteFailure::NotApplied(WriteRejection::Throttled) {
                self.pause(at, retry_after);
            }
            WriteError::Graph { failure, retry_after }
        })
    }

    async fn send_write<T>(
        &self,
        at: &TenantKey,
        token: &GraphToken,
        write: &Write,
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> std::result::Result<T, Unconfirmed> {
        let not_sent = |problem: &dyn std::error::Error| {
            tracing::warn!(error = chain(problem), "no connection to Microsoft Graph");
            Unconfirmed::not_answered(WriteFailure::NotApplied(WriteRejection::Unreachable))
        };
        let request = self
            .request(Method::POST, at, token, &write.path)
            .map_err(|error| not_sent(&error))?
            .header(CONTENT_TYPE, "application/json")
            // Whole, because Graph responds with 404 to a body without Content-Length.
            .body(write.body.to_string());
        let response = request.send().await.map_err(|error| {
            let error = error.without_url();
            if error.is_connect() || error.is_builder() {
                return not_sent(&error);
            }
            tracing::warn!(error = chain(&error), "Microsoft Graph did not respond to a write");
            Unconfirmed::not_answered(WriteFailure::Unknown)
        })?;
        let retry_after = client::retry_after(response.headers(), Timestamp::now());
        let (status, id) = (response.status().as_u16(), request_id(response.headers()).map(str::to_owned));
        let body = received(response).await;
        let is_success = (200..300).contains(&status);
        if let Some(value) = is_success.then(|| read(status, &body)).flatten() {
            return Ok(value);
        }
        let error_body = if is_success { None } else { serde_json::from_slice::<ErrorBody>(&body).ok() };
        let failure = classify(status, error_body.as_ref());
        tracing::warn!(status, request_id = id, ?failure, "Microsoft Graph does not confirm a write");
        Err(Unconfirmed { failure, retry_after, is_answered: true })
    }
}

/// The body as far as it is known. A rejection stays one if its body is cut off, and a success does not.
async fn received(response: Response) -> Zeroizing<Vec<u8>> {
    let body = client::body(response, MAX_RESPONSE).await.unwrap_or_else(|error| {
        tracing::warn!(error = chain(&error), "Microsoft Graph's response is not complete");
        Vec::new()
    });
    Zeroizing::new(body)
}

/// ID and expiry of the secret in a response to addPassword, for `fuzz/`; `None` if it cannot be read.
pub fn read_added_secret(json: &[u8]) -> Option<(String, Timestamp)> {
    AddedSecret::read(json).map(|added| (added.key_id, added.expires_at))
}

// === impl Unconfirmed ===

impl Unconfirmed {
    fn not_answered(failure: WriteFailure) -> Self {
        Self { failure, retry_after: None, is_answered: false }
    }
}

// === impl AddedSecret ===

impl AddedSecret {
    /// Reads the first JSON value of a response: a proxy may add a page of its own behind it, and a secret that is not
    /// read is lost.
    fn read(json: &[u8]) -> Option<Self> {
        let body: AddedBody = serde_json::Deserializer::from_slice(json).into_iter().next()?.ok()?;
        let expires_at = whole_second(timestamp::parse(&body.end_date_time)?);
        if !is_guid(&body.key_id) || body.secret_text.is_empty() {
            return None;
        }
        Some(Self { key_id: body.key_id.to_ascii_lowercase(), secret: body.secret_text, expires_at })
    }
}

impl fmt::Debug for AddedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("AddedSecret");
        shown.field("key_id", &self.key_id).field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
