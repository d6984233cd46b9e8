//! How often one app may be tried: Microsoft takes fifteen equal requests in five minutes for a loop and
//! refuses further ones (AADSTS50196), so we stop at ten, over all objects that name the app and all processes. Accounts of the
//! REST API have a share of these, divided among the processes that serve it: whoever tries the app of another one takes
//! nothing from it, or from the controller.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::resources::{ClientId, TenantId};
use crate::settings::Timing;

/// The recent tries of each app.
#[derive(Debug)]
pub(super) struct Pace {
    span: Duration,
    /// Those that try apps, this one included.
    processes: AtomicUsize,
    tries: Mutex<HashMap<(TenantId, ClientId), VecDeque<Try>>>,
}

#[derive(Debug)]
struct Try {
    at: Instant,
    /// The account of the REST API that asked for it; nothing for the controller.
    account: Option<String>,
}

/// How many tries of an app this process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    /// All together.
    all: usize,
    /// All accounts of the REST API together: the others are the controller's.
    served: usize,
    /// One account.
    of_account: usize,
}

// === impl Shares ===

impl Shares {
    /// With so many processes. Of each other one is taken for granted that its accounts use up their share; what the
    /// controller or the care for records does, only one of them does.
    fn among(processes: usize) -> Self {
        let processes = processes.max(1);
        let served = (Timing::TOKEN_TRIES_SERVED / processes).max(1);
        let elsewhere = served * (processes - 1);
        let own = Timing::TOKEN_TRIES - Timing::TOKEN_TRIES_SERVED;
        Self {
            all: Timing::TOKEN_TRIES.saturating_sub(elsewhere).max(own),
            served,
            of_account: (served - 1).max(1),
        }
    }
}

// === impl Pace ===

impl Pace {
    pub(super) fn new(timing: &Timing) -> Self {
        Self { span: timing.token_tries_span, processes: AtomicUsize::new(1), tries: Mutex::default() }
    }

    /// Divides the tries among so many processes from now on.
    pub(super) fn share_among(&self, processes: usize) {
        self.processes.store(processes, Ordering::Relaxed);
    }

    /// Counts a try, of an account of the REST API or of the controller, or says how long to wait before the next one
    /// is due.
    pub(super) fn admit(
        &self,
        tenant: &TenantId,
        client: &ClientId,
        account: Option<&str>,
    ) -> Result<(), Duration> {
        let shares = Shares::among(self.processes.load(Ordering::Relaxed));
        let now = Instant::now();
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.retain(|_, recent| {
            while recent.front().is_some_and(|first| now.duration_since(first.at) >= self.span) {
                recent.pop_front();
            }
            !recent.is_empty()
        });
        let recent = tries.entry((tenant.clone(), client.clone())).or_default();
        let wait = |most: usize, is_counted: &dyn Fn(&Try) -> bool| {
            let counted: Vec<&Try> = recent.iter().filter(|one| is_counted(one)).collect();
            let first = counted.first().filter(|_| counted.len() >= most)?;
            Some(self.span.saturating_sub(now.duration_since(first.at)))
        };
        let of_all = wait(shares.all, &|_| true);
        let of_accounts = account.and_then(|account| {
            let served = wait(shares.served, &|one| one.account.is_some());
            let own = |one: &Try| one.account.as_deref() == Some(account);
            served.max(wait(shares.of_account, &own))
        });
        if let Some(wait) = of_all.max(of_accounts) {
            return Err(wait);
        }
        recent.push_back(Try { at: now, account: account.map(str::to_owned) });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_app_is_tried_ten_times_in_five_minutes_and_others_are_not_held_up() {
        let pace = Pace::new(&Timing::STANDARD);
        let tenant: TenantId = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
        let (app, other): (ClientId, ClientId) = (
            "e1c6ac69-480e-4a17-9b85-3467967bd179".parse().unwrap(),
            "e1c6ac69-480e-4a17-9b85-3467967bd170".parse().unwrap(),
        );
        for _ in 0..10 {
            assert_eq!(pace.admit(&tenant, &app, None), Ok(()));
        }
        assert_eq!(pace.admit(&tenant, &app, None), Err(Duration::from_mins(5)));
        assert_eq!(pace.admit(&tenant, &other, None), Ok(()));
        tokio::time::advance(Duration::from_mins(5)).await;
        assert_eq!(pace.admit(&tenant, &app, None), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn several_processes_together_try_an_app_no_oftener_than_one() {
        let tenant: TenantId = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
        let app: ClientId = "e1c6ac69-480e-4a17-9b85-3467967bd179".parse().unwrap();
        for (processes, expected) in [(1, 10), (2, 10), (3, 10), (4, 10), (8, 10), (9, 10), (12, 13)] {
            let all: Vec<Pace> = (0..processes).map(|_| Pace::new(&Timing::STANDARD)).collect();
            let tried = |pace: &Pace, account: Option<&str>| {
                pace.share_among(processes);
                (0..20).take_while(|_| pace.admit(&tenant, &app, account) == Ok(())).count()
            };
            let of_accounts: usize =
                all.iter().map(|pace| tried(pace, Some("mail")) + tried(pace, Some("sales"))).sum();
            let of_controller = tried(&all[0], None);
            assert!(
                of_controller > 0 && of_accounts >= processes,
                "{processes}: {of_controller}, {of_accounts}"
            );
            assert_eq!(of_accounts + of_controller, expected, "{processes} processes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_takes_no_try_from_another_one_or_from_the_controller() {
        let pace = Pace::new(&Timing::STANDARD);
        let tenant: TenantId = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
        let app: ClientId = "e1c6ac69-480e-4a17-9b85-3467967bd179".parse().unwrap();
        let wait = Duration::from_mins(5);
        let tried = |account| (0..20).take_while(|_| pace.admit(&tenant, &app, account) == Ok(())).count();
        assert_eq!(tried(Some("mail")), 7);
        assert_eq!(tried(Some("sales")), 1);
        assert_eq!(tried(Some("support")), 0);
        assert_eq!(tried(None), 2);
        for account in [None, Some("mail")] {
            assert_eq!(pace.admit(&tenant, &app, account), Err(wait));
        }
        tokio::time::advance(wait).await;
        assert_eq!(tried(None), 10, "the controller alone has all of them");
    }
}
