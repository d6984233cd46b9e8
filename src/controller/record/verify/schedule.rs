//! When records are to be verified, and when their status is to say something new. No copy of a record is kept. PURE.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::ObjectMeta;

use crate::controller::index::Named;
use crate::controller::record::status::{is_seen, status_due_at, verification_due_at};
use crate::controller::version::Version;
use crate::resources::SealedGraphCredential;

/// When records are due.
#[derive(Default)]
pub(super) struct Schedule {
    entries: HashMap<Named, Entry>,
    queue: BTreeSet<(Timestamp, Named)>,
}

/// A record that is due: the version that is known, and when to verify it again if no token was issued.
pub(super) type Due = (Named, Version, Option<Timestamp>);

/// What became of a record that was due: the same of the version that was looked at.
pub(super) type Looked = (Named, Option<(Version, Option<Timestamp>)>);

/// What is known of a record between its verifications.
struct Entry {
    version: Version,
    /// Whether its status is about the secret that it holds.
    is_seen: bool,
    /// When it is to be verified, as its status has it.
    verification_due: Timestamp,
    /// When its status is to say something new.
    status_due: Timestamp,
    /// No verification before: the last one came to nothing, or the request that saved the secret may be about to say that it
    /// was verified.
    retry_at: Option<Timestamp>,
    /// Nothing before, because something was tried a moment ago.
    paused_until: Timestamp,
    /// Its place in the queue; none while it is being worked on.
    queued_at: Option<Timestamp>,
}

// === impl Schedule ===

impl Schedule {
    pub(super) fn records(&self) -> impl Iterator<Item = &Named> {
        self.entries.keys()
    }

    /// Takes in a record as it is now. One whose secret is new is left alone at first: whoever saves a secret has verified
    /// it, and says so by the end of the request.
    pub(super) fn apply(&mut self, record: &SealedGraphCredential, now: Timestamp, request: Duration) {
        let (place, version) = (Named::of(record), Version::of_record(&record.metadata));
        let before = self.entries.get(&place).filter(|before| before.version == version);
        let is_new = before.is_none() && !is_seen(record);
        let entry = Entry {
            version,
            is_seen: is_seen(record),
            verification_due: verification_due_at(record),
            status_due: status_due_at(record, now),
            retry_at: before.map_or_else(|| is_new.then(|| now + request), |before| before.retry_at),
            paused_until: before.map_or(Timestamp::MIN, |before| before.paused_until),
            queued_at: None,
        };
        self.put(place, entry);
    }

    /// Nothing is ever due about a record that cannot be read.
    pub(super) fn apply_unreadable(&mut self, metadata: &ObjectMeta) {
        let entry = Entry {
            version: Version::of_record(metadata),
            is_seen: false,
            verification_due: Timestamp::MAX,
            status_due: Timestamp::MAX,
            retry_at: None,
            paused_until: Timestamp::MIN,
            queued_at: None,
        };
        self.put(Named::of_meta(metadata), entry);
    }

    fn put(&mut self, place: Named, mut entry: Entry) {
        let is_worked_on = self.entries.get(&place).is_some_and(|before| before.queued_at.is_none());
        self.forget(&place);
        if !is_worked_on {
            entry.enqueue(&place, &mut self.queue);
        }
        self.entries.insert(place, entry);
    }

    /// Returns whether it was known.
    pub(super) fn forget(&mut self, place: &Named) -> bool {
        let Some(entry) = self.entries.remove(place) else { return false };
        if let Some(at) = entry.queued_at {
            self.queue.remove(&(at, place.clone()));
        }
        true
    }

    /// The next record that is due, to be worked on.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Due> {
        self.queue.first().filter(|(at, _)| *at <= now)?;
        let (_, place) = self.queue.pop_first()?;
        let entry = self.entries.get_mut(&place)?;
        entry.queued_at = None;
        Some((place, entry.version, entry.retry_at))
    }

    /// Until the next record is due.
    pub(super) fn wait(&self, now: Timestamp) -> Duration {
        let next = self.queue.first().map_or(Timestamp::MAX, |(at, _)| *at);
        Duration::try_from(next.duration_since(now)).unwrap_or_default()
    }

    /// A record was worked on. It is not taken again before `paused_until`: the watch brings what was written.
    pub(super) fn looked(&mut self, (place, outcome): Looked, paused_until: Timestamp) {
        let Some(entry) = self.entries.get_mut(&place) else { return };
        entry.paused_until = paused_until;
        if let Some((version, retry_at)) = outcome
            && entry.version == version
        {
            entry.retry_at = retry_at;
        }
        // It may have been deleted and created again meanwhile.
        if entry.queued_at.is_none() {
            entry.enqueue(&place, &mut self.queue);
        }
    }

    /// Everything is tried again that was put off.
    pub(super) fn retry_all(&mut self) {
        self.queue.clear();
        for (place, entry) in &mut self.entries {
            entry.retry_at = entry.retry_at.filter(|_| !entry.is_seen);
            entry.paused_until = Timestamp::MIN;
            if entry.queued_at.is_some() {
                entry.enqueue(place, &mut self.queue);
            }
        }
    }
}

