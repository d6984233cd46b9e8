//! PURE: what a replica does about the lease, and what it writes into it. The protocol is client-go's
//! (`k8s.io/client-go/tools/leaderelection`), so that its tools understand the lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::duty::{self, Duty};

/// The lease as it was last seen.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    /// The object.
    pub(super) lease: Lease,
    /// Since when, by our own clock, nobody has changed what it says.
    pub(super) since: Duration,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// There is no lease: make it ours.
    Create,
    /// Nobody holds it any more: make it ours.
    Acquire,
    /// It is ours: keep it.
    Renew,
    /// It is ours, and a process wants it that does more: let go of it.
    GiveWay {
        /// Who.
        to: String,
    },
    /// A process holds it that does less: ask it to give way.
    Want {
        /// Who.
        holder: String,
    },
    /// Another replica holds it.
    Wait {
        /// Who.
        holder: String,
    },
    /// It was ours, and is not any more.
    Lost {
        /// Who holds it now; nobody where it is empty.
        holder: String,
    },
}

/// A replica as the lease concerns it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    /// Who it is.
    pub(super) identity: &'a str,
    /// What it does while it leads.
    pub(super) duty: Duty,
    /// Whether it leads.
    pub(super) leads: bool,
    /// Stands in for a duration that the lease does not tell.
    pub(super) own_lease: Duration,
    /// In which whoever stands by for everything has looked twice: for that long one that does less leaves a free lease to
    /// others, and after as long again without a word its own counts as free to them.
    pub(super) courtesy: Duration,
}

/// What a replica does at the moment `now`.
///
/// Another's lease counts from when we first saw its present content: the times in it are by a clock that
/// is not ours.
pub(super) fn next_move(claim: &Claim<'_>, seen: Option<&Sighting>, now: Duration) -> Move {
    let Some(seen) = seen else { return Move::Create };
    let holder = seen.holder();
    let does_all = claim.duty == Duty::Everything;
    if holder == claim.identity {
        return match duty::wanted_by(&seen.lease) {
            Some(by) if claim.leads && !does_all => Move::GiveWay { to: by.to_owned() },
            // Not leading, it is ours where an earlier write took effect and its answer was lost.
            _ => Move::Renew,
        };
    }
    if claim.leads {
        return Move::Lost { holder: holder.to_owned() };
    }
    let is_less = Duty::of_holder(&seen.lease) == Duty::Records;
    let valid = match seen.duration().unwrap_or(claim.own_lease) {
        _ if holder.is_empty() => Duration::ZERO,
        // What it does takes no harm from being done twice.
        valid if does_all && is_less => valid.min(claim.courtesy.saturating_mul(2)),
        valid => valid,
    };
    let courtesy = if does_all { Duration::ZERO } else { claim.courtesy };
    if now >= seen.since.saturating_add(valid).saturating_add(courtesy) {
        return Move::Acquire;
    }
    let holder = holder.to_owned();
    // Its request stands until somebody takes the lease.
    let is_asked = duty::wanted_by(&seen.lease).is_some();
    if does_all && !is_asked && is_less { Move::Want { holder } } else { Move::Wait { holder } }
}

/// The lease's content that makes or keeps it ours.
pub(super) fn held(before: Option<&LeaseSpec>, identity: &str, lease: Duration, now: Timestamp) -> LeaseSpec {
    let before = before.cloned().unwrap_or_default();
    let is_ours = before.holder_identity.as_deref() == Some(identity);
    let transitions = match before.lease_transitions {
        Some(count) if is_ours => count,
        Some(count) => count.saturating_add(1),
        None => 0,
    };
    let acquired = before.acquire_time.clone().filter(|_| is_ours);
    LeaseSpec {
        acquire_time: Some(acquired.unwrap_or(MicroTime(now))),
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(seconds(lease)),
        lease_transitions: Some(transitions),
        renew_time: Some(MicroTime(now)),
        ..before
    }
}

