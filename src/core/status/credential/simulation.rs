//! A simulation of days of reconciles: the number of requests and of status writes.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::conditions::Reason;
use crate::core::diagnosis::Diagnosis;
use crate::core::failure::{Failure, FailureKind, Operation};
use crate::core::model::fixtures::{fresh, issued, not_issued, now, policy, rejected, settled};
use crate::core::model::{Listed, Observed, Source, StepResults, VerificationResult};
use crate::core::plan::{Plan, Step, next_step};
use crate::core::status::credential::report;

/// The responses of Microsoft and Woodpecker.
struct World {
    verification: fn() -> VerificationResult,
    failure: Option<FailureKind>,
}

/// What happened in the simulated time.
#[derive(Debug, Default)]
struct Timeline {
    calls: Vec<Timestamp>,
    writes: Vec<Timestamp>,
    reconciles: usize,
}

impl Timeline {
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

/// Simulates the reconciles of `observed` for that long.
fn simulate(mut observed: Observed, world: &World, time: Duration) -> Timeline {
    let end = now() + time;
    let mut at = now();
    let mut timeline = Timeline::default();
    while at < end {
        timeline.reconciles += 1;
        assert!(timeline.reconciles < 100_000, "a hot loop at {at}");
        observed.results = StepResults::default();
        let conclusion = loop {
            match next_step(&observed, &policy(), at) {
                Plan::Done(conclusion) => break conclusion,
                Plan::Step(Step::Verify) => {
                    timeline.calls.push(at);
                    observed.results.verification = Some(VerificationResult { at, ..(world.verification)() });
                }
                Plan::Step(Step::List(max_age)) => {
                    observed.results.listed = Some(Listed { entries: vec![], max_age });
                }
                Plan::Step(Step::Create | Step::Update) => {
                    timeline.calls.push(at);
                    let kind = world.failure.clone().expect("only failing creates are simulated");
                    observed.results.failure =
                        Some(Failure { operation: Operation::Create, kind, retry_after: None, id: None });
                }
                Plan::Step(step) => panic!("{step:?}"),
            }
        };
        let report = report(&observed, &conclusion, &policy(), at);
        if report.status != observed.written {
            timeline.writes.push(at);
        }
        observed.status = report.status.clone();
        observed.written = report.status;
        if let (Source::Usable(source), true) =
            (&mut observed.source, observed.status.pending_secret.is_some())
        {
            source.is_pending = true;
        }
        at += report.requeue_after;
    }
    timeline
}

fn plain() -> Value {
    json!({})
}

#[test]
fn an_object_that_always_fails_sends_at_most_ten_requests_an_hour_after_twenty_minutes() {
    let worlds = [
        World { verification: || rejected(Reason::InvalidClientSecret), failure: None },
        World { verification: || not_issued(Diagnosis::Unavailable), failure: None },
        World { verification: || not_issued(Diagnosis::Throttled), failure: None },
        World { verification: issued, failure: Some(FailureKind::Unavailable) },
        World { verification: issued, failure: Some(FailureKind::Throttled) },
        World { verification: issued, failure: Some(FailureKind::SecretRejected) },
        World { verification: issued, failure: Some(FailureKind::Rejected { status: 422, code: None }) },
    ];
    for (number, world) in worlds.iter().enumerate() {
        let timeline = simulate(fresh(&plain()), world, Duration::from_hours(48));
        let most = timeline.most_calls_an_hour(now() + Duration::from_mins(20));
        assert!(most <= 10, "world {number}: {most} calls an hour");
        assert!(timeline.calls.len() >= 2, "world {number}: it is retried: {timeline:?}");
    }
}

#[test]
fn a_propagating_secret_is_tried_fewer_than_ten_times_in_five_minutes() {
    let world = World { verification: || rejected(Reason::InvalidClientSecret), failure: None };
    let calls = simulate(fresh(&plain()), &world, Duration::from_mins(20)).calls;
    for from in &calls {
        let within = calls.iter().filter(|at| *at >= from && **at < *from + Duration::from_mins(5)).count();
        assert!(within < 10, "{within} from {from}");
    }
    assert!(calls.len() > 10, "but often enough: {}", calls.len());
}

#[test]
fn a_settled_object_is_written_once_an_interval() {
    let world = World { verification: issued, failure: None };
    let timeline = simulate(
        settled(&json!({"verification": {"interval": "24h"}})),
        &world,
        Duration::from_hours(24 * 10),
    );
    assert!(timeline.reconciles > 200, "it is reconciled every hour");
    assert_eq!(timeline.calls.len(), 10, "one verification an interval");
    assert_eq!(
        timeline.writes.len(),
        11,
        "the first report and one write for each verification: {:?}",
        timeline.writes
    );
}

#[test]
fn each_notice_of_the_last_thirty_days_is_one_write() {
    let expiry = crate::core::model::fixtures::registration().expires_at.0;
    let mut observed = settled(&json!({"verification": {"interval": "720h"}, "expiryWarning": "1h"}));
    let time = Duration::try_from(expiry.duration_since(now())).unwrap() + Duration::from_hours(24);
    observed.status.last_verified_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let world = World { verification: issued, failure: None };
    let whole = simulate(observed, &world, time);
    let last_month: Vec<&Timestamp> =
        whole.writes.iter().filter(|at| **at > expiry - Duration::from_hours(24 * 31)).collect();
    let verifications = whole.calls.iter().filter(|at| **at > expiry - Duration::from_hours(24 * 31)).count();
    // 30, 14, 7 and 1 days, the warning an hour before, and the expiry itself (with its verification).
    assert!(last_month.len() <= 6 + verifications, "{last_month:?}");
    for days in [30_u64, 14, 7, 1] {
        // They count to the beginning of the day of which the expiry is the end.
        let due = expiry - Duration::from_secs(86_399) - Duration::from_hours(24 * days);
        assert!(
            last_month.iter().any(|at| **at >= due && **at < due + Duration::from_mins(1)),
            "{days} days: {last_month:?}"
        );
    }
}
