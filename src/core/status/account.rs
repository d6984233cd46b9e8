//! The status of a `WoodpeckerAccount`.

use std::collections::HashSet;
use std::iter;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::WoodpeckerAccountStatus;
use crate::api::conditions::{ConditionStatus, ConditionType, Desired, Reason, find, merge};
use crate::core::event::EventBody;
use crate::core::mailbox_health::{self, HealthReport};
use crate::core::model::ConditionFailure;
use crate::core::outcome::Outcome;
use crate::core::remote::Entry;

/// The result of checking an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountResult {
    /// Woodpecker accepts its key.
    Ready,
    /// No request was sent, or Woodpecker limits the rate. The text is the message if nothing is known yet.
    Postponed(String),
    /// Woodpecker could not be reached. The text is the message.
    Unreachable(String),
    /// It works, but its listing lacks a credential: registrations are maintained, and nothing is created.
    Incomplete(ConditionFailure),
    /// Its Secret or API key is missing, and may still arrive for this long.
    AwaitingKey(ConditionFailure, Duration),
    /// It works, but its finalizer could not be written, or it selects namespaces that the operator may not read.
    Unprotected(ConditionFailure),
    /// It cannot be used until a person changes something.
    Unusable(ConditionFailure),
}

/// What a check of an account found besides its result; `None` keeps the previous value.
#[derive(Clone, Debug, Default)]
pub struct ListingSummary {
    /// How many credentials it has.
    pub counts: Option<Counts>,
    /// Fingerprint of the API key that was found to belong to the account.
    pub api_key_fingerprint: Option<String>,
    /// The value of the annotation `confirm-deleted` that was handled.
    pub confirmation: Option<String>,
    /// The IDs of which the deletion is confirmed.
    pub confirmed_deleted_ids: Option<Vec<i64>>,
    /// The health of its mailboxes; `None` removes it from the status.
    pub mailbox_health: Option<HealthReport>,
}

/// How many credentials an account has, by ownership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    remote: i32,
    managed: i32,
    adoptable: i32,
    unmanaged: i32,
}

/// The outcome of checking an account.
#[derive(Clone, Debug)]
pub struct AccountReport {
    /// The status to write if it differs.
    pub status: WoodpeckerAccountStatus,
    /// The event to emit if Ready changed.
    pub event: Option<EventBody>,
    /// The event to emit if mailboxes have begun to fail for long, or no longer do.
    pub mailbox_event: Option<EventBody>,
}

/// Counts a listing: managed credentials, adoptable ones (for an app that an object names), and the rest.
pub fn counts(
    for_each: impl FnOnce(&mut dyn FnMut(&Entry)),
    managed: &[i64],
    is_named: impl Fn(&Entry) -> bool,
) -> Counts {
    let managed: HashSet<i64> = managed.iter().copied().collect();
    let (mut remote, mut others) = (0, Vec::new());
    for_each(&mut |entry| {
        remote += 1;
        if !managed.contains(&entry.id) {
            others.push(entry.clone());
        }
    });
    let count = |entries: usize| i32::try_from(entries).unwrap_or(i32::MAX);
    let (not_managed, adoptable) =
        (count(others.len()), count(others.iter().filter(|it| is_named(it)).count()));
    Counts { remote, managed: remote - not_managed, adoptable, unmanaged: not_managed - adoptable }
}

/// The next status. Without a listing the counts do not change.
pub fn report(
    before: &WoodpeckerAccountStatus,
    generation: i64,
    result: &AccountResult,
    summary: ListingSummary,
    now: Timestamp,
) -> AccountReport {
    let mut status = before.clone();
    status.observed_generation = generation;
    status.api_key_fingerprint = summary.api_key_fingerprint.or(status.api_key_fingerprint);
    status.last_handled_confirmation = summary.confirmation.or(status.last_handled_confirmation);
    status.confirmed_deleted_ids = summary.confirmed_deleted_ids.unwrap_or(status.confirmed_deleted_ids);
    if let Some(counts) = summary.counts {
        status.remote = Some(counts.remote);
        status.managed = Some(counts.managed);
        status.adoptable = Some(counts.adoptable);
        status.unmanaged = Some(counts.unmanaged);
    }
    let (is_ready, reason, message, beside) = readiness(result);
    let desired = |type_, status| Desired { type_, status, reason, message: message.to_owned() };
    let beside = beside.map(|type_| desired(type_, ConditionStatus::True));
    let health = summary.mailbox_health.map(|health| (health.status, health.condition));
    let (mailbox_health, mailboxes_healthy) = health.unzip();
    status.mailbox_health = mailbox_health.flatten();
    let conditions = iter::once(desired(ConditionType::Ready, is_ready)).chain(beside);
    let desired = conditions.chain(mailboxes_healthy).collect();
    status.conditions = merge(&before.conditions, desired, generation, now);
    let (old, new) =
        (find(&before.conditions, ConditionType::Ready), find(&status.conditions, ConditionType::Ready));
    let event = new.filter(|new| old.is_none_or(|old| old.reason != new.reason || old.status != new.status));
    let event = event.and_then(|ready| {
        Some(EventBody {
            is_warning: ready.status != ConditionStatus::True,
            reason: ready.as_desired()?.reason.as_str(),
            action: "CheckAccount",
            text: ready.message.clone(),
            request_ids: String::new(),
        })
    });
    let mailbox_event = mailbox_health::event(&before.conditions, &status.conditions);
    AccountReport { status, event, mailbox_event }
}

