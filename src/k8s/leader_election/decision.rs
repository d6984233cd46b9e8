//! Rules of the election: when a replica may write the lease, and what it writes. The protocol is client-go's
//! (`k8s.io/client-go/tools/leaderelection`), so that its tools understand the lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// The lease as it was last observed.
#[derive(Clone, Debug)]
pub(super) struct ObservedLease {
    pub(super) lease: Lease,
    /// When, by this process's clock, its spec was first observed.
    pub(super) since: Duration,
}

/// The holder that prevents this replica from writing the lease: empty if this replica held it and it is now free,
/// `None` if this replica may write.
///
/// Another replica's lease counts from when its content was first observed, because its times are from another clock.
/// `own_lease` replaces a missing duration.
pub(super) fn other_holder<'a>(
    observed: Option<&'a ObservedLease>,
    identity: &str,
    leads: bool,
    own_lease: Duration,
    now: Duration,
) -> Option<&'a str> {
    // A replica that does not lead may be the holder: an earlier write took effect and its response was lost.
    let observed = observed.filter(|observed| observed.holder() != identity)?;
    (leads || observed.is_held(own_lease, now)).then(|| observed.holder())
}

/// The spec that acquires or renews the lease.
pub(super) fn held(before: Option<&LeaseSpec>, identity: &str, lease: Duration, now: Timestamp) -> LeaseSpec {
    let before = before.cloned().unwrap_or_default();
    let is_holder = before.holder_identity.as_deref() == Some(identity);
    let transitions = match before.lease_transitions {
        Some(count) if is_holder => count,
        Some(count) => count.saturating_add(1),
        None => 0,
    };
    let acquired = before.acquire_time.clone().filter(|_| is_holder);
    LeaseSpec {
        acquire_time: Some(acquired.unwrap_or(MicroTime(now))),
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(seconds(lease)),
        lease_transitions: Some(transitions),
        renew_time: Some(MicroTime(now)),
        ..before
    }
}

/// The spec that releases the lease: the next replica that reads it takes it, as after client-go's `ReleaseOnCancel`.
pub(super) fn released(before: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        acquire_time: Some(MicroTime(now)),
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(now)),
        ..before.clone()
    }
}

/// Whole seconds, rounded up: others must not consider a lease expired that this replica considers valid.
fn seconds(lease: Duration) -> i32 {
    let whole = lease.as_secs().saturating_add(u64::from(lease.subsec_nanos() > 0));
    i32::try_from(whole).unwrap_or(i32::MAX).max(1)
}

// === impl ObservedLease ===

impl ObservedLease {
    /// Keeps the earlier time if the spec is unchanged. Other changes say nothing about the holder.
    pub(super) fn of(lease: Lease, before: Option<Self>, now: Duration) -> Self {
        let since =
            before.filter(|before| before.lease.spec == lease.spec).map_or(now, |before| before.since);
        Self { lease, since }
    }

    /// The holder; empty if there is none.
    pub(super) fn holder(&self) -> &str {
        self.lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
    }

    /// Whether the lease has not expired: it is valid for its duration, or for `default` if it has none.
    pub(super) fn is_held(&self, default: Duration, now: Duration) -> bool {
        !self.holder().is_empty() && now < self.since.saturating_add(self.duration(default))
    }

