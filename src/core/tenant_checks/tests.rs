use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::api::TenantProblem;
use crate::api::conditions::{Desired, merge};

const TIMING: Timing = Timing::STANDARD;

fn tenant(digit: char) -> TenantId {
    format!("{}-aaf4-4f7c-9dc2-2c9160d1cb32", digit.to_string().repeat(8)).parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn problem() -> Problem {
    Problem { reason: "ConsentMissing".into(), message: "m".into(), consent_url: Some("https://c".into()) }
}

/// The tenants b (home), a and c, of which none is known.
fn fresh() -> TenantChecks {
    TenantChecks::new(&[tenant('b'), tenant('a'), tenant('c')], tenant('b'))
}

fn record(checks: &mut TenantChecks, of: char, result: TenantResult, second: i64) {
    checks.record(&tenant(of), result, &TIMING, "uid", at(second));
}

/// All are ready since second 0.
fn settled() -> TenantChecks {
    let mut checks = fresh();
    while let Some(next) = checks.next(at(0)) {
        checks.record(&next, TenantResult::Ready, &TIMING, "uid", at(0));
    }
    checks.end_round(at(0));
    checks
}

#[test]
fn the_home_tenant_comes_first_and_the_others_wait_for_it() {
    let mut checks = fresh();
    assert_eq!(checks.next(at(0)), Some(tenant('b')));
    record(&mut checks, 'b', TenantResult::Missing(problem()), 0);
    assert_eq!(checks.next(at(0)), None);
    let wait = checks.next_at(at(0)).duration_since(at(0)).as_secs();
    assert!((800..=900).contains(&wait), "{wait}");
    assert_eq!(checks.next(at(900)), Some(tenant('b')));
    record(&mut checks, 'b', TenantResult::Ready, 900);
    assert_eq!(checks.next(at(900)), Some(tenant('a')));
    record(&mut checks, 'a', TenantResult::Ready, 900);
    assert_eq!(checks.next(at(900)), Some(tenant('c')));
    checks.end_round(at(900));
    assert_eq!(checks.checked_at(), None, "one tenant is left");
    record(&mut checks, 'c', TenantResult::Ready, 900);
    checks.end_round(at(901));
    assert_eq!((checks.next(at(901)), checks.checked_at()), (None, Some(at(901))));
}

#[test]
fn a_missing_permission_at_home_does_not_keep_the_others_waiting() {
    let mut checks = fresh();
    let reason = Reason::PermissionMissing.as_str().to_owned();
    record(&mut checks, 'b', TenantResult::Missing(Problem { reason, ..problem() }), 0);
    assert_eq!(checks.next(at(0)), Some(tenant('a')));
}

#[test]
fn each_tenant_is_checked_once_a_day_while_nothing_is_missing() {
    let mut checks = settled();
    let due = checks.next_at(at(0)).duration_since(at(0)).as_hours();
    assert!((17..=24).contains(&due), "{due} hours");
    assert_eq!(checks.next(at(17 * 3600)), None);
    assert_eq!(checks.next(at(24 * 3600)), Some(tenant('b')));
}

#[test]
fn a_tenant_with_a_problem_is_tried_again_without_a_new_round() {
    let mut checks = settled();
    record(&mut checks, 'a', TenantResult::Missing(problem()), 10);
    assert_eq!(checks.next(at(800)), None);
    assert_eq!(checks.next(at(910)), Some(tenant('a')));
    record(&mut checks, 'a', TenantResult::Missing(problem()), 910);
    checks.end_round(at(910));
    assert_eq!(checks.checked_at(), Some(at(0)), "the time of the last round stays, so nothing is written");
}

#[test]
fn attempts_without_an_answer_wait_longer_each_time() {
    let mut checks = settled();
    let mut second = 10;
    let mut waits = Vec::new();
    for _ in 0..4 {
        record(&mut checks, 'a', TenantResult::Unavailable(problem()), second);
        let wait = checks.next_at(at(second)).duration_since(at(second)).as_secs();
        waits.push(wait);
        second += wait + 1;
    }
    assert!(waits.is_sorted() && waits[0] <= 5 && waits[3] >= 36, "{waits:?}");
}

#[test]
fn a_changed_grant_checks_only_new_tenants_and_a_request_checks_all() {
    let mut checks = settled();
    checks.set_tenants(&[tenant('b'), tenant('a'), tenant('d')]);
    assert_eq!((checks.next(at(1)), checks.count()), (Some(tenant('d')), 3));
    record(&mut checks, 'd', TenantResult::Ready, 1);
    assert_eq!(checks.next(at(1)), None);
    checks.restart();
    assert_eq!(checks.next(at(2)), Some(tenant('b')));
    assert_eq!(*checks.home_result(), TenantResult::Ready, "what was found stays until the next answer");
}

#[test]
fn a_restart_of_the_operator_asks_only_where_something_is_missing() {
    let mut status = EntraIdentityStatus { last_checked_time: Some(Time(at(0))), ..Default::default() };
    let ready = Desired::met(ConditionType::Ready, Reason::Authenticated, "m");
    status.conditions = merge(&[], vec![ready], 1, at(0));
    let tenants = [tenant('b'), tenant('a'), tenant('c')];
    let resume = |status: &EntraIdentityStatus, now| {
        let mut checks = TenantChecks::resume(status, &tenants, tenant('b'), &TIMING, now);
        checks.next(now)
    };
    assert_eq!(resume(&status, at(60)), None);
    assert_eq!(resume(&status, at(25 * 3600)), Some(tenant('b')));
    assert_eq!(resume(&status, at(-3600)), Some(tenant('b')), "that time is ahead of the clock");
    status.tenants = vec![TenantProblem {
        tenant_id: tenant('c').to_string(),
        reason: "ConsentMissing".into(),
        message: "m".into(),
        consent_url: None,
        unknown: crate::api::UnknownFields::default(),
    }];
    assert_eq!(resume(&status, at(60)), Some(tenant('c')));
    status.conditions.clear();
    assert_eq!(resume(&status, at(60)), Some(tenant('b')), "it was not ready");
}

#[test]
fn a_time_that_is_too_far_ahead_is_due() {
    let mut checks = settled();
    let back = at(0) - Duration::from_hours(48);
    assert_eq!(checks.next_at(back), back);
    assert_eq!(checks.next(back), Some(tenant('b')));
}
