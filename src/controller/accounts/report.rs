//! PURE: the status of an account that follows a look at it.

use std::collections::HashSet;
use std::iter;

use jiff::Timestamp;

use crate::controller::observed::Problem;
use crate::events::Note;
use crate::resources::WoodpeckerAccountStatus;
use crate::resources::conditions::{ConditionStatus, ConditionType, Desired, Reason, find, merge};
use crate::woodpecker::{Entry, Listing};

/// How an account stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Woodpecker accepts its key.
    Ready,
    /// It was not asked, or is asked to wait: what was known of it stands. The text is for the time when
    /// nothing was.
    Postponed(String),
    /// It cannot be told: Woodpecker could not be asked. The text says what and what to do.
    Unreachable(String),
    /// It works, and its listing lacks something: what is registered is kept up, and nothing is created.
    Incomplete(Problem),
    /// It cannot be used before somebody changes something.
    Unusable(Problem),
}

/// What a look at an account has found beside the verdict; nothing stays as it was.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// How much of each sort it holds.
    pub counts: Option<Counts>,
    /// Fingerprint of the key that opens the right account.
    pub api_key_fingerprint: Option<String>,
    /// The acknowledgement that was handled.
    pub acknowledged: Option<String>,
}

/// How many credentials of each sort an account holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    remote: i32,
    managed: i32,
    unclaimed: i32,
    foreign: i32,
}

/// What follows a look at an account.
#[derive(Clone, Debug)]
pub struct AccountReport {
    /// The status to write, where it differs.
    pub status: WoodpeckerAccountStatus,
    /// What to tell people, where Ready changed.
    pub note: Option<Note>,
}

/// Counts a listing: what objects have registered, what is for an app that some object names, the rest.
pub fn counts(listing: &Listing, managed: &[i64], is_named: impl Fn(&Entry) -> bool) -> Counts {
    let managed: HashSet<i64> = managed.iter().copied().collect();
    let (mut remote, mut others) = (0, Vec::new());
    listing.for_each(|entry| {
        remote += 1;
        if !managed.contains(&entry.id) {
            others.push(entry.clone());
        }
    });
    let count = |entries: usize| i32::try_from(entries).unwrap_or(i32::MAX);
    let (not_managed, unclaimed) =
        (count(others.len()), count(others.iter().filter(|it| is_named(it)).count()));
    Counts { remote, managed: remote - not_managed, unclaimed, foreign: not_managed - unclaimed }
}

/// The next status. Without a listing the counts stay as they were.
pub fn report(
    before: &WoodpeckerAccountStatus,
    generation: i64,
    verdict: &Verdict,
    findings: Findings,
    now: Timestamp,
) -> AccountReport {
    let mut status = before.clone();
    status.observed_generation = generation;
    status.api_key_fingerprint = findings.api_key_fingerprint.or(status.api_key_fingerprint);
    status.last_acknowledged = findings.acknowledged.or(status.last_acknowledged);
    if let Some(counts) = findings.counts {
        status.remote = Some(counts.remote);
        status.managed = Some(counts.managed);
        status.unclaimed = Some(counts.unclaimed);
        status.foreign = Some(counts.foreign);
    }
    let (is_ready, reason, message, beside) = match verdict {
        Verdict::Ready => {
            (ConditionStatus::True, Reason::Authenticated, "Woodpecker accepts the API key", None)
        }
        Verdict::Postponed(text) | Verdict::Unreachable(text) => {
            (ConditionStatus::False, Reason::Unreachable, text.as_str(), Some(ConditionType::Reconciling))
        }
        Verdict::Incomplete(problem) | Verdict::Unusable(problem) => {
            (ConditionStatus::False, problem.reason, problem.message.as_str(), Some(ConditionType::Stalled))
        }
    };
    let desired = |type_, status| Desired { type_, status, reason, message: message.to_owned() };
    let beside = beside.map(|type_| desired(type_, ConditionStatus::True));
    let desired = iter::once(desired(ConditionType::Ready, is_ready)).chain(beside).collect();
    status.conditions = merge(&before.conditions, desired, generation, now);
    let (old, new) =
        (find(&before.conditions, ConditionType::Ready), find(&status.conditions, ConditionType::Ready));
    let note = new.filter(|new| old.is_none_or(|old| old.reason != new.reason || old.status != new.status));
    let note = note.and_then(|ready| {
        Some(Note {
            is_warning: ready.status != ConditionStatus::True,
            reason: ready.as_desired()?.reason.as_str(),
            action: "CheckAccount",
            text: ready.message.clone(),
            ids: String::new(),
        })
    });
    AccountReport { status, note }
}

// === impl AccountReport ===

impl AccountReport {
    /// Whether nothing is to be written but other counts than those that were counted before.
    pub fn is_about_counts_alone(&self, before: &WoodpeckerAccountStatus) -> bool {
        let WoodpeckerAccountStatus { remote, managed, unclaimed, foreign, .. } = *before;
        let uncounted =
            WoodpeckerAccountStatus { remote, managed, unclaimed, foreign, ..self.status.clone() };
        remote.is_some() && self.status != *before && uncounted == *before
    }
}

// === impl Verdict ===

impl Verdict {
    /// As metrics name it.
    pub fn result(&self) -> &'static str {
        match self {
            Self::Ready => "success",
            Self::Postponed(_) => "requeue_after",
            Self::Unreachable(_) => "unreachable",
            Self::Incomplete(_) | Self::Unusable(_) => "unmet",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: i64, client: &str) -> Entry {
        Entry { id, tenant: "t".into(), client: client.into(), name: String::new(), expires_at: None }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn every_credential_is_counted_once() {
        let entries = [entry(1, "ours"), entry(2, "ours"), entry(3, "stranger"), entry(4, "ours")];
        let counts = counts(&entries.into_iter().collect(), &[1, 99], |entry| entry.client == "ours");
        assert_eq!(counts, Counts { remote: 4, managed: 1, unclaimed: 2, foreign: 1 });
    }

    #[test]
    fn other_counts_can_wait_and_nothing_else_can() {
        let counted =
            |remote| Findings { counts: Some(Counts { remote, ..Counts::default() }), ..Findings::default() };
        let first = report(&WoodpeckerAccountStatus::default(), 1, &Verdict::Ready, counted(1), at(1));
        assert!(!first.is_about_counts_alone(&WoodpeckerAccountStatus::default()));
        let before = first.status;
        let again = |verdict: &Verdict, remote| report(&before, 1, verdict, counted(remote), at(2));
        assert!(again(&Verdict::Ready, 2).is_about_counts_alone(&before));
        assert!(!again(&Verdict::Ready, 1).is_about_counts_alone(&before), "nothing is to be written");
        let refused = Verdict::Unusable(Problem { reason: Reason::InvalidApiKey, message: "refused".into() });
        assert!(!again(&refused, 2).is_about_counts_alone(&before));
    }

    #[test]
    fn an_outage_keeps_the_counts_and_tells_once() {
        let counted = Findings { counts: Some(Counts::default()), ..Findings::default() };
        let ready = report(&WoodpeckerAccountStatus::default(), 1, &Verdict::Ready, counted, at(1));
        assert!(ready.note.is_some_and(|note| !note.is_warning));
        let outage = Verdict::Unreachable("out of reach".into());
        let down = report(&ready.status, 1, &outage, Findings::default(), at(2));
        assert_eq!(down.status.remote, Some(0));
        assert!(down.note.is_some_and(|note| note.is_warning));
        let still = report(&down.status, 1, &outage, Findings::default(), at(3));
        assert_eq!(still.status, down.status);
        assert!(still.note.is_none());
    }
}
