//! Who may come in: the API keys as their Secret holds them, read again when it changed.
//!
//! Without one usable key nothing is served at all. A Secret that is gone or emptied later, or may not be read any more,
//! closes the API at once; one that cannot be read leaves it as it was for five minutes. Readiness says so.

use std::sync::Arc;

use kube::Client;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::keys::{Account, ApiKeys, Unusable};
use crate::secrets::{self, ReadError, SecretVersion};
use crate::settings::Timing;
use crate::telemetry::logs::chain;
use crate::telemetry::probes::Readiness;

/// The line of readiness about the API keys.
const NOTE: &str = "rest-api-keys";

#[derive(Clone)]
pub struct KeysPlace {
    pub client: Client,
    pub namespace: String,
    pub name: String,
    /// The namespaces that are served; none means all.
    pub served: Vec<String>,
}

/// Why nobody could come in; with namespace and name of the Secret.
#[derive(Debug, Error)]
pub enum KeysError {
    /// There is no Secret of API keys.
    #[error(
        "there is no Secret {0} with API keys, and without one nothing is served: create it with an entry \
         <namespace>.<name> for each key, such as mail.ci"
    )]
    NoSecret(String),
    /// The Secret holds no usable key; the second text says what is wrong with its entries.
    #[error("Secret {0} holds no usable API key, and without one nothing is served ({1})")]
    NoKey(String, String),
    /// The Secret cannot be read.
    #[error("failed to read Secret {0} with the API keys")]
    Read(String, #[source] ReadError),
    /// The system gives no randomness.
    #[error("failed to draw random bytes")]
    Random(#[from] getrandom::Error),
}

/// Lets in whoever has a key.
pub struct Doorkeeper {
    place: KeysPlace,
    keys: Mutex<Arc<ApiKeys>>,
}

// === impl Doorkeeper ===

impl Doorkeeper {
    /// Reads the keys, of which there must be one.
    pub async fn new(place: KeysPlace) -> Result<Self, KeysError> {
        let keys = Mutex::new(Arc::new(place.read().await?));
        Ok(Self { place, keys })
    }

    /// The account that a key opens now.
    pub fn account_of(&self, key: &[u8]) -> Option<Arc<Account>> {
        let keys = self.keys.lock().clone();
        keys.account_of(key)
    }

    /// Looks again and again whether the Secret changed, until `stop`.
    pub async fn watch(&self, timing: &Timing, readiness: &Readiness, stop: &CancellationToken) {
        let mut seen = None;
        let mut read_at = Instant::now();
        loop {
            let Some(looked) = stop.run_until_cancelled(self.look(&mut seen)).await else { return };
            let problem = match looked {
                Ok(()) => {
                    read_at = Instant::now();
                    String::new()
                }
                Err(error) => {
                    let is_closed = error.is_final() || read_at.elapsed() >= timing.rest_keys_trust;
                    if is_closed {
                        *self.keys.lock() = Arc::default();
                        seen = None;
                    }
                    let effect = if is_closed { "nobody is let in" } else { "the last ones stay in use" };
                    format!("{}; {effect}", chain(&error))
                }
            };
            if problem.is_empty() {
                readiness.forget_note(NOTE);
            } else if readiness.note(NOTE, &problem) {
                tracing::warn!(problem, "the API keys cannot be used as they should");
            }
            let pause = tokio::time::sleep(timing.rest_keys_poll);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// Reads the Secret where it is another version than was seen last.
    async fn look(&self, seen: &mut Option<SecretVersion>) -> Result<(), KeysError> {
        let KeysPlace { client, namespace, name, .. } = &self.place;
        let version = secrets::version(client, namespace, name).await;
        let version = version.map_err(|error| self.place.unreadable(error))?;
        if seen.as_ref() != Some(&version) {
            *self.keys.lock() = Arc::new(self.place.read().await?);
            // A version that came between the two requests is read once more.
            *seen = Some(version);
        }
        Ok(())
    }
}

// === impl KeysPlace ===

impl KeysPlace {
    /// Reads the keys, of which there must be one, and says which there are, by their names.
    async fn read(&self) -> Result<ApiKeys, KeysError> {
        let data = secrets::read(&self.client, &self.namespace, &self.name).await;
        let data = data.map_err(|error| self.unreadable(error))?;
        let (keys, unusable) = ApiKeys::read(data.entries(), &self.served)?;
        let accounts = keys.accounts();
        if accounts.is_empty() {
            let details: Vec<_> = unusable.iter().map(|it| format!("{}: {}", it.entry, it.why)).collect();
            return Err(KeysError::NoKey(self.to_string(), details.join("; ")));
        }
        let names: Vec<_> = accounts.iter().map(|it| format!("{}.{}", it.namespace, it.key)).collect();
        tracing::info!(keys = names.join(", "), "API keys are read");
        for Unusable { entry, why } in &unusable {
            tracing::warn!(entry, why, "an API key is not usable");
        }
        Ok(keys)
    }

    fn unreadable(&self, source: ReadError) -> KeysError {
        match source {
            ReadError::NotFound => KeysError::NoSecret(self.to_string()),
            source => KeysError::Read(self.to_string(), source),
        }
    }
}

impl std::fmt::Display for KeysPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl KeysError ===

impl KeysError {
    /// Whether it may pass by itself.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Read(_, ReadError::Kube(_)))
    }

    /// Whether it says that no key is to be let in, so that none waits to be taken back.
    fn is_final(&self) -> bool {
        matches!(self, Self::NoSecret(_) | Self::NoKey(..) | Self::Read(_, ReadError::Forbidden))
    }
}
