//! The keyring that a running operator seals with: as it was read last, and read again when it may have changed.

use std::collections::BTreeSet;
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
    /// Counts the times that it has come to hold more than before.
    news: watch::Sender<u64>,
    /// Whether it could not be read when somebody tried last.
    is_unread: AtomicBool,
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
        let (news, _) = watch::channel(0);
        Self {
            client,
            place,
            current: Mutex::new(Arc::new(keyring)),
            is_doubtful: AtomicBool::new(false),
            primary,
            news,
            is_unread: AtomicBool::new(false),
        }
    }

    /// Where it is.
    pub fn place(&self) -> &KeyringPlace {
        &self.place
    }

    /// Tells when another key is found to be primary.
    pub fn primary(&self) -> watch::Receiver<KeyId> {
        self.primary.subscribe()
    }

    /// Tells when what did not open or match before may do so now: keys came in from a backup, fingerprints have other
    /// keys, or it can be read again. A fresh key of a rotation is no news.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
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
        let read = Arc::new(read.inspect_err(|_| {
            self.is_doubtful.store(true, Ordering::SeqCst);
            self.is_unread.store(true, Ordering::SeqCst);
        })?);
        let was_unread = self.is_unread.swap(false, Ordering::SeqCst);
        let mut current = self.lock();
        let is_news = was_unread || brings_news(&current, &read);
        if current.primary() != read.primary() {
            tracing::info!(from = %current.primary(), to = %read.primary(), "the keyring has another primary key");
            self.primary.send_replace(read.primary());
        }
        current.clone_from(&read);
        if is_news {
            tracing::info!(secret = %self.place, "the keyring holds other keys than before");
            self.news.send_modify(|count| *count += 1);
        }
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

/// Whether what did not open or match before may do so now.
fn brings_news(before: &Keyring, now: &Keyring) -> bool {
    let newest = before.keys().map(|key| key.created).max();
    let known: BTreeSet<KeyId> = before.keys().map(|key| key.id).collect();
    let is_from_a_backup = now.keys().any(|key| !known.contains(&key.id) && Some(key.created) <= newest);
    is_from_a_backup || !before.fingerprint_keys().ids().eq(now.fingerprint_keys().ids())
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_rotation_is_no_news_and_keys_from_a_backup_are() {
        let before = Keyring::random(at("2026-07-01T12:00:00Z")).unwrap();
        let mut rotated = before.clone();
        let key = rotated.add(at("2026-08-01T12:00:00Z")).unwrap();
        rotated.promote(key).unwrap();
        assert!(!brings_news(&before, &before) && !brings_news(&before, &rotated));
        assert!(brings_news(&rotated, &Keyring::random(at("2026-09-01T12:00:00Z")).unwrap()), "other keys");
        let mut merged = before.clone();
        merged.add_from(&Keyring::random(at("2026-01-01T12:00:00Z")).unwrap()).unwrap();
        assert!(brings_news(&before, &merged), "keys from a backup");
    }
}
