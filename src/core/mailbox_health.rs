//! The health of an account's mailboxes: what its listings add to the status and the condition `MailboxesHealthy`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{Condition, ConditionType, Desired, Reason, find, whole_second};
use crate::api::timestamp::Time;
use crate::api::{FailingMailbox, MailboxHealthStatus};
use crate::core::event::EventBody;
use crate::core::mailbox_failures::{Failures, Lasting, MAX_LISTED, Since};
use crate::core::mailboxes::{Mailboxes, StateCounts};

/// Intervals without a listing after which the state of the mailboxes is unknown.
const STALE_INTERVALS: u32 = 3;

/// What is kept of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub counts: StateCounts,
    pub failures: Arc<Failures>,
}

/// The last attempt to list the mailboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub at: Timestamp,
    /// What was listed, or why it failed.
    pub result: Result<Seen, String>,
}

/// What is known when the status is written.
#[derive(Clone, Copy, Debug)]
pub struct HealthInput<'a> {
    pub before: Option<&'a MailboxHealthStatus>,
    pub conditions: &'a [Condition],
    /// The last attempt of this process.
    pub attempt: Option<&'a Attempt>,
    /// Whether the account can be used.
    pub is_usable: bool,
    pub interval: Duration,
    /// How long a mailbox must be failing before the condition is False.
    pub patience: Duration,
    pub now: Timestamp,
}

/// What the status says about the mailboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    pub status: Option<MailboxHealthStatus>,
    pub condition: Desired,
}

/// The next status and condition.
pub fn report(input: &HealthInput<'_>) -> HealthReport {
    let listed_before = input.before.and_then(listed_at);
    // The status has whole seconds. To apply a listing twice changes nothing.
    let is_new = |attempt: &&Attempt| listed_before.is_none_or(|before| attempt.at > before);
    let status = match input.attempt.filter(is_new) {
        Some(Attempt { at, result: Ok(seen) }) => Some(next_status(input.before, seen, *at)),
        _ => input.before.cloned(),
    };
    let condition = condition(input, status.as_ref());
    HealthReport { status, condition }
}

/// The event about a change of the condition; none while the state is unknown.
pub fn event(before: &[Condition], after: &[Condition]) -> Option<EventBody> {
    let type_ = ConditionType::MailboxesHealthy;
    let (old, new) = (find(before, type_), find(after, type_)?);
    let is_failing = new.is_because(Reason::MailboxesFailing);
    let was_failing = old.is_some_and(|old| old.is_because(Reason::MailboxesFailing));
    // Between two reports of failing mailboxes, their state may have been unknown for a while.
    let is_news = is_failing && !was_failing || was_failing && new.is_because(Reason::MailboxesHealthy);
    is_news.then(|| EventBody::of(new, is_failing, "CheckMailboxes", String::new())).flatten()
}

fn next_status(before: Option<&MailboxHealthStatus>, seen: &Seen, at: Timestamp) -> MailboxHealthStatus {
    let known = before.map(|before| before.failing_mailboxes.as_slice()).unwrap_or_default();
    let failing = |(id, Since { first_seen, .. })| {
        let known = known.iter().find(|known| known.id == id);
        let unknown = known.map(|known| known.unknown.clone()).unwrap_or_default();
        FailingMailbox { id, first_seen_time: Time(first_seen), unknown }
    };
    let StateCounts { healthy, degraded, failing: failing_count, inactive, frozen } = seen.counts;
    MailboxHealthStatus {
        last_listed_time: Some(Time(whole_second(at))),
        healthy,
        degraded,
        failing: failing_count,
        inactive,
        frozen,
        failing_mailboxes: seen.failures.longest().into_iter().map(failing).collect(),
        unknown: before.map(|before| before.unknown.clone()).unwrap_or_default(),
    }
}

