//! Days in the life of an object, passed in microseconds: what it costs, and when its status changes.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::report;
use crate::controller::decide::{Action, Decision, decide};
use crate::controller::observed::testing::{fresh, issued, not_issued, now, refused, rules, settled};
use crate::controller::observed::{Learnt, Listed, Observed, Proof, Source};
use crate::destination::{Failure, FailureKind, Operation};
use crate::microsoft::Diagnosis;
use crate::resources::conditions::Reason;

/// What the world answers.
struct World {
    proof: fn() -> Proof,
    failure: Option<FailureKind>,
}

/// What happened in a simulated time.
#[derive(Debug, Default)]
struct Diary {
    calls: Vec<Timestamp>,
    writes: Vec<Timestamp>,
    passes: usize,
}

impl Diary {
    /// The most calls in any hour that begins after `after`.
    fn most_calls_an_hour(&self, after: Timestamp) -> usize {
        let late: Vec<&Timestamp> = self.calls.iter().filter(|at| **at >= after).collect();
        late.iter()
            .map(|from| {
                late.iter().filter(|at| *at >= from && ***at < **from + Duration::from_hours(1)).count()
            })
            .max()
            .unwrap_or(0)
    }
}

/// Lets `observed` live for that long.
fn live(mut observed: Observed, world: &World, time: Duration) -> Diary {
    let end = now() + time;
    let mut at = now();
    let mut diary = Diary::default();
    while at < end {
        diary.passes += 1;
        assert!(diary.passes < 100_000, "a hot loop at {at}");
        observed.learnt = Learnt::default();
        let rest = loop {
            match decide(&observed, &rules(), at) {
                Decision::Rest(rest) => break rest,
                Decision::Act(Action::Prove) => {
                    diary.calls.push(at);
                    observed.learnt.proof = Some(Proof { at, ..(world.proof)() });
                }
                Decision::Act(Action::List(freshness)) => {
                    observed.learnt.listed = Some(Listed { entries: vec![], freshness });
                }
                Decision::Act(Action::Create | Action::Update) => {
                    diary.calls.push(at);
                    let kind = world.failure.clone().expect("only failing creates are simulated");
                    observed.learnt.failure =
                        Some(Failure { operation: Operation::Create, kind, retry_after: None });
                }
                Decision::Act(action) => panic!("{action:?}"),
            }
        };
        let report = report(&observed, &rest, &rules(), at);
        if report.status != observed.written {
            diary.writes.push(at);
        }
        observed.status = report.status.clone();
        observed.written = report.status;
        if let (Source::Usable(source), true) = (&mut observed.source, observed.status.candidate.is_some()) {
            source.is_candidate = true;
        }
        at += report.again_in;
    }
    diary
}

fn plain() -> Value {
    json!({})
}

#[test]
fn an_object_that_always_fails_costs_at_most_ten_calls_an_hour_after_twenty_minutes() {
    let worlds = [
        World { proof: || refused(Reason::InvalidClientSecret), failure: None },
        World { proof: || not_issued(Diagnosis::Unavailable), failure: None },
        World { proof: || not_issued(Diagnosis::Throttled), failure: None },
        World { proof: issued, failure: Some(FailureKind::Unavailable) },
        World { proof: issued, failure: Some(FailureKind::Throttled) },
        World { proof: issued, failure: Some(FailureKind::SecretRefused) },
        World { proof: issued, failure: Some(FailureKind::Refused { status: 422, word: None }) },
    ];
    for (number, world) in worlds.iter().enumerate() {
        let diary = live(fresh(&plain()), world, Duration::from_hours(48));
        let most = diary.most_calls_an_hour(now() + Duration::from_mins(20));
        assert!(most <= 10, "world {number}: {most} calls an hour");
        assert!(diary.calls.len() >= 2, "world {number}: it is tried again at all: {diary:?}");
    }
}

#[test]
fn propagation_is_tried_less_than_ten_times_in_five_minutes() {
    let world = World { proof: || refused(Reason::InvalidClientSecret), failure: None };
    let calls = live(fresh(&plain()), &world, Duration::from_mins(20)).calls;
    for from in &calls {
        let within = calls.iter().filter(|at| *at >= from && **at < *from + Duration::from_mins(5)).count();
        assert!(within < 10, "{within} from {from}");
    }
    assert!(calls.len() > 10, "and yet often enough: {}", calls.len());
}

#[test]
fn a_settled_object_is_written_once_an_interval_and_not_in_between() {
    let world = World { proof: issued, failure: None };
    let diary =
        live(settled(&json!({"verification": {"interval": "24h"}})), &world, Duration::from_hours(24 * 10));
    assert!(diary.passes > 200, "it is looked at every hour");
    assert_eq!(diary.calls.len(), 10, "one proof an interval");
    assert_eq!(diary.writes.len(), 11, "the first report and one write for each proof: {:?}", diary.writes);
}

#[test]
fn each_notice_of_the_last_thirty_days_is_one_write() {
    let expiry = crate::controller::observed::testing::registration().expires_at.0;
    let mut observed = settled(&json!({"verification": {"interval": "720h"}, "expiryWarning": "1h"}));
    let time = Duration::try_from(expiry.duration_since(now())).unwrap() + Duration::from_hours(24);
    observed.status.verified_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let world = World { proof: issued, failure: None };
    let whole = live(observed, &world, time);
    let last_month: Vec<&Timestamp> =
        whole.writes.iter().filter(|at| **at > expiry - Duration::from_hours(24 * 31)).collect();
    let proofs = whole.calls.iter().filter(|at| **at > expiry - Duration::from_hours(24 * 31)).count();
    // 30, 14, 7 and 1 days, the warning an hour before, and the expiry itself (with its proof).
    assert!(last_month.len() <= 6 + proofs, "{last_month:?}");
    for days in [30_u64, 14, 7, 1] {
        let due = expiry - Duration::from_hours(24 * days);
        assert!(
            last_month.iter().any(|at| **at >= due && **at < due + Duration::from_mins(1)),
            "{days} days: {last_month:?}"
        );
    }
}
