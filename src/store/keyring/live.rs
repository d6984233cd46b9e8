//! The keyring of a running process: read every 20 seconds, and at once where something depends on it. All that wait for a
//! read share it.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::secret::{KeyringError, KeyringPlace, load_existing};
use super::{KeyId, Keyring};
use crate::leadership::Clock;
use crate::settings::Timing;
use crate::telemetry::logs::chain;

/// The keyring as it was read last.
pub struct LiveKeyring {
    client: Client,
    place: KeyringPlace,
    timing: Timing,
    /// Counts on while the machine is suspended.
    clock: Clock,
    last: Mutex<Last>,
    /// Held by whoever reads: an earlier answer must not replace a later one.
    reading: tokio::sync::Mutex<()>,
    primary: watch::Sender<KeyId>,
    /// Counts the times that it has come to hold more than before.
    news: watch::Sender<u64>,
}

/// What is known of reads. Each has a number.
struct Last {
    keyring: Arc<Keyring>,
    /// When the read of this keyring began.
    as_of: Duration,
    /// Whether it was gone, damaged or out of reach since.
    was_lost: bool,
    /// The last read that began, and when.
    begun: (u64, Duration),
    /// The last read that ended, and why it failed.
    ended: (u64, Option<Arc<KeyringError>>),
}

// === impl LiveKeyring ===

impl LiveKeyring {
    /// Begins with a keyring that was read from that place, in a read that began at that time of the clock.
    pub fn new(
        client: Client,
        place: KeyringPlace,
        (keyring, as_of): (Keyring, Duration),
        clock: Clock,
        timing: &Timing,
    ) -> Self {
        let (primary, _) = watch::channel(keyring.primary());
        let (news, _) = watch::channel(0);
        let last =
            Last { keyring: Arc::new(keyring), as_of, was_lost: false, begun: (0, as_of), ended: (0, None) };
        let (last, reading) = (Mutex::new(last), tokio::sync::Mutex::default());
        Self { client, place, timing: *timing, clock, last, reading, primary, news }
    }

    pub fn place(&self) -> &KeyringPlace {
        &self.place
    }

    /// Tells when another key is found to be primary.
    pub fn primary(&self) -> watch::Receiver<KeyId> {
        self.primary.subscribe()
    }

    /// Tells when what did not open or match before may do so now: keys came in from a backup, fingerprints have other
    /// keys, or it is back after it was lost. A fresh primary key is no news.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Reads the keyring every 20 seconds until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut told = String::new();
        loop {
            let round = async {
                tokio::time::sleep(self.timing.keyring_poll).await;
                self.read_again().await
            };
            let Some(read) = stop.run_until_cancelled(round).await else { return };
            let failure = read.err().map(|error| chain(&error)).unwrap_or_default();
            if failure != told && !failure.is_empty() {
                tracing::warn!(error = failure, "the keyring cannot be read; trying again");
            }
            told = failure;
        }
    }

    /// The keyring as it was read last, for opening records and for fingerprints.
    pub fn current(&self) -> Arc<Keyring> {
        self.last.lock().keyring.clone()
    }

    /// The keyring for sealing: the read of it began less than 60 seconds ago, and none has found it lost since.
    pub async fn for_sealing(&self) -> Result<Arc<Keyring>, KeyringError> {
        loop {
            let ended = {
                let last = self.last.lock();
                let age = (self.clock)().saturating_sub(last.as_of);
                if age < self.timing.keyring_view && !last.was_lost {
                    return Ok(last.keyring.clone());
                }
                last.ended.0
            };
            // It may be old already: a process is suspended at any moment.
            self.read_after(ended).await?;
        }
    }

    /// The keyring by a read that began after this call, which shows whether what was sealed under that key before the call
    /// is sealed under the primary key.
    pub async fn confirmed(&self, key: KeyId) -> Result<Arc<Keyring>, KeyringError> {
        let keyring = self.read_again().await?;
        if keyring.primary() != key {
            tracing::info!(%key, primary = %keyring.primary(), "a secret was sealed under a key that is not primary any more");
        }
        Ok(keyring)
    }

    /// The keyring by a read that began after this call.
    pub async fn read_again(&self) -> Result<Arc<Keyring>, KeyringError> {
        let begun = self.last.lock().begun.0;
        self.read_after(begun).await
    }

    /// A keyring that holds that key; one without it by a read that began after this call, so that there is no such key.
    /// With an error nothing is known of the key. Such reads are at least 100 milliseconds apart.
    pub async fn holding(&self, key: KeyId) -> Result<Arc<Keyring>, KeyringError> {
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

    /// The outcome of the first read with a higher number that comes to its end.
    async fn read_after(&self, number: u64) -> Result<Arc<Keyring>, KeyringError> {
        let _turn = self.reading.lock().await;
        let begun = {
            let mut last = self.last.lock();
            if last.ended.0 > number {
                return last.outcome();
            }
            last.begun = (last.begun.0 + 1, (self.clock)());
            last.begun
        };
        let read = load_existing(&self.client, &self.place).await;
        let mut last = self.last.lock();
        match read {
            Ok((keyring, _)) => self.take(&mut last, keyring, begun),
            Err(error) => {
                last.was_lost |= error.is_lasting();
                last.ended = (begun.0, Some(Arc::new(error)));
            }
        }
        last.outcome()
    }

    /// Takes in what a read brought.
    fn take(&self, last: &mut Last, read: Keyring, (number, as_of): (u64, Duration)) {
        let was_lost = std::mem::replace(&mut last.was_lost, false);
        if was_lost || brings_news(&last.keyring, &read) {
            tracing::info!(secret = %self.place, was_lost, "the keyring opens or matches more than before");
            self.news.send_modify(|count| *count += 1);
        }
        if last.keyring.primary() != read.primary() {
            tracing::info!(from = %last.keyring.primary(), to = %read.primary(), "the keyring has another primary key");
            self.primary.send_replace(read.primary());
        }
        (last.keyring, last.as_of, last.ended) = (Arc::new(read), as_of, (number, None));
    }
}

// === impl Last ===

impl Last {
    /// What came of the last read that ended.
    fn outcome(&self) -> Result<Arc<Keyring>, KeyringError> {
        self.ended.1.clone().map_or_else(|| Ok(self.keyring.clone()), |error| Err(error.into()))
    }
}

/// Whether what did not open or match before may do so now.
fn brings_news(before: &Keyring, now: &Keyring) -> bool {
    let known: BTreeSet<KeyId> = before.keys().map(|key| key.id).collect();
    let has_more = now.keys().any(|key| !known.contains(&key.id) && key.id != now.primary());
    has_more || !before.fingerprint_keys().ids().eq(now.fingerprint_keys().ids())
}