    /// The duration of the lease, or `default` if it has none.
    pub(super) fn duration(&self, default: Duration) -> Duration {
        let seconds = self.lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        seconds.and_then(|it| u64::try_from(it).ok()).map_or(default, Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LEASE: Duration = Duration::from_secs(90);
    const SEEN: Duration = Duration::from_hours(1);

    fn lease(spec: &serde_json::Value) -> Lease {
        serde_json::from_value(json!({"metadata": {"name": "x", "resourceVersion": "7"}, "spec": spec}))
            .unwrap()
    }

    fn observed(spec: &serde_json::Value) -> ObservedLease {
        ObservedLease::of(lease(spec), None, SEEN)
    }

    fn other(leads: bool, spec: &serde_json::Value, after: u64) -> Option<String> {
        let now = SEEN + Duration::from_secs(after);
        other_holder(Some(&observed(spec)), "us", leads, LEASE, now).map(str::to_owned)
    }

    #[test]
    fn a_standby_takes_only_a_free_or_expired_lease() {
        let them = || Some("them".to_owned());
        let theirs = json!({"holderIdentity": "them", "leaseDurationSeconds": 30});
        let endless = json!({"holderIdentity": "them"});
        // An old renewTime says nothing, because the other clock may be slow.
        let old = json!({"holderIdentity": "them", "leaseDurationSeconds": 30, "renewTime": "2001-01-01T00:00:00.000000Z"});
        for (spec, after, expected) in [
            (&theirs, 0, them()),
            (&theirs, 29, them()),
            (&theirs, 30, None),
            (&old, 29, them()),
            (&endless, 89, them()),
            (&endless, 90, None),
            (&json!({"holderIdentity": "", "leaseDurationSeconds": 30}), 0, None),
            (&json!({"leaseDurationSeconds": 30}), 0, None),
            (&json!({"holderIdentity": "us", "leaseDurationSeconds": 30}), 0, None),
        ] {
            assert_eq!(other(false, spec, after), expected, "{spec} after {after} s");
        }
        assert_eq!(other_holder(None, "us", false, LEASE, SEEN), None);
    }

    #[test]
    fn a_leader_keeps_its_lease_and_never_takes_that_of_another() {
        for (spec, expected) in [
            (json!({"holderIdentity": "us", "leaseDurationSeconds": 90}), None),
            (json!({"holderIdentity": "them", "leaseDurationSeconds": 1}), Some("them")),
            (json!({"holderIdentity": "", "leaseDurationSeconds": 1}), Some("")),
        ] {
            assert_eq!(other(true, &spec, 1000).as_deref(), expected, "{spec}");
        }
        assert_eq!(other_holder(None, "us", true, LEASE, SEEN), None, "it was deleted");
    }

    #[test]
    fn a_lease_counts_from_when_its_content_was_first_observed() {
        let first = observed(&json!({"holderIdentity": "them", "renewTime": "2026-01-01T00:00:00.000000Z"}));
        let later = SEEN + Duration::from_secs(50);
        let mut labelled = first.lease.clone();
        labelled.metadata.resource_version = Some("8".into());
        assert_eq!(ObservedLease::of(labelled, Some(first.clone()), later).since, SEEN);
        let renewed = lease(&json!({"holderIdentity": "them", "renewTime": "2026-01-01T00:00:01.000000Z"}));
        assert_eq!(ObservedLease::of(renewed, Some(first), later).since, later);
    }

    #[test]
    fn leases_are_written_as_by_client_go() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let new = held(None, "us", Duration::from_millis(4500), now);
        assert_eq!(
            serde_json::to_value(&new).unwrap(),
            json!({"holderIdentity": "us", "leaseDurationSeconds": 5, "leaseTransitions": 0,
                "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.000000Z"})
        );
        let later: Timestamp = "2026-01-01T00:00:05Z".parse().unwrap();
        let renewed = held(Some(&new), "us", LEASE, later);
        assert_eq!((renewed.lease_transitions, &renewed.acquire_time), (Some(0), &new.acquire_time));
        assert_eq!(renewed.renew_time, Some(MicroTime(later)));
        let taken = held(Some(&renewed), "them", LEASE, later);
        assert_eq!((taken.lease_transitions, taken.acquire_time.clone()), (Some(1), Some(MicroTime(later))));
        let free = released(&taken, later);
        assert_eq!((free.holder_identity.as_deref(), free.lease_duration_seconds), (Some(""), Some(1)));
        assert_eq!(free.lease_transitions, Some(1));
    }

    #[test]
    fn seconds_are_rounded_up_and_never_zero() {
        for (lease, expected) in [(90_000, 90), (4500, 5), (450, 1), (0, 1)] {
            assert_eq!(seconds(Duration::from_millis(lease)), expected);
        }
    }
}
