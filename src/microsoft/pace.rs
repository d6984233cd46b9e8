//! How often an app may be tried. Microsoft takes fifteen equal requests of a client in five minutes for a loop and refuses
//! further ones (AADSTS50196), so of one secret there are at most ten. An account of the REST API has tries of its own for
//! each app: whoever tries the app of another one takes nothing from it, or from the controller.
//!
//! Source: Microsoft, breaking changes of March 2019: duplicate requests, told apart by client instance.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::app::App;
use crate::resources::{ClientId, TenantId};
use crate::secret::SecretText;
use crate::settings::Timing;

/// So many equal requests are a loop.
const LOOP: usize = 15;

/// So many equal ones accounts may make in any case, such as a POST and the PATCH after it.
const LEAST_SERVED: usize = 2;

/// The recent tries of each app.
#[derive(Debug)]
pub(super) struct Pace {
    span: Duration,
    /// Those that try apps, this one included.
    processes: AtomicUsize,
    /// Secrets are told apart by their hash under a key of this process.
    hashes: RandomState,
    tries: Mutex<HashMap<(TenantId, ClientId), VecDeque<Try>>>,
}

#[derive(Debug)]
struct Try {
    at: Instant,
    /// Hash of the secret.
    secret: u64,
    /// The account of the REST API that asked for it; nothing for the controller.
    account: Option<String>,
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
        Self {
            span: timing.token_tries_span,
            processes: AtomicUsize::new(1),
            hashes: RandomState::new(),
            tries: Mutex::default(),
        }
    }

    /// Divides the tries of one secret among so many processes from now on.
    pub(super) fn share_among(&self, processes: usize) {
        self.processes.store(processes, Ordering::Relaxed);
    }

    /// Counts a try, of an account of the REST API or of the controller, or says how long to wait before the next one
    /// is due.
    pub(super) fn admit(
        &self,
        app: App<'_>,
        secret: &SecretText,
        account: Option<&str>,
    ) -> Result<(), Duration> {
        let (now, secret) = (Instant::now(), self.hashes.hash_one(secret.expose()));
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.retain(|_, recent| {
            while recent.front().is_some_and(|first| now.duration_since(first.at) >= self.span) {
                recent.pop_front();
            }
            !recent.is_empty()
        });
        let recent = tries.entry((app.tenant.clone(), app.client.clone())).or_default();
        let wait = |most: usize, is_counted: &dyn Fn(&Try) -> bool| {
            let counted: Vec<&Try> = recent.iter().filter(|one| is_counted(one)).collect();
            let first = counted.len().checked_sub(most).and_then(|at| counted.get(at))?;
            Some(self.span.saturating_sub(now.duration_since(first.at)))
        };
        let is_equal = |one: &Try| one.secret == secret;
        let of_secret = wait(Timing::TOKEN_TRIES, &is_equal);
        let of_asker = if let Some(account) = account {
            let served = equal_served(self.processes.load(Ordering::Relaxed));
            let equal = wait(served, &|one| is_equal(one) && one.account.is_some());
            let own = |one: &Try| one.account.as_deref() == Some(account);
            equal.max(wait(Timing::TOKEN_TRIES_SERVED, &own))
        } else {
            wait(Timing::TOKEN_TRIES, &|one| one.account.is_none())
        };
        if let Some(wait) = of_secret.max(of_asker) {
            return Err(wait);
        }
        recent.push_back(Try { at: now, secret, account: account.map(str::to_owned) });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Cloud;

    const SPAN: Duration = Duration::from_mins(5);

    /// How often an app is tried with that secret until it is held back, as one of so many processes.
    fn tried(pace: &Pace, app: u8, secret: &str, account: Option<&str>) -> usize {
        let tenant: TenantId = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
        let client: ClientId = format!("e1c6ac69-480e-4a17-9b85-3467967bd1{app:02}").parse().unwrap();
        let app = App { cloud: Cloud::Global, tenant: &tenant, client: &client };
        let secret = SecretText::new(secret.to_owned());
        (0..40).take_while(|_| pace.admit(app, &secret, account) == Ok(())).count()
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
        let tenant: TenantId = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
        let client: ClientId = "e1c6ac69-480e-4a17-9b85-3467967bd101".parse().unwrap();
        let app = App { cloud: Cloud::Global, tenant: &tenant, client: &client };
        let held_back = pace.admit(app, &SecretText::new("one".to_owned()), None);
        assert_eq!(held_back, Err(SPAN / 2), "eight are forgotten by then");
    }
}
