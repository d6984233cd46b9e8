//! How often an app may be tried. Microsoft takes fifteen equal requests of a client in five minutes for a loop and refuses
//! further ones (AADSTS50196), so of one secret there are at most ten. An account of the REST API has tries of its own for
//! each app: whoever tries the app of another one takes nothing from it, or from the controller. Of the controller's tries
//! of an app, a namespace that has had a token for it keeps a share.
//!
//! What is kept is bounded, and no try costs more where there are more apps.
//!
//! Source: Microsoft, breaking changes of March 2019: duplicate requests, told apart by client instance.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::app::App;
use super::diagnosis::Diagnosis;
use super::token::Verdict;
use crate::secret::SecretText;
use crate::settings::Timing;

/// So many equal requests are a loop.
const LOOP: usize = 15;

/// So many equal ones accounts may make in any case, such as a POST and the PATCH after it.
const LEAST_SERVED: usize = 2;

/// Of so many apps it is known how often they were tried, and who has had a token for them.
const MOST_APPS: usize = 1 << 15;

/// Who tries an app.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    /// The controller, for no namespace in particular.
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

/// The recent tries of each app.
#[derive(Debug)]
pub(super) struct Pace {
    span: Duration,
    /// Those that try apps, this one included.
    processes: AtomicUsize,
    /// Apps, secrets and askers are told apart by their hashes under a key of this process.
    hashes: RandomState,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    /// Tries by app.
    tries: Recent<VecDeque<Try>>,
    /// The namespaces that have had a token, by app.
    holders: Recent<Vec<u64>>,
    /// Tries of each account of the REST API that brought no token, or have not yet.
    vain: HashMap<u64, VecDeque<Instant>>,
}

/// What was used lately. Of what was not, the older half is forgotten at once where it is too much.
#[derive(Debug)]
struct Recent<V> {
    young: HashMap<u64, V>,
    old: HashMap<u64, V>,
    turned: Instant,
}

#[derive(Debug)]
struct Try {
    at: Instant,
    /// Hash of the secret.
    secret: u64,
    asker: u64,
    is_account: bool,
}

/// How many equal requests the accounts of the REST API may make here, with so many processes: so many that all of them
/// together make no loop, whatever the controller tries at one of them.
fn equal_served(processes: usize) -> usize {
    let elsewhere = LOOP - 1 - Timing::TOKEN_TRIES;
    match processes.saturating_sub(1) {
        0 => Timing::TOKEN_TRIES_SERVED,
        others => (elsewhere / others).max(LEAST_SERVED),
    }
}

// === impl Pace ===

impl Pace {
    pub(super) fn new(timing: &Timing) -> Self {
        let books = Books { tries: Recent::new(), holders: Recent::new(), vain: HashMap::new() };
        Self {
            span: timing.token_tries_span,
            processes: AtomicUsize::new(1),
            hashes: RandomState::new(),
            books: Mutex::new(books),
        }
    }

    /// Divides the tries of one secret among so many processes from now on.
    pub(super) fn share_among(&self, processes: usize) {
        self.processes.store(processes, Ordering::Relaxed);
    }

