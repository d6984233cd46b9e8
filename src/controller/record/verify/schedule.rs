//! Schedule of verifications and status updates of records. It keeps no copy of a record.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::ObjectMeta;

use crate::api::{NamespacedName, SealedGraphCredential};
use crate::controller::version::Version;
use crate::core::status::record::{
    has_status_from_ahead, status_due_at, status_is_current, verification_due_at,
};
use crate::core::timing::Timing;
use crate::core::{backoff, clock};

pub(super) struct Schedule {
    entries: HashMap<NamespacedName, Entry>,
    queue: BTreeSet<(Timestamp, NamespacedName)>,
    /// The latest time at which it was looked at.
    latest: Timestamp,
}

/// A record that is due: the known version, and when to verify it again if no token was issued.
pub(super) type Due = (NamespacedName, Version, Option<Timestamp>);

/// The reconciled version and when to verify it again; `None` if nothing was reconciled.
pub(super) type Reconciled = (NamespacedName, Option<(Version, Option<Timestamp>)>);

/// What is kept of a record between verifications.
struct Entry {
    version: Version,
    /// Whether its status is about the secret that it contains.
    is_status_current: bool,
    /// When its status makes a verification due.
    verification_due: Timestamp,
    /// When its status has to change.
    status_due: Timestamp,
    /// Earliest time of the next verification, because the last one had no result, or the request that saved the secret
    /// may be about to write its result.
    retry_at: Option<Timestamp>,
    /// Earliest time of the next reconcile, because the record was just reconciled.
    paused_until: Timestamp,
    /// Its time in the queue; `None` while it is being reconciled.
    queued_at: Option<Timestamp>,
}

// === impl Schedule ===

impl Default for Schedule {
    fn default() -> Self {
        Self { entries: HashMap::new(), queue: BTreeSet::new(), latest: Timestamp::MIN }
    }
}

impl Schedule {
    pub(super) fn records(&self) -> impl Iterator<Item = &NamespacedName> {
        self.entries.keys()
    }

    /// Applies the current version of a record. A new secret is not verified at first: the request that saves it has
    /// verified it, and records that when it ends. If the status is from a time that is ahead, this clock may be behind
    /// and all records be due: their verifications are spread over the resync interval.
    pub(super) fn apply(&mut self, record: &SealedGraphCredential, now: Timestamp, timing: &Timing) {
        let (name, version) = (NamespacedName::of(record), Version::of_record(&record.metadata));
        let before = self.entries.get(&name).filter(|before| before.version == version);
        let is_from_ahead = has_status_from_ahead(record, now);
        let wait = if is_from_ahead {
            Some(backoff::shorten(record.metadata.uid.as_deref().unwrap_or_default(), timing.resync, 1))
        } else {
            (!status_is_current(record)).then_some(timing.rest_request)
        };
        let entry = Entry {
            version,
            is_status_current: status_is_current(record),
            verification_due: verification_due_at(record, timing, now),
            status_due: status_due_at(record, now),
            retry_at: before.map_or_else(|| wait.map(|wait| now + wait), |before| before.retry_at),
            paused_until: before.map_or(Timestamp::MIN, |before| before.paused_until),
            queued_at: None,
        };
        self.put(name, entry, now);
    }

    /// A record that cannot be deserialized is never due.
    pub(super) fn apply_unreadable(&mut self, metadata: &ObjectMeta, now: Timestamp) {
        let entry = Entry {
            version: Version::of_record(metadata),
            is_status_current: false,
            verification_due: Timestamp::MAX,
            status_due: Timestamp::MAX,
            retry_at: None,
            paused_until: Timestamp::MIN,
            queued_at: None,
        };
        self.put(NamespacedName::of_meta(metadata), entry, now);
    }

    fn put(&mut self, name: NamespacedName, mut entry: Entry, now: Timestamp) {
        let is_reconciling = self.entries.get(&name).is_some_and(|before| before.queued_at.is_none());
        self.forget(&name);
        if !is_reconciling {
            entry.enqueue(&name, &mut self.queue, now);
        }
        self.entries.insert(name, entry);
    }

    /// Returns whether the record was known.
    pub(super) fn forget(&mut self, name: &NamespacedName) -> bool {
        let Some(entry) = self.entries.remove(name) else { return false };
        if let Some(at) = entry.queued_at {
            self.queue.remove(&(at, name.clone()));
        }
        true
    }