// === impl Entry ===

impl Entry {
    fn due_at(&self) -> Timestamp {
        let verification_due = self.verification_due.max(self.retry_at.unwrap_or(Timestamp::MIN));
        verification_due.min(self.status_due).max(self.paused_until)
    }

    fn enqueue(&mut self, place: &Named, queue: &mut BTreeSet<(Timestamp, Named)>) {
        let at = self.due_at();
        self.queued_at = Some(at);
        queue.insert((at, place.clone()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::record::status::{Proof, next_status};

    const REQUEST: Duration = Duration::from_mins(1);

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
            status: Some(next_status(record, Some(&Proof::Issued), now)),
            ..record.clone()
        }
    }

    /// When the one record is due.
    fn due(schedule: &Schedule) -> Vec<Timestamp> {
        schedule.queue.iter().map(|(at, _)| *at).collect()
    }

    #[test]
    fn a_new_secret_waits_for_its_request_and_a_verified_one_for_a_day() {
        let mut schedule = Schedule::default();
        let now = at("08:00:00");
        schedule.apply(&record("1", 1), now, REQUEST);
        assert_eq!(due(&schedule), [at("08:01:00")]);
        schedule.apply(&record("1", 1), at("08:00:30"), REQUEST);
        assert_eq!(due(&schedule), [at("08:01:00")], "it is the same one");
        schedule.apply(&verified(&record("1", 1), now), now, REQUEST);
        assert_eq!(due(&schedule), [now + Duration::from_hours(24)]);
        schedule.apply(&record("1", 2), at("09:00:00"), REQUEST);
        assert_eq!(due(&schedule), [at("09:01:00")], "another secret");
        assert!(schedule.forget(&Named { namespace: "mail".into(), name: "r-1".into() }));
        assert!(due(&schedule).is_empty() && schedule.entries.is_empty());
    }

    #[test]
    fn what_is_worked_on_is_not_taken_twice_and_then_left_alone_for_a_while() {
        let mut schedule = Schedule::default();
        schedule.apply(&record("1", 1), at("08:00:00"), REQUEST);
        assert!(schedule.take_due(at("08:00:59")).is_none());
        let (place, version, _) = schedule.take_due(at("08:01:00")).unwrap();
        schedule.apply(&record("1", 1), at("08:01:01"), REQUEST);
        assert!(schedule.take_due(at("08:02:00")).is_none(), "it is worked on");
        let retry_at = Some(at("08:30:00"));
        schedule.looked((place.clone(), Some((version, retry_at))), at("08:03:00"));
        assert_eq!(due(&schedule), [at("08:30:00")], "no token was issued");
        schedule.retry_all();
        assert_eq!(due(&schedule), [at("08:30:00")], "it was never seen: its request may still be under way");
        let seen = verified(&record("1", 1), at("07:00:00") - Duration::from_hours(24));
        schedule.apply(&seen, at("08:04:00"), REQUEST);
        assert_eq!(due(&schedule), [at("08:30:00")]);
        schedule.retry_all();
        assert_eq!(due(&schedule), [at("07:00:00")], "the keyring holds more");
        let (place, version, _) = schedule.take_due(at("08:05:00")).unwrap();
        schedule.apply(&record("2", 1), at("08:06:00"), REQUEST);
        schedule.looked((place, Some((version, Some(at("23:00:00"))))), at("08:06:30"));
        assert_eq!(due(&schedule), [at("08:07:00")], "it was re-created meanwhile");
    }

    #[test]
    fn a_record_that_goes_while_it_is_worked_on_is_gone() {
        let mut schedule = Schedule::default();
        schedule.apply(&record("1", 1), at("08:00:00"), REQUEST);
        let (place, version, _) = schedule.take_due(at("08:01:00")).unwrap();
        assert!(schedule.forget(&place));
        schedule.looked((place, Some((version, None))), at("08:03:00"));
        assert!(due(&schedule).is_empty());
    }
}