fn condition(input: &HealthInput<'_>, status: Option<&MailboxHealthStatus>) -> Desired {
    let type_ = ConditionType::MailboxesHealthy;
    if !input.is_usable {
        let message = "the account cannot be used, so its mailboxes are not listed";
        return Desired::unknown(type_, Reason::AccountNotReady, message);
    }
    match input.attempt {
        Some(Attempt { result: Err(problem), .. }) => {
            return Desired::unknown(type_, Reason::MailboxesNotListed, problem.clone());
        }
        // Before the first listing of this process, an earlier failure still counts.
        None => {
            let failed = find(input.conditions, type_).filter(|it| it.is_because(Reason::MailboxesNotListed));
            if let Some(failed) = failed.and_then(Condition::as_desired) {
                return failed;
            }
        }
        Some(Attempt { result: Ok(_), .. }) => {}
    }
    let Some((status, listed_at)) = status.and_then(|status| Some((status, listed_at(status)?))) else {
        return Desired::unknown(type_, Reason::ListingPending, "the mailboxes have not been listed yet");
    };
    let age = Duration::try_from(input.now.duration_since(listed_at)).unwrap_or_default();
    if age > input.interval.saturating_mul(STALE_INTERVALS) {
        let message =
            "the mailboxes have not been listed for a while, because other requests to the account are ahead";
        return Desired::unknown(type_, Reason::ListingPending, message);
    }
    let failures = if let Some(Attempt { result: Ok(seen), .. }) = input.attempt {
        seen.failures.clone()
    } else {
        Arc::new(Failures::of_status(Some(status), input.conditions))
    };
    let lasting = failures.lasting(listed_at, input.patience);
    // The status does not say how many more there were, and the condition does.
    if lasting.count > 0
        && !failures.is_complete()
        && let Some(before) =
            find(input.conditions, type_).filter(|it| it.is_because(Reason::MailboxesFailing))
        && let Some(before) = before.as_desired()
    {
        return before;
    }
    of_lasting(lasting)
}

fn of_lasting(Lasting { count, may_be_more }: Lasting) -> Desired {
    let type_ = ConditionType::MailboxesHealthy;
    match count {
        0 if may_be_more => {
            let message = format!(
                "the operator was restarted while more than {MAX_LISTED} mailboxes were failing, and does not know for how \
                 long some of them have been; it lists them for an hour"
            );
            Desired::unknown(type_, Reason::FailureTimeUnknown, message)
        }
        0 => {
            let message = "no mailbox has been failing for an hour";
            Desired::met(type_, Reason::MailboxesHealthy, message)
        }
        _ => {
            let (mailboxes, have) = if count == 1 { ("mailbox", "has") } else { ("mailboxes", "have") };
            let of_them =
                if count > MAX_LISTED { format!(" of {MAX_LISTED} of them") } else { String::new() };
            let message = format!(
                "{count} {mailboxes} {have} been failing for an hour or longer: status.mailboxHealth.failingMailboxes has \
                 the IDs{of_them} at Woodpecker, which shows the errors"
            );
            Desired::unmet(type_, Reason::MailboxesFailing, message)
        }
    }
}

fn listed_at(status: &MailboxHealthStatus) -> Option<Timestamp> {
    Some(status.last_listed_time.as_ref()?.0)
}

// === impl Seen ===