    /// The next record that is due. If the clock went back, what was planned before is planned again.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Due> {
        if clock::happened(self.latest, now).is_none() {
            self.enqueue_all(now);
        }
        self.latest = now;
        self.queue.first().filter(|(at, _)| *at <= now)?;
        let (_, name) = self.queue.pop_first()?;
        let entry = self.entries.get_mut(&name)?;
        entry.queued_at = None;
        Some((name, entry.version, entry.retry_at))
    }

    /// The time until the next record is due.
    pub(super) fn wait(&self, now: Timestamp) -> Duration {
        let next = self.queue.first().map_or(Timestamp::MAX, |(at, _)| *at);
        Duration::try_from(next.duration_since(now)).unwrap_or_default()
    }

    /// Puts a record back into the queue. It is not taken again during the pause, because the watch delivers what was
    /// written, unless it was planned for an earlier time.
    pub(super) fn finished(&mut self, (name, outcome): Reconciled, now: Timestamp, pause: Duration) {
        let Some(entry) = self.entries.get_mut(&name) else { return };
        entry.paused_until = now + pause;
        if let Some((version, retry_at)) = outcome
            && entry.version == version
        {
            entry.retry_at = retry_at;
            let planned = retry_at.filter(|at| *at > now).unwrap_or(Timestamp::MAX);
            entry.paused_until = entry.paused_until.min(planned);
        }
        // It may have been deleted and re-created meanwhile.
        if entry.queued_at.is_none() {
            entry.enqueue(&name, &mut self.queue, now);
        }
    }

    /// Makes postponed retries due.
    pub(super) fn retry_all(&mut self, now: Timestamp) {
        for entry in self.entries.values_mut() {
            entry.retry_at = entry.retry_at.filter(|_| !entry.is_status_current);
            entry.paused_until = Timestamp::MIN;
        }
        self.enqueue_all(now);
    }

    fn enqueue_all(&mut self, now: Timestamp) {
        self.queue.clear();
        for (name, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.queued_at.is_some()) {
            entry.enqueue(name, &mut self.queue, now);
        }
    }
}

// === impl Entry ===

impl Entry {
    fn due_at(&self, now: Timestamp) -> Timestamp {
        if self.verification_due == Timestamp::MAX {
            return Timestamp::MAX;
        }
        let retry_at = self.retry_at.map_or(Timestamp::MIN, |at| clock::planned(at, now));
        let verification_due = clock::planned(self.verification_due, now).max(retry_at);
        verification_due.min(self.status_due).max(clock::planned(self.paused_until, now))
    }

