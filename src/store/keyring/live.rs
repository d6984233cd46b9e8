//! The keyring that a running operator seals with: as it was read last, and read again when it may have changed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;
use tokio::sync::watch;

use super::secret::{KeyringError, KeyringPlace, load_existing};
use super::{KeyId, Keyring};

/// The keyring as it was read last.
pub struct LiveKeyring {
    client: Client,
    place: KeyringPlace,
    current: Mutex<Arc<Keyring>>,
    /// Whether something was sealed of which nobody has seen yet that its key is still primary.
    is_doubtful: AtomicBool,
    primary: watch::Sender<KeyId>,
}

/// Something is being sealed: until it is seen that its key is still primary, the keyring at hand is doubtful.
#[must_use]
pub struct Doubt<'a> {
    keyring: &'a LiveKeyring,
    is_settled: bool,
}

// === impl LiveKeyring ===

impl LiveKeyring {
    /// Begins with a keyring that was read from that place.
    pub fn new(client: Client, place: KeyringPlace, keyring: Keyring) -> Self {
        let (primary, _) = watch::channel(keyring.primary());
        let current = Mutex::new(Arc::new(keyring));
        Self { client, place, current, is_doubtful: AtomicBool::new(false), primary }
    }

    /// Where it is.
    pub fn place(&self) -> &KeyringPlace {
        &self.place
    }

    /// Tells when another key is found to be primary.
    pub fn primary(&self) -> watch::Receiver<KeyId> {
        self.primary.subscribe()
    }

    /// The keyring as it was read last.
    pub fn current(&self) -> Arc<Keyring> {
        self.lock().clone()
    }

    /// The keyring as it is now: whoever has sealed something looks whether the key is still primary, or the last
    /// record under it could be missed.
    pub async fn read_again(&self) -> Result<Arc<Keyring>, KeyringError> {
        // What is sealed from here on is doubtful by itself.
        self.is_doubtful.store(false, Ordering::SeqCst);
        let read = load_existing(&self.client, &self.place).await;
        let read = Arc::new(read.inspect_err(|_| self.is_doubtful.store(true, Ordering::SeqCst))?);
        let mut current = self.lock();
        if current.primary() != read.primary() {
            tracing::info!(from = %current.primary(), to = %read.primary(), "the keyring has another primary key");
            self.primary.send_replace(read.primary());
        }
        current.clone_from(&read);
        Ok(read)
    }

    /// To be had before something is sealed, and settled once it is seen that the key is still primary. Where that
    /// comes to nothing, the next one who looks reads the keyring again.
    pub fn doubt(&self) -> Doubt<'_> {
        Doubt { keyring: self, is_settled: false }
    }

    /// A keyring that holds that key, read again where the one at hand does not or is doubtful. Without the key in either, what is
    /// sealed under it is lost.
    pub async fn holding(&self, key: KeyId) -> Result<Arc<Keyring>, KeyringError> {
        let current = self.current();
        let is_known = current.keys().any(|known| known.id == key);
        if is_known && !self.is_doubtful.load(Ordering::SeqCst) {
            Ok(current)
        } else {
            self.read_again().await
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Keyring>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Doubt ===

impl Doubt<'_> {
    /// It was seen.
    pub fn settle(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.keyring.is_doubtful.store(true, Ordering::SeqCst);
        }
    }
}
