//! The keyring that a running operator seals with: as it was read last, and read again when it may have changed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;

use super::secret::{KeyringError, KeyringPlace, load_existing};
use super::{KeyId, Keyring};

/// The keyring as it was read last.
pub struct LiveKeyring {
    client: Client,
    place: KeyringPlace,
    current: Mutex<Arc<Keyring>>,
}

// === impl LiveKeyring ===

impl LiveKeyring {
    /// Begins with a keyring that was read from that place.
    pub fn new(client: Client, place: KeyringPlace, keyring: Keyring) -> Self {
        Self { client, place, current: Mutex::new(Arc::new(keyring)) }
    }

    /// The keyring as it was read last.
    pub fn current(&self) -> Arc<Keyring> {
        self.lock().clone()
    }

    /// The keyring as it is now: whoever has sealed something looks whether the key is still primary, or the last
    /// record under it could be missed.
    pub async fn read_again(&self) -> Result<Arc<Keyring>, KeyringError> {
        let read = Arc::new(load_existing(&self.client, &self.place).await?);
        let mut current = self.lock();
        if current.primary() != read.primary() {
            tracing::info!(from = %current.primary(), to = %read.primary(), "the keyring has another primary key");
        }
        current.clone_from(&read);
        Ok(read)
    }

    /// A keyring that holds that key, read again where the one at hand does not. Without the key in either, what is
    /// sealed under it is lost.
    pub async fn holding(&self, key: KeyId) -> Result<Arc<Keyring>, KeyringError> {
        let current = self.current();
        let is_known = current.keys().any(|known| known.id == key);
        if is_known { Ok(current) } else { self.read_again().await }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Keyring>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