    fn enqueue(
        &mut self,
        name: &NamespacedName,
        queue: &mut BTreeSet<(Timestamp, NamespacedName)>,
        now: Timestamp,
    ) {
        let at = self.due_at(now);
        self.queued_at = Some(at);
        queue.insert((at, name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::conditions::Reason;
    use crate::core::diagnosis::Rejection;
    use crate::core::status::record::{RecordVerification, next_status};

    const TIMING: Timing = Timing::STANDARD;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-24T{text}Z").parse().unwrap()
    }

    fn record(uid: &str, generation: i64) -> SealedGraphCredential {
        serde_json::from_value(json!({
            "metadata": {"namespace": "mail", "name": "r-1", "uid": uid, "generation": generation},
            "spec": {
                "recordId": "0123456789abcdef0123456789abcdef", "credentialId": 1,
                "tenantId": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
                "clientId": "e1c6ac69-480e-4a17-9b85-3467967bd179",
                "secretExpiresAt": "2027-11-28T23:59:59Z", "name": "x", "envelope": "e"
            }
        }))
        .unwrap()
    }

    fn verified(record: &SealedGraphCredential, now: Timestamp) -> SealedGraphCredential {
        SealedGraphCredential {
            status: Some(next_status(record, Some(&RecordVerification::Issued), now)),
            ..record.clone()
        }
    }

    fn due(schedule: &Schedule) -> Vec<Timestamp> {
        schedule.queue.iter().map(|(at, _)| *at).collect()
    }

    #[test]
    fn a_new_secret_waits_for_its_request_and_a_verified_one_for_a_day() {
        let mut schedule = Schedule::default();
        let now = at("08:00:00");
        schedule.apply(&record("1", 1), now, &TIMING);
        assert_eq!(due(&schedule), [at("08:01:00")]);
        schedule.apply(&record("1", 1), at("08:00:30"), &TIMING);
        assert_eq!(due(&schedule), [at("08:01:00")], "the same record");
        schedule.apply(&verified(&record("1", 1), now), now, &TIMING);
        assert_eq!(due(&schedule), [now + Duration::from_hours(24)]);
        schedule.apply(&record("1", 2), at("09:00:00"), &TIMING);
        assert_eq!(due(&schedule), [at("09:01:00")], "another secret");
        assert!(schedule.forget(&NamespacedName { namespace: "mail".into(), name: "r-1".into() }));
        assert!(due(&schedule).is_empty() && schedule.entries.is_empty());
    }

    #[test]
    fn a_record_is_not_taken_during_its_reconcile_nor_right_after_it() {
        let mut schedule = Schedule::default();
        schedule.apply(&record("1", 1), at("08:00:00"), &TIMING);
        assert!(schedule.take_due(at("08:00:59")).is_none());
        let (name, version, _) = schedule.take_due(at("08:01:00")).unwrap();
        schedule.apply(&record("1", 1), at("08:01:01"), &TIMING);
        assert!(schedule.take_due(at("08:02:00")).is_none(), "it is being reconciled");
        let retry_at = Some(at("08:30:00"));
        schedule.finished((name.clone(), Some((version, retry_at))), at("08:02:00"), Duration::from_mins(1));
        assert_eq!(due(&schedule), [at("08:30:00")], "no token was issued");
        schedule.retry_all(at("08:04:00"));
        assert_eq!(
            due(&schedule),
            [at("08:30:00")],
            "its status is of no secret: its request may still be in flight"
        );
        let seen = verified(&record("1", 1), at("07:00:00") - Duration::from_hours(24));
        schedule.apply(&seen, at("08:04:00"), &TIMING);
        assert_eq!(due(&schedule), [at("08:30:00")]);
        schedule.retry_all(at("08:04:00"));
        assert_eq!(due(&schedule), [at("07:00:00")], "the keyring has more keys");
        let (name, version, _) = schedule.take_due(at("08:05:00")).unwrap();
        schedule.apply(&record("2", 1), at("08:06:00"), &TIMING);
        schedule.finished(
            (name, Some((version, Some(at("23:00:00"))))),
            at("08:06:00"),
            Duration::from_secs(30),
        );
        assert_eq!(due(&schedule), [at("08:07:00")], "it was re-created meanwhile");
    }

    #[test]
    fn a_rejection_is_confirmed_at_its_own_times_also_after_a_restart() {
        let rejected = RecordVerification::Rejected(Rejection {
            reason: Reason::InvalidClientSecret,
            code: Some(7_000_215),
        });
        let (mut schedule, long) = (Schedule::default(), TIMING.record_retry);
        let mut record = verified(&record("1", 1), at("08:00:00") - Duration::from_hours(24));
        schedule.apply(&record, at("08:00:00"), &TIMING);
        for (asked, next) in [("08:00:00", "08:00:30"), ("08:00:30", "08:01:30"), ("08:01:30", "08:03:30")] {
            let (now, next) = (at(asked), at(next));
            let (name, version, _) = schedule.take_due(now).unwrap();
            record.status = Some(next_status(&record, Some(&rejected), now));
            schedule.finished((name, Some((version, Some(next)))), now, long);
            schedule.apply(&record, now, &TIMING);
            assert_eq!(due(&schedule), [next]);
            let mut restarted = Schedule::default();
            restarted.apply(&record, now, &TIMING);
            assert_eq!(due(&restarted), [next], "after a restart");
        }
    }

    #[test]
    fn a_record_that_is_deleted_during_its_reconcile_is_forgotten() {
        let mut schedule = Schedule::default();
        schedule.apply(&record("1", 1), at("08:00:00"), &TIMING);
        let (name, version, _) = schedule.take_due(at("08:01:00")).unwrap();
        assert!(schedule.forget(&name));
        schedule.finished((name, Some((version, None))), at("08:02:00"), Duration::from_mins(1));
        assert!(due(&schedule).is_empty());
    }

    #[test]
    fn a_time_that_is_ahead_counts_as_never_and_many_are_spread_over_the_resync_interval() {
        let now = at("08:00:00");
        let planned = |uid: &str| {
            let mut schedule = Schedule::default();
            schedule.apply(&verified(&record(uid, 1), now + Duration::from_hours(24 * 30)), now, &TIMING);
            due(&schedule)[0]
        };
        let all: Vec<_> = (0..40).map(|uid| planned(&uid.to_string())).collect();
        assert!(all.iter().all(|at| (now..=now + TIMING.resync).contains(at)), "{all:?}");
        assert!(all.iter().any(|at| *at > now + TIMING.resync / 2), "{all:?}");
        assert!(all.iter().any(|at| *at < now + TIMING.resync / 2), "{all:?}");
    }

    #[test]
    fn a_clock_that_goes_back_postpones_nothing() {
        let (now, mut schedule) = (at("08:00:00"), Schedule::default());
        schedule.apply(&verified(&record("1", 1), now), now, &TIMING);
        assert!(schedule.take_due(now).is_none());
        let back = now - Duration::from_hours(24 * 365);
        assert!(schedule.take_due(back).is_some(), "it was planned for a time that is now ahead");
    }
}