/// The status, reason and message of Ready, and the condition beside it if it is not met.
fn readiness(result: &AccountResult) -> (ConditionStatus, Reason, &str, Option<ConditionType>) {
    let unmet = |reason, message, beside| (ConditionStatus::False, reason, message, Some(beside));
    match result {
        AccountResult::Ready => {
            (ConditionStatus::True, Reason::Authenticated, "Woodpecker accepts the API key", None)
        }
        AccountResult::Postponed(text) => {
            unmet(Reason::RateLimited, text.as_str(), ConditionType::Reconciling)
        }
        AccountResult::Unreachable(text) => {
            unmet(Reason::WoodpeckerUnavailable, text.as_str(), ConditionType::Reconciling)
        }
        AccountResult::AwaitingKey(problem, _) => {
            unmet(problem.reason, &problem.message, ConditionType::Reconciling)
        }
        AccountResult::Incomplete(problem)
        | AccountResult::Unprotected(problem)
        | AccountResult::Unusable(problem) => unmet(problem.reason, &problem.message, ConditionType::Stalled),
    }
}

// === impl AccountReport ===

impl AccountReport {
    /// Whether only the counts changed, and were counted before.
    pub fn changes_only_counts(&self, before: &WoodpeckerAccountStatus) -> bool {
        let WoodpeckerAccountStatus { remote, managed, adoptable, unmanaged, .. } = *before;
        let uncounted =
            WoodpeckerAccountStatus { remote, managed, adoptable, unmanaged, ..self.status.clone() };
        remote.is_some() && self.status != *before && uncounted == *before
    }
}

// === impl AccountResult ===

impl AccountResult {
    /// Whether requests other than listings of its credentials are sent.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Ready | Self::Incomplete(_) | Self::Unprotected(_))
    }

    /// How the reconcile ended.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Ready => Outcome::Success,
            Self::Postponed(_) => Outcome::Waiting,
            Self::Unreachable(_)
            | Self::Incomplete(_)
            | Self::Unprotected(_)
            | Self::AwaitingKey(..)
            | Self::Unusable(_) => Outcome::NotMet,
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
        let entries = [entry(1, "app"), entry(2, "app"), entry(3, "other"), entry(4, "app")];
        let counts = counts(|visit| entries.iter().for_each(visit), &[1, 99], |entry| entry.client == "app");
        assert_eq!(counts, Counts { remote: 4, managed: 1, adoptable: 2, unmanaged: 1 });
    }

    #[test]
    fn only_a_change_of_counts_can_wait() {
        let counted = |remote| ListingSummary {
            counts: Some(Counts { remote, ..Counts::default() }),
            ..ListingSummary::default()
        };
        let first = report(&WoodpeckerAccountStatus::default(), 1, &AccountResult::Ready, counted(1), at(1));
        assert!(!first.changes_only_counts(&WoodpeckerAccountStatus::default()));
        let before = first.status;
        let again = |result: &AccountResult, remote| report(&before, 1, result, counted(remote), at(2));
        assert!(again(&AccountResult::Ready, 2).changes_only_counts(&before));
        assert!(!again(&AccountResult::Ready, 1).changes_only_counts(&before), "nothing changed");
        let rejected = AccountResult::Unusable(ConditionFailure {
            reason: Reason::InvalidApiKey,
            message: "rejected".into(),
        });
        assert!(!again(&rejected, 2).changes_only_counts(&before));
    }

    #[test]
    fn an_outage_keeps_the_counts_and_emits_one_event() {
        let counted = ListingSummary { counts: Some(Counts::default()), ..ListingSummary::default() };
        let ready = report(&WoodpeckerAccountStatus::default(), 1, &AccountResult::Ready, counted, at(1));
        assert!(ready.event.is_some_and(|event| !event.is_warning));
        let outage = AccountResult::Unreachable("unreachable".into());
        let down = report(&ready.status, 1, &outage, ListingSummary::default(), at(2));
        assert_eq!(down.status.remote, Some(0));
        assert!(down.event.is_some_and(|event| event.is_warning));
        let still = report(&down.status, 1, &outage, ListingSummary::default(), at(3));
        assert_eq!(still.status, down.status);
        assert!(still.event.is_none());
    }
}