/// The lease's content that lets go of it: the next to look takes it, as after client-go's `ReleaseOnCancel`.
pub(super) fn released(before: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        acquire_time: Some(MicroTime(now)),
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(now)),
        ..before.clone()
    }
}

/// Whole seconds, rounded up: others must not take for over what we take for valid.
fn seconds(lease: Duration) -> i32 {
    let whole = lease.as_secs().saturating_add(u64::from(lease.subsec_nanos() > 0));
    i32::try_from(whole).unwrap_or(i32::MAX).max(1)
}

// === impl Sighting ===

impl Sighting {
    /// What was seen `before` still holds where the content is the same; what else changed says nothing of
    /// the holder.
    pub(super) fn of(lease: Lease, before: Option<Self>, now: Duration) -> Self {
        let since =
            before.filter(|before| before.lease.spec == lease.spec).map_or(now, |before| before.since);
        Self { lease, since }
    }

    /// Who holds it; empty for nobody.
    pub(super) fn holder(&self) -> &str {
        self.lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
    }

    /// How long it counts, where it says so.
    pub(super) fn duration(&self) -> Option<Duration> {
        let seconds = self.lease.spec.as_ref()?.lease_duration_seconds?;
        u64::try_from(seconds).ok().map(Duration::from_secs)
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

    fn sighting(spec: &serde_json::Value) -> Sighting {
        Sighting::of(lease(spec), None, SEEN)
    }

    const COURTESY: Duration = Duration::from_secs(10);

    fn claim(duty: Duty, leads: bool) -> Claim<'static> {
        Claim { identity: "us", duty, leads, own_lease: LEASE, courtesy: COURTESY }
    }

    fn moves(leads: bool, spec: &serde_json::Value, after: u64) -> Move {
        let now = SEEN + Duration::from_secs(after);
        next_move(&claim(Duty::Everything, leads), Some(&sighting(spec)), now)
    }

    fn annotated(spec: &serde_json::Value, annotations: &serde_json::Value) -> Sighting {
        let lease = json!({"metadata": {"name": "x", "annotations": annotations}, "spec": spec});
        Sighting::of(serde_json::from_value(lease).unwrap(), None, SEEN)
    }

    #[test]
    fn the_one_that_does_everything_gets_the_lease_from_one_that_does_less() {
        let theirs = json!({"holderIdentity": "them", "leaseDurationSeconds": 30});
        let (less, asked) = (
            json!({"graph-credentials.io/records-only": "them"}),
            json!({"graph-credentials.io/records-only": "them", "graph-credentials.io/wanted-by": "one"}),
        );
        let wait = Move::Wait { holder: "them".into() };
        for (duty, annotations, expected) in [
            (Duty::Everything, &less, Move::Want { holder: "them".into() }),
            (Duty::Everything, &asked, wait.clone()),
            (Duty::Everything, &json!({}), wait.clone()),
            (Duty::Everything, &json!({"graph-credentials.io/records-only": "an earlier one"}), wait.clone()),
            (Duty::Records, &less, wait.clone()),
            (Duty::Records, &json!({}), wait),
        ] {
            let seen = annotated(&theirs, annotations);
            assert_eq!(next_move(&claim(duty, false), Some(&seen), SEEN), expected, "{duty:?} {annotations}");
        }
        for (after, expected) in [(19, Move::Want { holder: "them".into() }), (20, Move::Acquire)] {
            let now = SEEN + Duration::from_secs(after);
            let turn = next_move(&claim(Duty::Everything, false), Some(&annotated(&theirs, &less)), now);
            assert_eq!(turn, expected, "silent for {after} s");
        }
        let ours = json!({"holderIdentity": "us", "leaseDurationSeconds": 30});
        for (duty, leads, expected) in [
            (Duty::Records, true, Move::GiveWay { to: "one".into() }),
            (Duty::Records, false, Move::Renew),
            (Duty::Everything, true, Move::Renew),
        ] {
            assert_eq!(next_move(&claim(duty, leads), Some(&annotated(&ours, &asked)), SEEN), expected);
        }
    }

