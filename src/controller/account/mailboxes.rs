//! Lists the mailboxes of an account once per interval, beside its reconciles, which never wait for a listing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use crate::api::{AccountName, WoodpeckerAccount};
use crate::controller::account::reconcile::requested;
use crate::controller::account::requester;
use crate::controller::context::Context;
use crate::core::backoff;
use crate::core::error_chain::chain;
use crate::core::mailbox_failures::Failures;
use crate::core::mailbox_health::{Attempt, HealthInput, HealthReport, Seen, report};
use crate::core::request_priority::RequestPriority;
use crate::woodpecker::{AccountQueue, ApiError, Permit, QueueEntry, RemoteAccount};

/// The listings of an account's mailboxes by this process.
#[derive(Debug, Default)]
pub struct MailboxListings {
    is_running: bool,
    /// The last attempt that got a response, or none in time.
    last: Option<Attempt>,
    /// By the last successful listing.
    failures: Option<Arc<Failures>>,
    /// Consecutive attempts that failed or were given up, and when the next one may begin.
    unsuccessful: u32,
    not_before: Option<Instant>,
    /// The last handled annotation that requests a reconcile. After a restart, one counts as new.
    requested: Option<String>,
}

/// What a reconcile does about the mailboxes.
#[derive(Default)]
pub(super) struct Checked {
    /// `None` without `spec.mailboxHealth`.
    pub(super) health: Option<HealthReport>,
    pub(super) requeue_after: Option<Duration>,
}

/// Begins a listing if one is due, and returns what is known. `remote` is the account if it can be used. Sets the queue
/// in which the account waits for a permit.
pub(super) fn check(
    context: &Context,
    object: &WoodpeckerAccount,
    own: &AccountName,
    remote: Option<&Arc<RemoteAccount>>,
    queued_in: &mut Option<AccountQueue>,
) -> Checked {
    let Some(setting) = &object.spec.mailbox_health else {
        context.index.change_account(own, None, |account| account.mailboxes = MailboxListings::default());
        return Checked::default();
    };
    let (interval, uid, now) = (setting.interval(), object.uid().unwrap_or_default(), Timestamp::now());
    let requested = requested(object);
    let due = context.index.change_account(own, Some(&uid), |account| {
        let listed_at = object
            .status
            .as_ref()
            .and_then(|status| status.mailbox_health.as_ref()?.last_listed_time.clone());
        let listed_at = account.mailboxes.listed_at().max(listed_at.map(|at| at.0));
        account.mailboxes.due_in(listed_at, backoff::shorten(&uid, interval, 20), requested.as_deref(), now)
    });
    // Without the account's state, it has just been deleted.
    let mut requeue_after = due.flatten();
    if requeue_after == Some(Duration::ZERO)
        && let Some(remote) = remote
    {
        requeue_after = None;
        let entry =
            QueueEntry { requester: requester(own), priority: RequestPriority::Mailboxes, is_failing: false };
        match remote.queue.request_permit(&entry) {
            Ok(permit) => begin(context, object, own, remote.clone(), permit),
            // The permit requeues it.
            Err(_) => *queued_in = Some(remote.queue.clone()),
        }
    }
    let last = context.accounts.read(own, |account| account.mailboxes.last.clone()).flatten();
    let status = object.status.as_ref();
    let health = report(&HealthInput {
        before: status.and_then(|status| status.mailbox_health.as_ref()),
        conditions: status.map(|status| status.conditions.as_slice()).unwrap_or_default(),
        attempt: last.as_ref(),
        is_usable: remote.is_some(),
        interval,
        patience: context.policy.timing.mailbox_failing,
        now,
    });
    Checked { health: Some(health), requeue_after: requeue_after.filter(|wait| !wait.is_zero()) }
}

/// Lists in a task of its own, which requeues the account.
fn begin(
    context: &Context,
    object: &WoodpeckerAccount,
    own: &AccountName,
    remote: Arc<RemoteAccount>,
    permit: Permit,
) {
    let (own, uid, requested) = (own.clone(), object.uid().unwrap_or_default(), requested(object));
    let remembered = context.index.change_account(&own, Some(&uid), |account| {
        account.mailboxes.begin(requested);
        account.mailboxes.failures.clone()
    });
    let before = remembered.flatten().unwrap_or_else(|| Arc::new(failures_of(object)));
    let (index, requeuer, timing) = (context.index.clone(), context.requeuer.clone(), context.policy.timing);
    tokio::spawn(async move {
        let at = Timestamp::now();
        let result = remote.list_mailboxes(&permit, timing.mailbox_listing_grace).await;
        drop(permit);
        let result = result.map(|mailboxes| Seen::of(&mailboxes, &before, at));
        if let Err(error) = &result {
            tracing::warn!(account = %own, error = chain(error), "failed to list the account's mailboxes");
        }
        index.change_account(&own, Some(&uid), |account| {
            let wait = backoff::delay(&timing, account.mailboxes.unsuccessful.saturating_add(5), &uid);
            account.mailboxes.end(at, result, wait);
        });
        requeuer.account(&own);
    });
}

