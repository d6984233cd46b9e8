use super::*;
use crate::api::conditions::{Condition, find};
use crate::core::timing::Timing;

fn tenant(digit: char) -> TenantId {
    format!("{}-aaf4-4f7c-9dc2-2c9160d1cb32", digit.to_string().repeat(8)).parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn missing(reason: Reason) -> TenantResult {
    let reason = reason.as_str().to_owned();
    TenantResult::Missing(Problem {
        reason,
        message: "do this".into(),
        consent_url: Some("https://c".into()),
    })
}

/// Checks with these results, the first of them in the home tenant.
fn checks(results: &[(char, TenantResult)]) -> TenantChecks {
    let tenants: Vec<TenantId> = results.iter().map(|(digit, _)| tenant(*digit)).collect();
    let mut checks = TenantChecks::new(&tenants, tenants[0].clone());
    while let Some(next) = checks.next(at(0)) {
        let (_, result) = results.iter().find(|(digit, _)| tenant(*digit) == next).unwrap();
        checks.record(&next, result.clone(), &Timing::STANDARD, "uid", at(0));
        if *result == TenantResult::Unknown {
            break;
        }
    }
    checks.end_round(at(0));
    checks
}

fn reported(before: &EntraIdentityStatus, checks: &TenantChecks, second: i64) -> IdentityReport {
    report(before, 1, &tenant('a'), checks, None, at(second))
}

fn condition(report: &IdentityReport, type_: ConditionType) -> Option<&Condition> {
    find(&report.status.conditions, type_)
}

fn words(report: &IdentityReport, type_: ConditionType) -> Option<(ConditionStatus, &str)> {
    condition(report, type_).map(|it| (it.status, it.reason.as_str()))
}

#[test]
fn an_identity_is_ready_by_its_home_tenant_and_lists_what_is_missing_elsewhere() {
    let found = checks(&[
        ('a', TenantResult::Ready),
        ('b', TenantResult::Ready),
        ('c', missing(Reason::ConsentMissing)),
    ]);
    let report = reported(&EntraIdentityStatus::default(), &found, 1);
    assert_eq!(words(&report, ConditionType::Ready), Some((ConditionStatus::True, "Authenticated")));
    let others = condition(&report, ConditionType::TenantsReady).unwrap();
    assert_eq!((others.status, others.reason.as_str()), (ConditionStatus::False, "TenantsNotReady"));
    assert!(others.message.starts_with("1 of 2 tenants"), "{}", others.message);
    assert!(others.message.contains(&format!("{} (ConsentMissing)", tenant('c'))), "{}", others.message);
    let [problem] = report.status.tenants.as_slice() else { panic!("{:?}", report.status.tenants) };
    assert_eq!(
        (problem.tenant_id.as_str(), problem.reason.as_str()),
        (tenant('c').as_str(), "ConsentMissing")
    );
    assert_eq!(problem.consent_url.as_deref(), Some("https://c"));
    assert_eq!((report.status.tenant_count, report.outcome), (Some(3), Outcome::Success));
    assert_eq!(report.status.last_checked_time, Some(Time(at(0))));
}

#[test]
fn a_problem_in_the_home_tenant_stalls_and_an_outage_does_not() {
    let stalled = reported(
        &EntraIdentityStatus::default(),
        &checks(&[('a', missing(Reason::SubjectNotTrusted)), ('b', TenantResult::Ready)]),
        1,
    );
    assert_eq!(words(&stalled, ConditionType::Ready), Some((ConditionStatus::False, "SubjectNotTrusted")));
    assert_eq!(words(&stalled, ConditionType::Stalled), Some((ConditionStatus::True, "SubjectNotTrusted")));
    assert_eq!(
        words(&stalled, ConditionType::TenantsReady),
        Some((ConditionStatus::Unknown, "SignInPending"))
    );
    let outage = Problem { reason: "MicrosoftUnavailable".into(), message: "m".into(), consent_url: None };
    let report = reported(&stalled.status, &checks(&[('a', TenantResult::Unavailable(outage))]), 2);
    assert_eq!(words(&report, ConditionType::Stalled), None);
    assert_eq!(
        words(&report, ConditionType::Reconciling),
        Some((ConditionStatus::True, "MicrosoftUnavailable"))
    );
    assert_eq!(words(&report, ConditionType::TenantsReady), None, "there is no other tenant");
    assert_eq!(report.outcome, Outcome::NotMet);
}

#[test]
fn nothing_changes_and_no_event_is_emitted_while_nothing_happens() {
    let found = checks(&[('a', TenantResult::Ready), ('b', missing(Reason::ConsentMissing))]);
    let first = reported(&EntraIdentityStatus::default(), &found, 1);
    let reasons: Vec<_> = first.events.iter().map(|event| (event.reason, event.is_warning)).collect();
    assert_eq!(reasons, [("Authenticated", false), ("TenantsNotReady", true)]);
    let second = reported(&first.status, &found, 100);
    assert_eq!(second.status, first.status);
    assert!(second.events.is_empty());
}

#[test]
fn the_list_of_tenants_is_bounded() {
    let tenants: Vec<TenantId> =
        (0..150).map(|n| format!("{n:08}-aaf4-4f7c-9dc2-2c9160d1cb32").parse().unwrap()).collect();
    let mut checks = TenantChecks::new(&tenants, tenants[0].clone());
    checks.record(&tenants[0], TenantResult::Ready, &Timing::STANDARD, "uid", at(0));
    for tenant in &tenants[1..] {
        checks.record(tenant, missing(Reason::ConsentMissing), &Timing::STANDARD, "uid", at(0));
    }
    let report = reported(&EntraIdentityStatus::default(), &checks, 1);
    assert_eq!((report.status.tenants.len(), report.status.tenant_count), (100, Some(150)));
    let text = &condition(&report, ConditionType::TenantsReady).unwrap().message;
    assert!(text.starts_with("149 of 149 tenants") && text.len() < 400, "{text}");
}
