//! Rate limits of token requests, per app and secret.
//!
//! Microsoft treats fifteen equal requests of a client in five minutes as a loop and refuses further ones
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
    by_app: RecentlyUsed<VecDeque<Attempt>>,
    /// The namespaces that have had a token, by app.
    holders: RecentlyUsed<Vec<u64>>,
    /// Attempts of each account of the REST API that were refused or have not ended.
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
            by_app: RecentlyUsed::new(),
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
        let (now, key, secret) = (Instant::now(), self.key(app), self.hashes.hash_one(secret.expose()));
        let (own, is_account) = (self.hash_of(quota_owner), matches!(quota_owner, QuotaOwner::Account(_)));
        let recent = &mut *self.recent.lock();
        if matches!(quota_owner, QuotaOwner::Namespace { had_token: true, .. }) {
            recent.add_holder(key, own);
        }
        if now.duration_since(recent.by_app.rotated_at) >= self.span {
            recent.by_app.rotate();
        }
        let by_app = recent.by_app.entry(key);
        let holders = recent.holders.get(key).map(Vec::as_slice).unwrap_or_default();
        let is_over = |at: Instant| now.duration_since(at) >= self.span;
        while by_app.front().is_some_and(|first| is_over(first.at)) {
            by_app.pop_front();
        }
        let remaining = |at: Instant| self.span.saturating_sub(now.duration_since(at));
        let wait = |most: usize, is_counted: &dyn Fn(&Attempt) -> bool| {
            let mut newest_first = by_app.iter().rev().filter(|attempt| is_counted(attempt));
            Some(remaining(newest_first.nth(most.checked_sub(1)?)?.at))
        };
        let is_equal = |attempt: &Attempt| attempt.secret == secret;
        let by_secret = wait(Timing::TOKEN_TRIES, &is_equal);
        let by_owner = if is_account {
            let served = equal_requests_allowed(self.processes.load(Ordering::Relaxed));
            let equal = wait(served, &|attempt| is_equal(attempt) && attempt.is_account);
            equal.max(wait(Timing::TOKEN_TRIES_SERVED, &|attempt| attempt.quota_owner == own))
        } else {
            wait(Timing::TOKEN_TRIES, &|attempt| !attempt.is_account)
        };
        let is_other_namespace = |quota_owner: u64| !holders.is_empty() && !holders.contains(&quota_owner);
        let by_other_namespaces = (!is_account && is_other_namespace(own)).then(|| {
            wait(Timing::TOKEN_TRIES_OTHER_NAMESPACES, &|attempt| {
                !attempt.is_account && is_other_namespace(attempt.quota_owner)
            })
        });
        let unsuccessful = is_account.then(|| recent.unsuccessful.entry(own).or_default());
        let by_all_apps = unsuccessful.and_then(|unsuccessful| {
            while unsuccessful.front().is_some_and(|first| is_over(*first)) {
                unsuccessful.pop_front();
            }
            if unsuccessful.len() >= Timing::TOKEN_REJECTIONS {
                unsuccessful.front().copied().map(remaining)
            } else {
                None
            }
        });
        if let Some(wait) = by_secret.max(by_owner).max(by_other_namespaces.flatten()).max(by_all_apps) {
            return Err(wait);
        }
        by_app.push_back(Attempt { at: now, secret, quota_owner: own, is_account });
        if is_account {
            recent.unsuccessful.entry(own).or_default().push_back(now);
        }
        Ok(())
    }

    /// Records the result of an attempt. Only refusals count against the total of an account.
    pub(super) fn record(&self, app: AppCredential<'_>, quota_owner: &QuotaOwner, result: &TokenResult) {
        let (key, own) = (self.key(app), self.hash_of(quota_owner));
        let mut recent = self.recent.lock();
        let is_refused = matches!(result, TokenResult::NotIssued { diagnosis: Diagnosis::Refused(_), .. });
        match quota_owner {
            QuotaOwner::Account(_) if !is_refused => {
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
