//! Calling the roll: which processes hold the keyring, and which of them have not acknowledged something yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use thiserror::Error;

use super::{ACKNOWLEDGED, Acknowledgement, KEYRING, PROCESS, REPLICA};
use crate::store::keyring::KeyringPlace;

/// A process that holds the keyring, by its Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Name of the Lease.
    pub lease: String,
    /// Name of the process, such as its pod's.
    pub holder: String,
    /// Its number there.
    process: Option<String>,
    /// When it was renewed last, by the clock of that process.
    renewed: Option<Timestamp>,
    /// How long it counts after each renewal.
    lasts: Duration,
    /// What it knows of the keyring, where that can be read.
    acknowledged: Option<Acknowledgement>,
    /// The version of the Lease.
    version: Option<String>,
}

/// The Leases could not be listed.
#[derive(Debug, Error)]
#[error(
    "failed to list the Leases in namespace {namespace} by which replicas acknowledge the keyring: it needs the right to list Leases there"
)]
pub struct RollError {
    namespace: String,
    source: kube::Error,
}

/// Looks at the roll again and again, and counts as dead who does not renew while it is looked at: the times on a Lease
/// are by a clock that is not ours.
#[derive(Debug, Default)]
pub struct RollCall {
    seen: BTreeMap<String, Sight>,
}

#[derive(Debug)]
struct Sight {
    renewed: Option<Timestamp>,
    since: Duration,
}

/// The processes that hold that keyring, or did.
pub async fn roll(client: &Client, place: &KeyringPlace) -> Result<Vec<Replica>, RollError> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &place.namespace);
    let listed = leases.list(&ListParams::default().labels(REPLICA)).await;
    let listed = listed.map_err(|source| RollError { namespace: place.namespace.clone(), source })?;
    let of_this = |lease: &&Lease| lease.annotations().get(KEYRING) == Some(&place.name);
    Ok(listed.items.iter().filter(of_this).map(Replica::of).collect())
}

// === impl Replica ===

impl Replica {
    fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            lease: lease.name_any(),
            holder: spec.holder_identity.unwrap_or_default(),
            process: lease.annotations().get(PROCESS).cloned(),
            renewed: spec.renew_time.map(|time| time.0),
            lasts: Duration::from_secs(seconds.unwrap_or_default()),
            acknowledged: lease.annotations().get(ACKNOWLEDGED).and_then(|text| text.parse().ok()),
            version: lease.resource_version(),
        }
    }

    /// What it knows of the keyring, where that can be read.
    pub fn acknowledged(&self) -> Option<&Acknowledgement> {
        self.acknowledged.as_ref()
    }

    /// The version of its Lease.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// When it was renewed last, by the clock of that process.
    pub fn renewed(&self) -> Option<Timestamp> {
        self.renewed
    }
}

// === impl RollCall ===

impl RollCall {
    /// Of these, those that live, as far as can be told by then, and have not acknowledged it. `clock` counts from any
    /// fixed moment, and was read before they were listed.
    pub fn missing(
        &mut self,
        roll: Vec<Replica>,
        clock: Duration,
        has_acknowledged: impl Fn(&Acknowledgement) -> bool,
    ) -> Vec<Replica> {
        self.seen.retain(|lease, _| roll.iter().any(|replica| replica.lease == *lease));
        roll.into_iter()
            .filter(|replica| !replica.acknowledged.as_ref().is_some_and(&has_acknowledged))
            .filter(|replica| clock.saturating_sub(self.silent_since(replica, clock)) <= replica.lasts)
            .collect()
    }

    /// How many processes these are, as far as they live and as far as can be told by then.
    pub(super) fn processes(&mut self, roll: &[Replica], clock: Duration) -> usize {
        let living = roll
            .iter()
            .filter(|replica| clock.saturating_sub(self.silent_since(replica, clock)) <= replica.lasts);
        living.map(|replica| (&replica.holder, &replica.process)).collect::<BTreeSet<_>>().len()
    }

    /// Of these, those that have not renewed for so long, as far as was looked at. Whoever is not among them any more is
    /// forgotten.
    pub(super) fn silent(&mut self, roll: Vec<Replica>, clock: Duration, long: Duration) -> Vec<Replica> {
        self.seen.retain(|lease, _| roll.iter().any(|replica| replica.lease == *lease));
        roll.into_iter()
            .filter(|replica| clock.saturating_sub(self.silent_since(replica, clock)) >= long)
            .collect()
    }

