//! Since when mailboxes are failing. The operator remembers all of them, and the status has room for the longest ones.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::MailboxHealthStatus;
use crate::api::conditions::{Condition, ConditionType, Reason, find, whole_second};

/// The failing mailboxes that the status lists.
pub const MAX_LISTED: usize = 100;

/// The failing mailboxes by ID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    by_id: BTreeMap<i64, Since>,
    /// Mailboxes that are not among them may have been failing since then. Set by a status that had no room for all.
    others: Option<Timestamp>,
}

/// Since when a mailbox is failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// Since then every listing has shown it as failing.
    pub first_seen: Timestamp,
    /// Perhaps since then. Earlier than `first_seen` only if a restart lost the time.
    earliest: Timestamp,
}

/// The mailboxes that have been failing for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasting {
    /// Those that certainly have.
    pub count: usize,
    /// Whether there may be more of them.
    pub may_be_more: bool,
}

// === impl Failures ===

impl Failures {
    /// What a status says, after a restart.
    pub fn of_status(status: Option<&MailboxHealthStatus>, conditions: &[Condition]) -> Self {
        let Some(status) = status else { return Self::default() };
        // What another restart had lost is still lost.
        let was_lost = find(conditions, ConditionType::MailboxesHealthy)
            .is_some_and(|condition| condition.is_because(Reason::FailureTimeUnknown));
        let listed = &status.failing_mailboxes;
        let since = |first_seen| Since {
            first_seen,
            earliest: if was_lost { Timestamp::UNIX_EPOCH.min(first_seen) } else { first_seen },
        };
        let by_id: BTreeMap<_, _> =
            listed.iter().map(|mailbox| (mailbox.id, since(mailbox.first_seen_time.0))).collect();
        // The status lists the longest ones, so the others are not failing for longer than the last of these.
        let is_complete = usize::try_from(status.failing).is_ok_and(|failing| failing <= by_id.len());
        let last = by_id.values().max_by_key(|since| since.first_seen).map(|since| since.earliest);
        Self { by_id, others: last.filter(|_| !is_complete) }
    }

    /// The mailboxes of the next listing.
    pub fn next(&self, failing: &[i64], at: Timestamp) -> Self {
        let at = whole_second(at);
        let new = Since { first_seen: at, earliest: self.others.map_or(at, |others| others.min(at)) };
        let since = |id: &i64| (*id, self.by_id.get(id).copied().unwrap_or(new));
        Self { by_id: failing.iter().map(since).collect(), others: None }
    }

    /// The IDs of those that the status lists: the longest first.
    pub fn longest(&self) -> Vec<(i64, Since)> {
        let mut all: Vec<(i64, Since)> = self.by_id.iter().map(|(id, since)| (*id, *since)).collect();
        all.sort_by_key(|(id, since)| (since.first_seen, *id));
        all.truncate(MAX_LISTED);
        all
    }

    /// Whether all failing mailboxes are known.
    pub fn is_complete(&self) -> bool {
        self.others.is_none()
    }

    /// The mailboxes that have been failing for at least `patience` at that time.
    pub fn lasting(&self, at: Timestamp, patience: Duration) -> Lasting {
        let has_lasted = |since: Timestamp| {
            Duration::try_from(at.duration_since(since)).is_ok_and(|lasted| lasted >= patience)
        };
        let count = self.by_id.values().filter(|since| has_lasted(since.first_seen)).count();
        let possible = self.by_id.values().filter(|since| has_lasted(since.earliest)).count();
        Lasting { count, may_be_more: possible > count || self.others.is_some_and(has_lasted) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::{Desired, merge};
    use crate::api::timestamp::Time;
    use crate::api::{FailingMailbox, UnknownFields};

    const HOUR: Duration = Duration::from_hours(1);

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    /// The status after a listing.
    fn status(failures: &Failures) -> MailboxHealthStatus {
        let listed = failures.longest().into_iter().map(|(id, since)| FailingMailbox {
            id,
            first_seen_time: Time(since.first_seen),
            unknown: UnknownFields::default(),
        });
        MailboxHealthStatus {
            failing: i32::try_from(failures.by_id.len()).unwrap(),
            failing_mailboxes: listed.collect(),
            ..MailboxHealthStatus::default()
        }
    }

    fn lasting(failures: &Failures, minute: i64) -> (usize, bool) {
        let Lasting { count, may_be_more } = failures.lasting(at(minute), HOUR);
        (count, may_be_more)
    }

    #[test]
    fn all_are_remembered_without_a_restart() {
        let all: Vec<i64> = (1..=250).collect();
        let failures = Failures::default().next(&all, at(0)).next(&all, at(59));
        assert_eq!(lasting(&failures, 59), (0, false));
        let failures = failures.next(&all[100..], at(60));
        assert_eq!(lasting(&failures, 60), (150, false));
        let longest: Vec<i64> = failures.longest().iter().map(|(id, _)| *id).collect();
        assert_eq!(longest, all[100..200]);
        assert_eq!(lasting(&failures.next(&all[..100], at(61)), 61), (0, false), "they are new");
    }

    #[test]
    fn after_a_restart_those_that_were_not_listed_may_have_lasted_as_long_as_the_last_one_that_was() {
        let all: Vec<i64> = (1..=150).collect();
        let before = Failures::default().next(&all[..50], at(0)).next(&all, at(30));
        let restarted = Failures::of_status(Some(&status(&before)), &[]);
        assert!(!restarted.is_complete());
        // 1 to 100 were listed: 1 to 50 since minute 0, and the others since minute 30.
        let failures = restarted.next(&all, at(60));
        assert_eq!(lasting(&failures, 60), (50, false), "the others fail for half an hour at most");
        let unlisted = restarted.next(&all[100..], at(60));
        assert_eq!(lasting(&unlisted, 89), (0, false));
        assert_eq!(lasting(&unlisted, 90), (0, true));
        assert_eq!(lasting(&unlisted.next(&all[100..], at(120)), 120), (50, false));
        assert_eq!(lasting(&unlisted.next(&[7], at(90)), 90), (0, false), "they recovered");
    }

    #[test]
    fn what_is_unknown_stays_unknown_after_another_restart() {
        let all: Vec<i64> = (1..=150).collect();
        let before = Failures::default().next(&all, at(0));
        let unlisted = Failures::of_status(Some(&status(&before)), &[]).next(&all[100..], at(70));
        assert_eq!(lasting(&unlisted, 70), (0, true));
        let unknown = Desired::unknown(ConditionType::MailboxesHealthy, Reason::FailureTimeUnknown, "m");
        let conditions = merge(&[], vec![unknown], 1, at(70));
        let again = Failures::of_status(Some(&status(&unlisted)), &conditions);
        assert_eq!((lasting(&again, 80), again.is_complete()), ((0, true), true));
        assert_eq!(lasting(&again.next(&all[100..], at(130)), 130), (50, false));
    }

    #[test]
    fn a_status_that_lists_all_of_them_leaves_nothing_unknown() {
        let all: Vec<i64> = (1..=100).collect();
        let restarted = Failures::of_status(Some(&status(&Failures::default().next(&all, at(0)))), &[]);
        assert!(restarted.is_complete());
        assert_eq!(lasting(&restarted.next(&[500], at(70)), 130), (1, false));
        assert_eq!(lasting(&restarted.next(&[500], at(70)), 129), (0, false));
        assert_eq!(Failures::of_status(None, &[]), Failures::default());
    }
}