    /// Counts a try, or says how long to wait before the next one is due.
    pub(super) fn admit(&self, app: App<'_>, secret: &SecretText, asker: &Asker) -> Result<(), Duration> {
        let (now, key, secret) = (Instant::now(), self.key(app), self.hashes.hash_one(secret.expose()));
        let (own, is_account) = (self.hash_of(asker), matches!(asker, Asker::Account(_)));
        let books = &mut *self.books.lock();
        if matches!(asker, Asker::Namespace { had_token: true, .. }) {
            books.note_holder(key, own);
        }
        if now.duration_since(books.tries.turned) >= self.span {
            books.tries.turn();
        }
        let tries = books.tries.entry(key);
        let holders = books.holders.get(key).map(Vec::as_slice).unwrap_or_default();
        let is_over = |at: Instant| now.duration_since(at) >= self.span;
        while tries.front().is_some_and(|first| is_over(first.at)) {
            tries.pop_front();
        }
        let rest = |at: Instant| self.span.saturating_sub(now.duration_since(at));
        let wait = |most: usize, is_counted: &dyn Fn(&Try) -> bool| {
            let mut newest_first = tries.iter().rev().filter(|one| is_counted(one));
            Some(rest(newest_first.nth(most.checked_sub(1)?)?.at))
        };
        let is_equal = |one: &Try| one.secret == secret;
        let of_secret = wait(Timing::TOKEN_TRIES, &is_equal);
        let of_asker = if is_account {
            let served = equal_served(self.processes.load(Ordering::Relaxed));
            let equal = wait(served, &|one| is_equal(one) && one.is_account);
            equal.max(wait(Timing::TOKEN_TRIES_SERVED, &|one| one.asker == own))
        } else {
            wait(Timing::TOKEN_TRIES, &|one| !one.is_account)
        };
        let is_stranger = |asker: u64| !holders.is_empty() && !holders.contains(&asker);
        let of_strangers = (!is_account && is_stranger(own))
            .then(|| wait(Timing::TOKEN_TRIES_STRANGERS, &|one| !one.is_account && is_stranger(one.asker)));
        let vain = is_account.then(|| books.vain.entry(own).or_default());
        let of_all_apps = vain.and_then(|vain| {
            while vain.front().is_some_and(|first| is_over(*first)) {
                vain.pop_front();
            }
            if vain.len() >= Timing::TOKEN_TRIES_IN_VAIN { vain.front().copied().map(rest) } else { None }
        });
        if let Some(wait) = of_secret.max(of_asker).max(of_strangers.flatten()).max(of_all_apps) {
            return Err(wait);
        }
        tries.push_back(Try { at: now, secret, asker: own, is_account });
        if is_account {
            books.vain.entry(own).or_default().push_back(now);
        }
        Ok(())
    }

    /// Notes what came of a try: only refusals count against all tries of an account.
    pub(super) fn ended(&self, app: App<'_>, asker: &Asker, verdict: &Verdict) {
        let (key, own) = (self.key(app), self.hash_of(asker));
        let mut books = self.books.lock();
        let is_refused = matches!(verdict, Verdict::NotIssued { diagnosis: Diagnosis::Refused(_), .. });
        match asker {
            Asker::Account(_) if !is_refused => {
                if let Some(vain) = books.vain.get_mut(&own) {
                    vain.pop_back();
                }
            }
            Asker::Namespace { .. } if matches!(verdict, Verdict::Issued { .. }) => {
                books.note_holder(key, own);
            }
            Asker::Account(_) | Asker::Namespace { .. } | Asker::Controller => {}
        }
    }

    fn key(&self, app: App<'_>) -> u64 {
        self.hashes.hash_one((app.tenant.as_str(), app.client.as_str()))
    }

    fn hash_of(&self, asker: &Asker) -> u64 {
        match asker {
            Asker::Controller => self.hashes.hash_one(()),
            Asker::Namespace { name, .. } => self.hashes.hash_one((0, name)),
            Asker::Account(name) => self.hashes.hash_one((1, name)),
        }
    }
}

// === impl Books ===

impl Books {
    fn note_holder(&mut self, app: u64, asker: u64) {
        let holders = self.holders.entry(app);
        if !holders.contains(&asker) {
            holders.push(asker);
        }
    }
}

// === impl Recent ===

impl<V: Default> Recent<V> {
    fn new() -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), turned: Instant::now() }
    }

    fn get(&self, key: u64) -> Option<&V> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    fn entry(&mut self, key: u64) -> &mut V {
        if self.young.len() >= MOST_APPS / 2 && !self.young.contains_key(&key) {
            self.turn();
        }
        let old = self.old.remove(&key);
        self.young.entry(key).or_insert_with(|| old.unwrap_or_default())
    }

    /// Forgets what was not used since the last time.
    fn turn(&mut self) {
        self.old = std::mem::take(&mut self.young);
        self.turned = Instant::now();
    }
}

#[cfg(test)]
mod tests;
