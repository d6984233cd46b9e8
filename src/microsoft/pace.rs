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
mod tests {
    use super::*;
    use crate::microsoft::{Refusal, Trace};
    use crate::resources::conditions::Reason;
    use crate::resources::{ClientId, Cloud, TenantId};

    const SPAN: Duration = Duration::from_mins(5);

    /// Of that number.
    fn with_app<T>(app: u32, with: impl FnOnce(App<'_>) -> T) -> T {
        let tenant: TenantId = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
        let client: ClientId = format!("e1c6ac69-480e-4a17-9b85-3467{app:08}").parse().unwrap();
        with(App { cloud: Cloud::Global, tenant: &tenant, client: &client })
    }

    /// How often an app is tried with that secret until it is held back.
    fn tried_by(pace: &Pace, app: u32, secret: &str, asker: &Asker) -> usize {
        let secret = SecretText::new(secret.to_owned());
        with_app(app, |app| (0..40).take_while(|_| pace.admit(app, &secret, asker) == Ok(())).count())
    }

    /// The same, of an account of the REST API or of the controller.
    fn tried(pace: &Pace, app: u32, secret: &str, account: Option<&str>) -> usize {
        let asker = account.map_or(Asker::Controller, |account| Asker::Account(account.to_owned()));
        tried_by(pace, app, secret, &asker)
    }

    fn namespace(name: &str, had_token: bool) -> Asker {
        Asker::Namespace { name: name.to_owned(), had_token }
    }

    fn refused() -> Verdict {
        let refusal = Refusal { reason: Reason::InvalidClientSecret, code: None };
        let (diagnosis, trace) = (Diagnosis::Refused(refusal), Trace::default());
        Verdict::NotIssued { diagnosis, retry_after: None, trace }
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_is_tried_ten_times_in_five_minutes_and_others_are_not_held_up() {
        let pace = Pace::new(&Timing::STANDARD);
        assert_eq!(tried(&pace, 1, "one", None), 10);
        assert_eq!(tried(&pace, 1, "two", None), 0, "whatever the secret");
        assert_eq!(tried(&pace, 2, "one", None), 10);
        tokio::time::advance(SPAN).await;
        assert_eq!(tried(&pace, 1, "two", None), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_tries_the_app_of_another_account_takes_no_try_from_it_or_from_the_controller() {
        for processes in [1, 2, 3, 5, 12] {
            let pace = Pace::new(&Timing::STANDARD);
            pace.share_among(processes);
            for stranger in 0..20 {
                let guesses =
                    (0..20).map(|guess| tried(&pace, 1, &format!("{guess}"), Some(&format!("{stranger}"))));
                assert!(guesses.sum::<usize>() <= 8, "of its own it has no more");
            }
            assert!(tried(&pace, 1, "right", Some("mail")) >= 2, "{processes} processes");
            assert_eq!(tried(&pace, 1, "next", None), 10, "{processes} processes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_one_secret_there_is_no_loop_over_all_processes() {
        for (processes, each) in [(1, 8), (2, 4), (3, 2)] {
            let all: Vec<Pace> = (0..processes).map(|_| Pace::new(&Timing::STANDARD)).collect();
            let mut sum = 0;
            for pace in &all {
                pace.share_among(processes);
                let mut accounts = ["mail", "sales"].into_iter();
                let of_accounts: usize = accounts.by_ref().map(|it| tried(pace, 1, "right", Some(it))).sum();
                assert_eq!(of_accounts, each);
                sum += of_accounts;
            }
            let of_controller = tried(&all[0], 1, "right", None);
            assert_eq!(of_controller, 10 - each, "{processes} processes");
            assert!(sum + of_controller < LOOP, "{processes} processes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_is_until_the_try_that_makes_room() {
        let pace = Pace::new(&Timing::STANDARD);
        assert_eq!(tried(&pace, 1, "one", Some("mail")), 8);
        tokio::time::advance(SPAN / 2).await;
        assert_eq!(tried(&pace, 1, "one", None), 2);
        let secret = SecretText::new("one".to_owned());
        let held_back = with_app(1, |app| pace.admit(app, &secret, &Asker::Controller));
        assert_eq!(held_back, Err(SPAN / 2), "eight are forgotten by then");
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_has_had_a_token_keeps_its_share_whoever_else_tries_its_app() {
        let pace = Pace::new(&Timing::STANDARD);
        let (owner, other) = (namespace("mail", false), namespace("other", false));
        assert_eq!(tried_by(&pace, 1, "one", &other), 10, "nobody has had one");
        tokio::time::advance(SPAN).await;
        let secret = SecretText::new("right".to_owned());
        with_app(1, |app| {
            assert_eq!(pace.admit(app, &secret, &owner), Ok(()));
            pace.ended(app, &owner, &Verdict::Issued { roles: None });
        });
        tokio::time::advance(SPAN * 3).await;
        for stranger in 0..20 {
            tried_by(&pace, 1, &format!("guess {stranger}"), &namespace(&format!("{stranger}"), false));
        }
        assert_eq!(tried_by(&pace, 1, "next", &other), 0);
        assert_eq!(tried_by(&pace, 1, "next", &owner), 6, "the strangers had four");
        assert_eq!(tried_by(&pace, 1, "next", &Asker::Controller), 0, "ten in all");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_status_says_about_a_token_counts_after_a_restart() {
        let pace = Pace::new(&Timing::STANDARD);
        assert_eq!(tried_by(&pace, 1, "one", &namespace("other", false)), 10);
        assert_eq!(tried_by(&pace, 1, "two", &namespace("mail", true)), 0, "it came too late this time");
        tokio::time::advance(SPAN).await;
        assert_eq!(tried_by(&pace, 1, "one", &namespace("other", false)), 4);
        assert_eq!(tried_by(&pace, 1, "two", &namespace("mail", false)), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_is_refused_a_hundred_times_over_all_apps_and_what_is_right_is_not_counted() {
        let pace = Pace::new(&Timing::STANDARD);
        let (account, other) = (Asker::Account("mail".into()), Asker::Account("other".into()));
        let secret = SecretText::new("a secret".to_owned());
        let tries = |asker: &Asker, verdict: &Verdict| {
            let is_admitted = |app: &u32| {
                with_app(*app, |app| {
                    let admitted = pace.admit(app, &secret, asker);
                    pace.ended(app, asker, verdict);
                    admitted == Ok(())
                })
            };
            (0..1000).take_while(is_admitted).count()
        };
        assert_eq!(tries(&account, &Verdict::Issued { roles: None }), 1000);
        assert_eq!(tries(&account, &refused()), 100);
        assert_eq!(tries(&account, &Verdict::Issued { roles: None }), 0);
        assert_eq!(tries(&other, &Verdict::Issued { roles: None }), 1000);
        assert_eq!(tries(&namespace("mail", false), &refused()), 1000, "the controller is not meant");
        tokio::time::advance(SPAN).await;
        assert_eq!(tries(&account, &refused()), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn of_more_apps_than_are_kept_those_used_last_are_known() {
        let pace = Pace::new(&Timing::STANDARD);
        let (owner, most) = (namespace("mail", true), u32::try_from(MOST_APPS).unwrap());
        let secret = SecretText::new("a secret".to_owned());
        for app in 0..most * 2 {
            with_app(app, |app| pace.admit(app, &secret, &owner)).unwrap();
            assert_eq!(tried_by(&pace, most * 3, "one", &owner), if app == 0 { 10 } else { 0 });
        }
        {
            let books = pace.books.lock();
            assert!(books.tries.young.len() + books.tries.old.len() <= MOST_APPS);
            assert!(books.holders.young.len() + books.holders.old.len() <= MOST_APPS);
        }
        tokio::time::advance(SPAN).await;
        with_app(0, |app| pace.admit(app, &secret, &owner)).unwrap();
        tokio::time::advance(SPAN).await;
        with_app(0, |app| pace.admit(app, &secret, &owner)).unwrap();
        let books = pace.books.lock();
        assert_eq!(books.tries.young.len() + books.tries.old.len(), 1, "what is over is forgotten");
    }
}