    /// Since when it was not renewed.
    fn silent_since(&mut self, replica: &Replica, clock: Duration) -> Duration {
        let fresh = || Sight { renewed: replica.renewed, since: clock };
        let sight = self.seen.entry(replica.lease.clone()).or_insert_with(fresh);
        if sight.renewed != replica.renewed {
            *sight = fresh();
        }
        sight.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::keyring::Keyring;

    const START: Duration = Duration::from_secs(1000);

    fn now() -> Timestamp {
        "2026-11-24T08:00:00Z".parse().unwrap()
    }

    fn replica(lease: &str, renewed: Timestamp, keyring: Option<&Keyring>) -> Replica {
        Replica {
            lease: lease.into(),
            holder: lease.into(),
            process: None,
            renewed: Some(renewed),
            lasts: Duration::from_secs(90),
            acknowledged: keyring.map(Acknowledgement::of),
            version: None,
        }
    }

    #[test]
    fn who_renews_and_does_not_know_the_key_is_waited_for() {
        let old = Keyring::random(now()).unwrap();
        let mut new = old.clone();
        let key = new.begin_rotation(now()).unwrap().0;
        let mut call = RollCall::default();
        let mut missing = |after: i64, keyring: &Keyring| {
            let at = now() + jiff::SignedDuration::from_secs(after);
            let clock = START + Duration::from_secs(after.unsigned_abs());
            let found = call.missing(vec![replica("a", at, Some(keyring))], clock, |it| it.opens(key));
            found.len()
        };
        assert_eq!(missing(0, &old), 1);
        assert_eq!(missing(500, &old), 1, "it lives on and does not know the key");
        assert_eq!(missing(510, &new), 0, "it knows the key");
    }

    #[test]
    fn only_who_was_seen_to_be_silent_for_long_counts_as_gone() {
        let long = Duration::from_hours(1);
        let mut call = RollCall::default();
        let mut gone = |after: u64, renewed| {
            let clock = START + Duration::from_secs(after);
            call.silent(vec![replica("a", renewed, None)], clock, long).len()
        };
        let year_ago = now() - jiff::SignedDuration::from_hours(365 * 24);
        assert_eq!(gone(0, year_ago), 0, "its clock may be wrong");
        assert_eq!(gone(3599, year_ago), 0);
        assert_eq!(gone(3600, year_ago), 1);
        assert_eq!(gone(3601, now()), 0, "it lives");
    }

    #[test]
    fn a_process_with_two_leases_counts_once_and_one_that_is_gone_no_longer_than_its_lease() {
        let mut call = RollCall::default();
        let mut count = |after: u64, renewals: [u64; 4]| {
            let holders = [("pod-1", "1"), ("pod-1", "1"), ("pod-2", "1"), ("pod-2", "2")];
            let roll: Vec<Replica> = holders
                .into_iter()
                .zip(renewals)
                .enumerate()
                .map(|(at, ((holder, process), renewed))| Replica {
                    holder: holder.into(),
                    process: Some(process.into()),
                    ..replica(&at.to_string(), now() + Duration::from_secs(renewed), None)
                })
                .collect();
            call.processes(&roll, START + Duration::from_secs(after))
        };
        assert_eq!(count(0, [0; 4]), 3);
        assert_eq!(count(91, [91, 91, 91, 0]), 2);
        assert_eq!(count(182, [91, 182, 91, 0]), 1);
    }

    #[test]
    fn who_does_not_renew_is_waited_for_no_longer_than_its_lease_lasts() {
        let mut call = RollCall::default();
        let skewed = now() - jiff::SignedDuration::from_mins(5);
        let mut missing = |after: u64, renewed| {
            let clock = START + Duration::from_secs(after);
            call.missing(vec![replica("a", renewed, None)], clock, |_| true).len()
        };
        assert_eq!(missing(0, skewed), 1, "its clock may be slow");
        assert_eq!(missing(90, skewed), 1);
        assert_eq!(missing(91, skewed), 0, "it did not renew");
        assert_eq!(missing(92, now()), 1, "it was frozen, and goes on");
    }
}
