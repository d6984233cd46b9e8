//! The keyring of a running process: read every 20 seconds, and at once if something depends on it. Concurrent callers
//! share a read.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::core::error_chain::chain;
use crate::core::timing::Timing;
use crate::k8s::leadership::Clock;
use crate::store::keyring::secret::{KeyringError, KeyringRef, load_existing};
use crate::store::keyring::{KeyId, Keyring};

/// The keyring as of the last read.
pub struct KeyringCache {
    client: Client,
    secret_ref: KeyringRef,
    timing: Timing,
    /// Also advances while the machine is suspended.
    clock: Clock,
    last: Mutex<CacheState>,
    /// Held during a read: an earlier response must not replace a later one.
    reading: tokio::sync::Mutex<()>,
    primary: watch::Sender<KeyId>,
    /// Incremented when the keyring can decrypt or match more than before.
    changes: watch::Sender<u64>,
}

/// The state of reads, which are numbered.
struct CacheState {
    keyring: Arc<Keyring>,
    /// When the read of this keyring began.
    as_of: Duration,
    /// Whether it has been missing, damaged or inaccessible since.
    was_lost: bool,
    /// The last read that began, and when.
    begun: (u64, Duration),
    /// The last read that ended, and its error.
    ended: (u64, Option<Arc<KeyringError>>),
}

// === impl KeyringCache ===

impl KeyringCache {
    /// Starts with a keyring that was read from that Secret, in a read that began at that time of the clock.
    pub fn new(
        client: Client,
        secret_ref: KeyringRef,
        (keyring, as_of): (Keyring, Duration),
        clock: Clock,
        timing: &Timing,
    ) -> Self {
        let (primary, _) = watch::channel(keyring.primary());
        let (changes, _) = watch::channel(0);
        let last = CacheState {
            keyring: Arc::new(keyring),
            as_of,
            was_lost: false,
            begun: (0, as_of),
            ended: (0, None),
        };
        let (last, reading) = (Mutex::new(last), tokio::sync::Mutex::default());
        Self { client, secret_ref, timing: *timing, clock, last, reading, primary, changes }
    }

    pub fn secret_ref(&self) -> &KeyringRef {
        &self.secret_ref
    }

    /// Changes when another key becomes primary.
    pub fn primary(&self) -> watch::Receiver<KeyId> {
        self.primary.subscribe()
    }

    /// Changes when something may decrypt or match that did not before: keys were imported from a backup, the
    /// fingerprint keys differ, or the keyring is back after it was lost. A new primary key alone does not count.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Reads the keyring every 20 seconds until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut last_failure = String::new();
        loop {
            let round = async {
                tokio::time::sleep(self.timing.keyring_poll).await;
                self.refresh().await
            };
            let Some(read) = stop.run_until_cancelled(round).await else { return };
            let failure = read.err().map(|error| chain(&error)).unwrap_or_default();
            if failure != last_failure && !failure.is_empty() {
                tracing::warn!(error = failure, "the keyring cannot be read; trying again");
            }
            last_failure = failure;
        }
    }

    /// The keyring as of the last read, for decryption and fingerprints.
    pub fn get(&self) -> Arc<Keyring> {
        self.last.lock().keyring.clone()
    }

    /// The keyring for encryption: its read began less than 60 seconds ago, and no read has found it lost since.
    pub async fn for_encryption(&self) -> Result<Arc<Keyring>, KeyringError> {
        loop {
            let ended = {
                let last = self.last.lock();
                let age = (self.clock)().saturating_sub(last.as_of);
                if age < self.timing.keyring_view && !last.was_lost {
                    return Ok(last.keyring.clone());
                }
                last.ended.0
            };
            // It may already be old, because the process can be suspended at any time.
            self.read_after(ended).await?;
        }
    }

    /// The keyring as of a read that began after this call. It shows whether what was encrypted with `key` before the
    /// call is encrypted with the primary key.
    pub async fn reread_after_encryption(&self, key: KeyId) -> Result<Arc<Keyring>, KeyringError> {
        let keyring = self.refresh().await?;
        if keyring.primary() != key {
            tracing::info!(
                %key,
                primary = %keyring.primary(),
                "a secret was encrypted with a key that is no longer primary"
            );
        }
        Ok(keyring)
    }

    /// The keyring as of a read that began after this call.
    pub async fn refresh(&self) -> Result<Arc<Keyring>, KeyringError> {
        let begun = self.last.lock().begun.0;
        self.read_after(begun).await
    }

    /// A keyring that has the key. If the key is missing, the read began after this call, so the key does not exist.
    /// After an error nothing is known about the key. Such reads are at least 100 milliseconds apart.
    pub async fn with_key(&self, key: KeyId) -> Result<Arc<Keyring>, KeyringError> {
        let (begun, wait) = {
            let last = self.last.lock();
            if last.keyring.key(key).is_some() {
                return Ok(last.keyring.clone());
            }
            let (begun, at) = last.begun;
            (begun, at.saturating_add(self.timing.secret_poll_pace).saturating_sub((self.clock)()))
        };
        tokio::time::sleep(wait).await;
        self.read_after(begun).await
    }

    /// The outcome of the first read with a number higher than `number` that ends.
    async fn read_after(&self, number: u64) -> Result<Arc<Keyring>, KeyringError> {
        let _guard = self.reading.lock().await;
        let begun = {
            let mut last = self.last.lock();
            if last.ended.0 > number {
                return last.outcome();
            }
            last.begun = (last.begun.0 + 1, (self.clock)());
            last.begun
        };
        let read = load_existing(&self.client, &self.secret_ref).await;
        let mut last = self.last.lock();
        match read {
            Ok((keyring, _)) => self.store(&mut last, keyring, begun),
            Err(error) => {
                last.was_lost |= error.is_lasting();
                last.ended = (begun.0, Some(Arc::new(error)));
            }
        }
        last.outcome()
    }

    /// Stores the result of a read.
    fn store(&self, last: &mut CacheState, read: Keyring, (number, as_of): (u64, Duration)) {
        let was_lost = std::mem::replace(&mut last.was_lost, false);
        if was_lost || can_decrypt_more(&last.keyring, &read) {
            tracing::info!(secret = %self.secret_ref, was_lost, "the keyring can decrypt or match more than before");
            self.changes.send_modify(|count| *count += 1);
        }
        if last.keyring.primary() != read.primary() {
            let (from, to) = (last.keyring.primary(), read.primary());
            tracing::info!(%from, %to, "the primary key of the keyring changed");
            self.primary.send_replace(read.primary());
        }
        (last.keyring, last.as_of, last.ended) = (Arc::new(read), as_of, (number, None));
    }
}

// === impl CacheState ===

impl CacheState {
    /// The result of the last read that ended.
    fn outcome(&self) -> Result<Arc<Keyring>, KeyringError> {
        self.ended.1.clone().map_or_else(|| Ok(self.keyring.clone()), |error| Err(error.into()))
    }
}

/// Whether something may decrypt or match that did not before.
fn can_decrypt_more(before: &Keyring, now: &Keyring) -> bool {
    let known: BTreeSet<KeyId> = before.keys().map(|key| key.id).collect();
    let has_more = now.keys().any(|key| !known.contains(&key.id) && key.id != now.primary());
    has_more || !before.fingerprint_keys().ids().eq(now.fingerprint_keys().ids())
}