    #[test]
    fn the_one_that_does_less_leaves_a_free_lease_to_others_for_a_moment() {
        for (spec, free_after) in [
            (json!({"holderIdentity": "", "leaseDurationSeconds": 1}), 0),
            (json!({"holderIdentity": "them", "leaseDurationSeconds": 30}), 30),
        ] {
            for (after, takes) in [(free_after, false), (free_after + 9, false), (free_after + 10, true)] {
                let now = SEEN + Duration::from_secs(after);
                let turn = next_move(&claim(Duty::Records, false), Some(&sighting(&spec)), now);
                assert_eq!(turn == Move::Acquire, takes, "{spec} after {after} s: {turn:?}");
            }
        }
        assert_eq!(
            next_move(&claim(Duty::Records, false), None, SEEN),
            Move::Create,
            "nobody has looked yet"
        );
    }

    #[test]
    fn a_replica_that_does_not_lead_takes_only_what_nobody_holds() {
        let wait = || Move::Wait { holder: "them".into() };
        let theirs = json!({"holderIdentity": "them", "leaseDurationSeconds": 30});
        let endless = json!({"holderIdentity": "them"});
        // An old renewTime says nothing: its clock may be slow.
        let old = json!({"holderIdentity": "them", "leaseDurationSeconds": 30, "renewTime": "2001-01-01T00:00:00.000000Z"});
        for (spec, after, expected) in [
            (&theirs, 0, wait()),
            (&theirs, 29, wait()),
            (&theirs, 30, Move::Acquire),
            (&old, 29, wait()),
            (&endless, 89, wait()),
            (&endless, 90, Move::Acquire),
            (&json!({"holderIdentity": "", "leaseDurationSeconds": 30}), 0, Move::Acquire),
            (&json!({"leaseDurationSeconds": 30}), 0, Move::Acquire),
            (&json!({"holderIdentity": "us", "leaseDurationSeconds": 30}), 0, Move::Renew),
        ] {
            assert_eq!(moves(false, spec, after), expected, "{spec} after {after} s");
        }
        assert_eq!(next_move(&claim(Duty::Everything, false), None, SEEN), Move::Create);
    }

    #[test]
    fn a_leader_keeps_its_own_and_never_takes_anothers() {
        let lost = |holder: &str| Move::Lost { holder: holder.into() };
        for (spec, expected) in [
            (json!({"holderIdentity": "us", "leaseDurationSeconds": 90}), Move::Renew),
            (json!({"holderIdentity": "them", "leaseDurationSeconds": 1}), lost("them")),
            (json!({"holderIdentity": "", "leaseDurationSeconds": 1}), lost("")),
        ] {
            assert_eq!(moves(true, &spec, 1000), expected, "{spec}");
        }
        assert_eq!(
            next_move(&claim(Duty::Everything, true), None, SEEN),
            Move::Create,
            "somebody removed it"
        );
    }

    #[test]
    fn a_lease_counts_from_when_its_content_was_first_seen() {
        let first = sighting(&json!({"holderIdentity": "them", "renewTime": "2026-01-01T00:00:00.000000Z"}));
        let later = SEEN + Duration::from_secs(50);
        let mut labelled = first.lease.clone();
        labelled.metadata.resource_version = Some("8".into());
        assert_eq!(Sighting::of(labelled, Some(first.clone()), later).since, SEEN);
        let renewed = lease(&json!({"holderIdentity": "them", "renewTime": "2026-01-01T00:00:01.000000Z"}));
        assert_eq!(Sighting::of(renewed, Some(first), later).since, later);
    }

    #[test]
    fn what_is_written_is_what_client_go_would_write() {
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
    fn seconds_are_rounded_up_and_never_none() {
        for (lease, expected) in [(90_000, 90), (4500, 5), (450, 1), (0, 1)] {
            assert_eq!(seconds(Duration::from_millis(lease)), expected);
        }
    }
}
