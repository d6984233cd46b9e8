//! Rate limits of token requests, per app and secret.
//!
//! Microsoft treats fifteen equal requests of a client in five minutes as a loop and rejects further ones
//! (AADSTS50196), so the operator sends at most ten for one secret. An account of the REST API has its own quota for
//! each app, so another account cannot use up its attempts or those of the controller. A namespace that has had a token
//! for an app keeps a share of the controller's attempts for that app.
//!
//! Memory is bounded, and the cost of an attempt does not grow with the number of apps.
//!
//! Source: Microsoft, breaking changes of March 2019: duplicate requests, distinguished by client instance.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::core::diagnosis::Diagnosis;
use crate::core::timing::Timing;
use crate::core::token_result::TokenResult;
use crate::entra::app::AppCredential;
use crate::secret_text::SecretText;

/// Microsoft treats so many equal requests as a loop.
const LOOP_THRESHOLD: usize = 15;

/// Equal requests that accounts may make in any case, such as a POST and the PATCH after it.
const MIN_SERVED: usize = 2;

/// The most apps for which attempts and token holders are remembered.
const MAX_APPS: usize = 1 << 15;

/// Whose quota an attempt uses.
#[derive(Clone, Debug)]
pub(super) enum QuotaOwner {
    /// The controller, for no particular namespace.
    Controller,
    /// The controller, for an object of that namespace.
    Namespace {
        name: String,
        /// Whether the object is known to have had a token for the app.
        had_token: bool,
    },
    /// An account of the REST API.
    Account(String),
}

/// Limits token requests by the recent attempts for each app.
#[derive(Debug)]
pub(super) struct TokenRateLimiter {
    span: Duration,
    /// Processes that send token requests, this one included.
    processes: AtomicUsize,
    /// Hashes apps, secrets and quota owners with a key of this process.
    hashes: RandomState,
    recent: Mutex<RecentAttempts>,
}

#[derive(Debug)]
struct RecentAttempts {
    /// Attempts by app.
    attempts: RecentlyUsed<VecDeque<Attempt>>,
    /// The namespaces that have had a token, by app.
    holders: RecentlyUsed<Vec<u64>>,
    /// Attempts of each account of the REST API that were rejected or have not ended.
    unsuccessful: HashMap<u64, VecDeque<Instant>>,
}

/// A bounded map in two generations. The older one is dropped if it becomes too large.
#[derive(Debug)]
struct RecentlyUsed<V> {
    young: HashMap<u64, V>,
    old: HashMap<u64, V>,
    rotated_at: Instant,
}

#[derive(Debug)]
struct Attempt {
    at: Instant,
    /// Hash of the secret.
    secret: u64,
    quota_owner: u64,
    is_account: bool,
}

/// How many equal requests the accounts of the REST API may make in one of so many processes. All processes together
/// stay below the loop threshold, whatever the controller sends in one of them.
fn equal_requests_allowed(processes: usize) -> usize {
    let available = LOOP_THRESHOLD - 1 - Timing::TOKEN_TRIES;
    match processes.saturating_sub(1) {
        0 => Timing::TOKEN_TRIES_SERVED,
        others => (available / others).max(MIN_SERVED),
    }
}

// === impl TokenRateLimiter ===

impl TokenRateLimiter {
    pub(super) fn new(timing: &Timing) -> Self {
        let recent = RecentAttempts {
            attempts: RecentlyUsed::new(),
            holders: RecentlyUsed::new(),
            unsuccessful: HashMap::new(),
        };
        Self {
            span: timing.token_tries_span,
            processes: AtomicUsize::new(1),
            hashes: RandomState::new(),
            recent: Mutex::new(recent),
        }
    }

    /// Divides the quota for one secret among so many processes.
    pub(super) fn divide_quota_by(&self, processes: usize) {
        self.processes.store(processes, Ordering::Relaxed);
    }

    /// Counts an attempt, or returns how long to wait before the next attempt.
    pub(super) fn admit(
        &self,
        app: AppCredential<'_>,
        secret: &SecretText,
        quota_owner: &QuotaOwner,
    ) -> Result<(), Duration> {
        let app = self.key(app);
        let next = Attempt {
            at: Instant::now(),
            secret: self.hashes.hash_one(secret.expose()),
            quota_owner: self.hash_of(quota_owner),
            is_account: matches!(quota_owner, QuotaOwner::Account(_)),
        };
        let equal_allowed = equal_requests_allowed(self.processes.load(Ordering::Relaxed));
        let mut recent = self.recent.lock();
        if matches!(quota_owner, QuotaOwner::Namespace { had_token: true, .. }) {
            recent.add_holder(app, next.quota_owner);
        }
        recent.forget_old(app, &next, self.span);
        if let Some(wait) = recent.wait(app, &next, self.span, equal_allowed) {
            return Err(wait);
        }
        recent.add(app, next);
        Ok(())
    }

