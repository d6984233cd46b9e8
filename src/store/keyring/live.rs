//! The keyring that a running operator seals with: as it was read last, and read again when it may have changed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;
use tokio::sync::watch;

use super::secret::{KeyringError, KeyringPlace, load_existing};
use super::{KeyId, Keyring};

/// The keyring as it was read last.
pub struct LiveKeyring {
    client: Client,
    place: KeyringPlace,
    last: Mutex<Last>,
    /// Held while it is read, one after the other: an earlier answer must not replace a later one.
    reading: tokio::sync::Mutex<()>,
    primary: watch::Sender<KeyId>,
    /// Counts the times that it has come to hold more than before.
    news: watch::Sender<u64>,
}

/// What was read last.
struct Last {
    keyring: Arc<Keyring>,
    /// Whether it was gone, damaged or out of reach since.
    was_lost: bool,
}

// === impl LiveKeyring ===

impl LiveKeyring {
    /// Begins with a keyring that was read from that place.
    pub fn new(client: Client, place: KeyringPlace, keyring: Keyring) -> Self {
        let (primary, _) = watch::channel(keyring.primary());
        let (news, _) = watch::channel(0);
        let last = Mutex::new(Last { keyring: Arc::new(keyring), was_lost: false });
        Self { client, place, last, reading: tokio::sync::Mutex::default(), primary, news }
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
    /// keys, or it is back after it was lost. A key that a rotation brings in is no news.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// The keyring as it was read last.
    pub fn current(&self) -> Arc<Keyring> {
        self.lock().keyring.clone()
    }

    /// The keyring as it is now: read before something is sealed, so that nothing is sealed without it, and after it, to
    /// see whether the key is still primary, or the last record under it could be missed.
    pub async fn read_again(&self) -> Result<Arc<Keyring>, KeyringError> {
        let _turn = self.reading.lock().await;
        let read = load_existing(&self.client, &self.place).await;
        let mut last = self.lock();
        let read = Arc::new(read.inspect_err(|error| last.was_lost |= error.is_lasting())?);
        let was_lost = std::mem::replace(&mut last.was_lost, false);
        if was_lost || brings_news(&last.keyring, &read) {
            tracing::info!(secret = %self.place, was_lost, "the keyring opens or matches more than before");
            self.news.send_modify(|count| *count += 1);
        }
        if last.keyring.primary() != read.primary() {
            tracing::info!(from = %last.keyring.primary(), to = %read.primary(), "the keyring has another primary key");
            self.primary.send_replace(read.primary());
        }
        last.keyring = read.clone();
        Ok(read)
    }

    /// A keyring that holds that key, read again where the one at hand does not. Without the key in either, what is
    /// sealed under it is lost.
    pub async fn holding(&self, key: KeyId) -> Result<Arc<Keyring>, KeyringError> {
        let current = self.current();
        if current.keys().any(|known| known.id == key) { Ok(current) } else { self.read_again().await }
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what did not open or match before may do so now.
fn brings_news(before: &Keyring, now: &Keyring) -> bool {
    let known: BTreeSet<KeyId> = before.keys().map(|key| key.id).collect();
    let has_more = now.keys().any(|key| !known.contains(&key.id) && now.next() != Some(key.id));
    has_more || !before.fingerprint_keys().ids().eq(now.fingerprint_keys().ids())
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
        let mut begun = before.clone();
        let (key, _) = begun.begin_rotation(at("2026-08-01T12:00:00Z")).unwrap();
        let mut rotated = begun.clone();
        rotated.promote(key).unwrap();
        assert!(!brings_news(&before, &before) && !brings_news(&before, &begun));
        assert!(!brings_news(&begun, &rotated) && !brings_news(&rotated, &before), "nothing comes in");
        assert!(brings_news(&rotated, &Keyring::random(at("2026-09-01T12:00:00Z")).unwrap()), "other keys");
        for created in ["2026-01-01T12:00:00Z", "2026-12-01T12:00:00Z"] {
            let mut merged = before.clone();
            merged.add_from(&Keyring::random(at(created)).unwrap(), at("2026-08-01T12:00:00Z")).unwrap();
            assert!(brings_news(&before, &merged), "keys from a backup");
        }
    }
}