impl Seen {
    /// What a listing shows, after `before`.
    pub fn of(mailboxes: &Mailboxes, before: &Failures, at: Timestamp) -> Self {
        let failures = before.next(&mailboxes.failing(), at);
        Self { counts: mailboxes.counts(), failures: Arc::new(failures) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::{ConditionStatus, merge};

    const HOUR: Duration = Duration::from_hours(1);

    /// The status and conditions after each listing.
    struct Account {
        status: Option<MailboxHealthStatus>,
        conditions: Vec<Condition>,
        /// What the process remembers.
        failures: Option<Arc<Failures>>,
        events: Vec<&'static str>,
        is_usable: bool,
    }

    impl Account {
        fn new() -> Self {
            Self { status: None, conditions: Vec::new(), failures: None, events: Vec::new(), is_usable: true }
        }

        fn report(&mut self, minute: i64, result: Option<Result<&[i64], &str>>) -> (ConditionStatus, String) {
            let now = Timestamp::from_second(minute * 60).unwrap();
            let seen = |failing: &[i64]| {
                let restored = || Arc::new(Failures::of_status(self.status.as_ref(), &self.conditions));
                let failures = self.failures.clone().unwrap_or_else(restored).next(failing, now);
                let counts =
                    StateCounts { failing: i32::try_from(failing.len()).unwrap(), ..StateCounts::default() };
                Seen { counts, failures: Arc::new(failures) }
            };
            let attempt =
                result.map(|result| Attempt { at: now, result: result.map(seen).map_err(str::to_owned) });
            if let Some(Attempt { result: Ok(seen), .. }) = &attempt {
                self.failures = Some(seen.failures.clone());
            }
            let HealthReport { status, condition } = report(&HealthInput {
                before: self.status.as_ref(),
                conditions: &self.conditions,
                attempt: attempt.as_ref(),
                is_usable: self.is_usable,
                interval: HOUR / 2,
                patience: HOUR,
                now,
            });
            let after = merge(&self.conditions, vec![condition], 1, now);
            self.events.extend(event(&self.conditions, &after).map(|event| event.reason));
            (self.status, self.conditions) = (status, after);
            (self.conditions[0].status, self.conditions[0].reason.clone())
        }

        fn lists(&mut self, minute: i64, failing: &[i64]) -> ConditionStatus {
            self.report(minute, Some(Ok(failing))).0
        }
    }

    #[test]
    fn only_a_mailbox_that_fails_for_an_hour_makes_the_condition_false() {
        let mut account = Account::new();
        for (minute, failing, expected) in [
            (0, &[7][..], ConditionStatus::True),
            (30, &[7, 8], ConditionStatus::True),
            (59, &[8], ConditionStatus::True),
            (60, &[7], ConditionStatus::True),
            (119, &[7, 8], ConditionStatus::True),
            (120, &[7, 8], ConditionStatus::False),
            (150, &[8], ConditionStatus::True),
            (180, &[8], ConditionStatus::False),
        ] {
            assert_eq!(account.lists(minute, failing), expected, "after {minute} minutes");
        }
        assert_eq!(account.events, ["MailboxesFailing", "MailboxesHealthy", "MailboxesFailing"]);
        let listed = account.status.unwrap().failing_mailboxes;
        assert_eq!(listed.iter().map(|it| it.id).collect::<Vec<_>>(), [8]);
    }

    #[test]
    fn a_failed_listing_makes_it_unknown_and_keeps_what_was_seen() {
        let mut account = Account::new();
        account.lists(0, &[7]);
        account.lists(60, &[7]);
        let unknown = (ConditionStatus::Unknown, "MailboxesNotListed".to_owned());
        assert_eq!(account.report(90, Some(Err("HTTP 502"))), unknown);
        assert_eq!(account.report(91, None), unknown, "also after a restart");
        assert_eq!(account.lists(120, &[7]), ConditionStatus::False, "it never worked meanwhile");
        assert_eq!(account.events, ["MailboxesFailing", "MailboxesFailing"]);
    }

    #[test]
    fn what_was_not_listed_for_a_while_is_unknown() {
        let mut account = Account::new();
        let pending = (ConditionStatus::Unknown, "ListingPending".to_owned());
        assert_eq!(account.report(0, None), pending);
        account.lists(0, &[]);
        assert_eq!(account.report(90, None).0, ConditionStatus::True);
        assert_eq!(account.report(91, None), pending);
        account.is_usable = false;
        assert_eq!(account.report(91, None), (ConditionStatus::Unknown, "AccountNotReady".to_owned()));
        assert!(account.events.is_empty());
    }

    #[test]
    fn the_same_listing_counts_once_and_the_longest_hundred_are_listed() {
        let mut account = Account::new();
        account.lists(0, &[500]);
        let all: Vec<i64> = (1..=500).collect();
        account.lists(60, &all);
        let before = account.status.clone();
        account.lists(60, &[]);
        assert_eq!(account.status, before, "it is not newer");
        let listed: Vec<i64> = before.unwrap().failing_mailboxes.iter().map(|it| it.id).collect();
        assert_eq!(listed, [500].into_iter().chain(1..=99).collect::<Vec<_>>());
    }

    #[test]
    fn more_than_a_hundred_are_all_counted_and_none_is_forgotten_when_others_recover() {
        let mut account = Account::new();
        let all: Vec<i64> = (1..=150).collect();
        account.lists(0, &all);
        assert_eq!(account.lists(60, &all), ConditionStatus::False);
        let message = account.conditions[0].message.clone();
        assert!(message.starts_with("150 mailboxes have been"), "{message}");
        assert!(message.contains("the IDs of 100 of them at Woodpecker"), "{message}");
        assert_eq!(account.lists(90, &all[100..]), ConditionStatus::False, "they did not begin just now");
        assert!(account.conditions[0].message.starts_with("50 mailboxes have been"));
        assert_eq!(account.events, ["MailboxesFailing"]);
    }

    #[test]
    fn a_restart_changes_nothing_and_a_time_that_it_lost_is_neither_true_nor_false() {
        let mut account = Account::new();
        let all: Vec<i64> = (1..=150).collect();
        account.lists(0, &all);
        account.lists(60, &all);
        let (status, conditions) = (account.status.clone(), account.conditions.clone());
        account.failures = None;
        account.report(61, None);
        assert_eq!((&account.status, &account.conditions), (&status, &conditions));
        let unknown = (ConditionStatus::Unknown, "FailureTimeUnknown".to_owned());
        assert_eq!(account.report(90, Some(Ok(&all[100..]))), unknown);
        account.failures = None;
        assert_eq!(account.report(91, None), unknown, "also after another restart");
        assert_eq!(account.report(149, Some(Ok(&all[100..]))), unknown);
        assert_eq!(account.lists(150, &all[100..]), ConditionStatus::False);
        assert!(account.conditions[0].message.starts_with("50 mailboxes have been"));
    }
}