    /// Records the result of an attempt. Only rejections count against the total of an account.
    pub(super) fn record(&self, app: AppCredential<'_>, quota_owner: &QuotaOwner, result: &TokenResult) {
        let (key, own) = (self.key(app), self.hash_of(quota_owner));
        let mut recent = self.recent.lock();
        let is_rejected = matches!(result, TokenResult::NotIssued { diagnosis: Diagnosis::Rejected(_), .. });
        match quota_owner {
            QuotaOwner::Account(_) if !is_rejected => {
                if let Some(unsuccessful) = recent.unsuccessful.get_mut(&own) {
                    unsuccessful.pop_back();
                }
            }
            QuotaOwner::Namespace { .. } if matches!(result, TokenResult::Issued { .. }) => {
                recent.add_holder(key, own);
            }
            QuotaOwner::Account(_) | QuotaOwner::Namespace { .. } | QuotaOwner::Controller => {}
        }
    }

    fn key(&self, app: AppCredential<'_>) -> u64 {
        self.hashes.hash_one((app.tenant.as_str(), app.client.as_str()))
    }

    fn hash_of(&self, quota_owner: &QuotaOwner) -> u64 {
        match quota_owner {
            QuotaOwner::Controller => self.hashes.hash_one(()),
            QuotaOwner::Namespace { name, .. } => self.hashes.hash_one((0, name)),
            QuotaOwner::Account(name) => self.hashes.hash_one((1, name)),
        }
    }
}

// === impl RecentAttempts ===

impl RecentAttempts {
    fn add_holder(&mut self, app: u64, quota_owner: u64) {
        let holders = self.holders.entry(app);
        if !holders.contains(&quota_owner) {
            holders.push(quota_owner);
        }
    }

    fn add(&mut self, app: u64, attempt: Attempt) {
        if attempt.is_account {
            self.unsuccessful.entry(attempt.quota_owner).or_default().push_back(attempt.at);
        }
        self.attempts.entry(app).push_back(attempt);
    }

    /// Forgets attempts that are too old to count.
    fn forget_old(&mut self, app: u64, next: &Attempt, span: Duration) {
        let is_old = |at: Instant| next.at.duration_since(at) >= span;
        if is_old(self.attempts.rotated_at) {
            self.attempts.rotate();
        }
        let attempts = self.attempts.entry(app);
        while attempts.front().is_some_and(|first| is_old(first.at)) {
            attempts.pop_front();
        }
        if let Some(unsuccessful) = self.unsuccessful.get_mut(&next.quota_owner) {
            while unsuccessful.front().is_some_and(|first| is_old(*first)) {
                unsuccessful.pop_front();
            }
        }
    }

    /// How long the next attempt has to wait if a limit is reached: the longest of all limits.
    fn wait(&self, app: u64, next: &Attempt, span: Duration, equal_allowed: usize) -> Option<Duration> {
        let remaining = |at: Instant| span.saturating_sub(next.at.duration_since(at));
        let attempts = self.attempts.get(app);
        let wait = |most: usize, is_counted: &dyn Fn(&Attempt) -> bool| {
            let mut newest_first = attempts?.iter().rev().filter(|attempt| is_counted(attempt));
            Some(remaining(newest_first.nth(most.checked_sub(1)?)?.at))
        };
        let is_equal = |attempt: &Attempt| attempt.secret == next.secret;
        let by_secret = wait(Timing::TOKEN_TRIES, &is_equal);
        if next.is_account {
            let equal = wait(equal_allowed, &|attempt| is_equal(attempt) && attempt.is_account);
            let own = |attempt: &Attempt| attempt.quota_owner == next.quota_owner;
            let unsuccessful = self.unsuccessful.get(&next.quota_owner);
            let by_all_apps = unsuccessful
                .filter(|unsuccessful| unsuccessful.len() >= Timing::TOKEN_REJECTIONS)
                .and_then(|unsuccessful| unsuccessful.front().copied().map(remaining));
            return by_secret.max(equal).max(wait(Timing::TOKEN_TRIES_SERVED, &own)).max(by_all_apps);
        }
        let holders = self.holders.get(app).map(Vec::as_slice).unwrap_or_default();
        let is_other_namespace = |quota_owner: u64| !holders.is_empty() && !holders.contains(&quota_owner);
        let by_other_namespaces = is_other_namespace(next.quota_owner).then(|| {
            wait(Timing::TOKEN_TRIES_OTHER_NAMESPACES, &|attempt| {
                !attempt.is_account && is_other_namespace(attempt.quota_owner)
            })
        });
        let by_namespaces = wait(Timing::TOKEN_TRIES, &|attempt| !attempt.is_account);
        by_secret.max(by_namespaces).max(by_other_namespaces.flatten())
    }
}

// === impl RecentlyUsed ===

impl<V: Default> RecentlyUsed<V> {
    fn new() -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), rotated_at: Instant::now() }
    }

    fn get(&self, key: u64) -> Option<&V> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    fn entry(&mut self, key: u64) -> &mut V {
        if self.young.len() >= MAX_APPS / 2 && !self.young.contains_key(&key) {
            self.rotate();
        }
        let old = self.old.remove(&key);
        self.young.entry(key).or_insert_with(|| old.unwrap_or_default())
    }

    /// Drops the entries that were not used since the last rotation.
    fn rotate(&mut self) {
        self.old = std::mem::take(&mut self.young);
        self.rotated_at = Instant::now();
    }
}

#[cfg(test)]
mod tests;
