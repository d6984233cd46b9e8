//! API-key authentication: the keys of the Secret, reloaded when it changes.
//!
//! Without a usable key, nothing is served. If the Secret is deleted or emptied later, or if the operator loses the right to
//! read it, all requests are denied at once. If it cannot be read for another reason, the last keys stay valid for five
//! minutes. Readiness shows the problem.

use std::sync::Arc;

use kube::Client;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::error_chain::chain;
use crate::core::timing::Timing;
use crate::k8s::secrets::{self, ReadError, SecretVersion};
use crate::rest::api_keys::{Account, ApiKeys, RejectedEntry};
use crate::telemetry::health::Readiness;

/// The name of the readiness note about the API keys.
const NOTE: &str = "rest-api-keys";

#[derive(Clone)]
pub struct ApiKeysRef {
    pub client: Client,
    pub namespace: String,
    pub name: String,
    /// The served namespaces; if empty, all.
    pub served: Vec<String>,
}

/// Why there are no API keys; with namespace and name of the Secret.
#[derive(Debug, Error)]
pub enum KeysError {
    #[error(
        "there is no Secret {0} with API keys, and without one nothing is served: create it with an entry \
         <namespace>.<name> for each key, such as mail.ci"
    )]
    NoSecret(String),
    /// The second text says what is wrong with the entries.
    #[error("Secret {0} contains no usable API key, and without one nothing is served ({1})")]
    NoKey(String, String),
    #[error("failed to read Secret {0} with the API keys")]
    Read(String, #[source] ReadError),
    #[error("failed to generate random bytes")]
    Random(#[from] getrandom::Error),
}

/// Authenticates requests by their API key.
pub struct Authenticator {
    secret: ApiKeysRef,
    keys: Mutex<Arc<ApiKeys>>,
}

// === impl Authenticator ===

impl Authenticator {
    /// Reads the keys. There must be at least one.
    pub async fn new(secret: ApiKeysRef) -> Result<Self, KeysError> {
        let keys = Mutex::new(Arc::new(secret.read().await?));
        Ok(Self { secret, keys })
    }

    pub fn authenticate(&self, key: &[u8]) -> Option<Arc<Account>> {
        let keys = self.keys.lock().clone();
        keys.authenticate(key)
    }

    /// Reloads the keys when the Secret changes, until `stop`.
    pub async fn watch(&self, timing: &Timing, readiness: &Readiness, stop: &CancellationToken) {
        let mut seen = None;
        let mut read_at = Instant::now();
        loop {
            let Some(refreshed) = stop.run_until_cancelled(self.refresh(&mut seen)).await else { return };
            let problem = match refreshed {
                Ok(()) => {
                    read_at = Instant::now();
                    String::new()
                }
                Err(error) => {
                    let is_denied = error.is_final() || read_at.elapsed() >= timing.rest_keys_trust;
                    if is_denied {
                        self.deny_all();
                        seen = None;
                    }
                    let effect =
                        if is_denied { "all requests are denied" } else { "the last keys stay in use" };
                    format!("{}; {effect}", chain(&error))
                }
            };
            if problem.is_empty() {
                readiness.clear_note(NOTE);
            } else if readiness.set_note(NOTE, &problem) {
                tracing::warn!(problem, "failed to refresh the API keys");
            }
            let pause = tokio::time::sleep(timing.rest_keys_poll);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    fn deny_all(&self) {
        *self.keys.lock() = Arc::default();
    }

    /// Reads the Secret if it has another version than last time.
    async fn refresh(&self, seen: &mut Option<SecretVersion>) -> Result<(), KeysError> {
        let ApiKeysRef { client, namespace, name, .. } = &self.secret;
        let version = secrets::version(client, namespace, name).await;
        let version = version.map_err(|error| self.secret.read_error(error))?;
        if seen.as_ref() != Some(&version) {
            *self.keys.lock() = Arc::new(self.secret.read().await?);
            // If the Secret changed between the two requests, it is read again next time.
            *seen = Some(version);
        }
        Ok(())
    }
}

// === impl ApiKeysRef ===

impl ApiKeysRef {
    /// Reads the keys, and logs their names. There must be at least one.
    async fn read(&self) -> Result<ApiKeys, KeysError> {
        let data = secrets::read(&self.client, &self.namespace, &self.name).await;
        let data = data.map_err(|error| self.read_error(error))?;
        let (keys, rejected) = ApiKeys::read(data.entries(), &self.served)?;
        let accounts = keys.accounts();
        if accounts.is_empty() {
            let details: Vec<_> = rejected.iter().map(|it| format!("{}: {}", it.entry, it.reason)).collect();
            return Err(KeysError::NoKey(self.to_string(), details.join("; ")));
        }
        let names: Vec<_> = accounts.iter().map(|it| format!("{}.{}", it.namespace, it.key)).collect();
        tracing::info!(keys = names.join(", "), "loaded the API keys");
        for RejectedEntry { entry, reason } in &rejected {
            tracing::warn!(entry, reason, "an API key cannot be used");
        }
        Ok(keys)
    }

    fn read_error(&self, source: ReadError) -> KeysError {
        match source {
            ReadError::NotFound => KeysError::NoSecret(self.to_string()),
            source => KeysError::Read(self.to_string(), source),
        }
    }
}

impl std::fmt::Display for ApiKeysRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl KeysError ===

impl KeysError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Read(_, ReadError::Kube(_)))
    }

    /// Whether all requests must be denied at once.
    fn is_final(&self) -> bool {
        matches!(self, Self::NoSecret(_) | Self::NoKey(..) | Self::Read(_, ReadError::Forbidden))
    }
}