/// The failing mailboxes by the status, which another process may have written.
fn failures_of(object: &WoodpeckerAccount) -> Failures {
    let status = object.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    Failures::of_status(status.and_then(|status| status.mailbox_health.as_ref()), conditions)
}

/// What the condition says about a failed listing; `None` if no complete request was sent.
fn problem(error: &ApiError) -> Option<String> {
    let is_unsent = matches!(error, ApiError::Queue(_) | ApiError::NotLeading(_) | ApiError::GivenUp);
    (!is_unsent).then(|| format!("the mailboxes could not be listed: {error}; the operator tries again"))
}

// === impl MailboxListings ===

impl MailboxListings {
    fn listed_at(&self) -> Option<Timestamp> {
        self.last.as_ref().filter(|last| last.result.is_ok()).map(|last| last.at)
    }

    /// How long until the next listing begins; `None` while one runs.
    fn due_in(
        &mut self,
        listed_at: Option<Timestamp>,
        interval: Duration,
        requested: Option<&str>,
        now: Timestamp,
    ) -> Option<Duration> {
        if self.is_running {
            return None;
        }
        let is_requested = self.requested.as_deref() != requested;
        let age = listed_at.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
        let regular = age.map_or(Duration::ZERO, |age| interval.saturating_sub(age));
        let regular = if is_requested { Duration::ZERO } else { regular };
        let paused =
            self.not_before.map(|at| at.saturating_duration_since(Instant::now())).unwrap_or_default();
        Some(regular.max(paused))
    }

    fn begin(&mut self, requested: Option<String>) {
        self.is_running = true;
        self.requested = requested;
    }

    /// Records the result. After a failure, the next listing begins after `wait`.
    fn end(&mut self, at: Timestamp, result: Result<Seen, ApiError>, wait: Duration) {
        self.is_running = false;
        let (unsuccessful, not_before) = match &result {
            Ok(_) => (0, None),
            Err(_) => (self.unsuccessful.saturating_add(1), Some(Instant::now() + wait)),
        };
        (self.unsuccessful, self.not_before) = (unsuccessful, not_before);
        match result {
            Ok(seen) => {
                self.failures = Some(seen.failures.clone());
                self.last = Some(Attempt { at, result: Ok(seen) });
            }
            Err(error) => {
                if let Some(problem) = problem(&error) {
                    self.last = Some(Attempt { at, result: Err(problem) });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::failure::QueueError;
    use crate::core::mailboxes::StateCounts;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    fn seen() -> Seen {
        Seen { counts: StateCounts::default(), failures: Arc::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_is_due_after_the_interval_or_on_request() {
        let mut listings = MailboxListings::default();
        assert_eq!(listings.due_in(None, HOUR, None, at(0)), Some(Duration::ZERO));
        assert_eq!(listings.due_in(Some(at(0)), HOUR, None, at(20)), Some(Duration::from_mins(40)));
        assert_eq!(listings.due_in(Some(at(0)), HOUR, None, at(90)), Some(Duration::ZERO));
        assert_eq!(listings.due_in(Some(at(0)), HOUR, Some("now"), at(20)), Some(Duration::ZERO));
        listings.begin(Some("now".to_owned()));
        assert_eq!(listings.due_in(Some(at(0)), HOUR, Some("now"), at(90)), None, "it runs");
        listings.end(at(90), Ok(seen()), HOUR);
        assert_eq!(listings.due_in(Some(at(90)), HOUR, Some("now"), at(90)), Some(HOUR));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_remembered_and_one_that_was_not_sent_is_not() {
        let mut listings = MailboxListings::default();
        listings.end(at(0), Ok(seen()), HOUR);
        for error in [ApiError::GivenUp, ApiError::Queue(QueueError::Paused)] {
            listings.end(at(1), Err(error), HOUR);
            assert!(listings.last.as_ref().is_some_and(|last| last.result.is_ok()));
        }
        listings.end(at(2), Err(ApiError::Failed { status: 502, retry_after: None }), HOUR);
        assert!(listings.last.as_ref().is_some_and(|last| last.result.is_err()));
        assert!(listings.failures.is_some(), "what was seen before is not forgotten");
        assert_eq!((listings.listed_at(), listings.unsuccessful), (None, 3));
        assert_eq!(listings.due_in(Some(at(0)), Duration::ZERO, None, at(9)), Some(HOUR));
        tokio::time::advance(HOUR).await;
        assert_eq!(listings.due_in(Some(at(0)), Duration::ZERO, None, at(9)), Some(Duration::ZERO));
    }
}
