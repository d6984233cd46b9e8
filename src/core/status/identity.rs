//! The status of an `EntraIdentity`.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::api::conditions::{ConditionStatus, ConditionType, Desired, Reason, changed, merge, whole_second};
use crate::api::timestamp::Time;
use crate::api::{EntraIdentityStatus, ObservedSecret, TenantId, TenantProblem, UnknownFields};
use crate::core::event::EventBody;
use crate::core::outcome::Outcome;
use crate::core::tenant_checks::{MAX_LISTED, Problem, TenantChecks, TenantResult};

/// Tenants that a condition names.
const MAX_NAMED: usize = 3;

/// The outcome of a reconcile.
#[derive(Clone, Debug)]
pub struct IdentityReport {
    /// The status to write if it differs.
    pub status: EntraIdentityStatus,
    /// The events to emit.
    pub events: Vec<EventBody>,
    pub outcome: Outcome,
}

/// The next status, and an event for each condition that changed.
pub fn report(
    before: &EntraIdentityStatus,
    generation: i64,
    home: &TenantId,
    checks: &TenantChecks,
    secret: Option<ObservedSecret>,
    now: Timestamp,
) -> IdentityReport {
    let mut status = before.clone();
    status.observed_generation = generation;
    status.observed_secret = secret;
    status.last_checked_time = checks.checked_at().map(|at| Time(whole_second(at)));
    status.tenant_count = i32::try_from(checks.count()).ok();
    status.tenants = tenants(&before.tenants, checks);
    let (mut desired, outcome) = readiness(home, checks.home_result());
    desired.extend(others_readiness(checks));
    status.conditions = merge(&before.conditions, desired, generation, now);
    let events = [ConditionType::Ready, ConditionType::TenantsReady].into_iter().filter_map(|type_| {
        let new = changed(&before.conditions, &status.conditions, type_)?;
        let is_warning = new.status == ConditionStatus::False;
        let is_known = new.status != ConditionStatus::Unknown;
        if is_known { EventBody::of(new, is_warning, "SignIn", String::new()) } else { None }
    });
    let events = events.collect();
    IdentityReport { status, events, outcome }
}

/// The tenants with a problem, at most [`MAX_LISTED`].
fn tenants(before: &[TenantProblem], checks: &TenantChecks) -> Vec<TenantProblem> {
    let with_problem = checks.others().filter_map(|(tenant, result)| Some((tenant, result.problem()?)));
    let listed = with_problem.take(MAX_LISTED).map(|(tenant, problem)| {
        let known = before.iter().find(|it| it.tenant_id == tenant.as_str());
        TenantProblem {
            tenant_id: tenant.to_string(),
            reason: problem.reason.clone(),
            message: problem.message.clone(),
            consent_url: problem.consent_url.clone(),
            unknown: known.map_or_else(UnknownFields::default, |known| known.unknown.clone()),
        }
    });
    listed.collect()
}

/// Ready, with Reconciling or Stalled beside it, and how the reconcile ended.
fn readiness(home: &TenantId, result: &TenantResult) -> (Vec<Desired>, Outcome) {
    let unmet = |problem: &Problem, beside| {
        let reason = reason_of(problem);
        let message = problem.message.as_str();
        let desired = vec![
            Desired::unmet(ConditionType::Ready, reason, message),
            Desired::met(beside, reason, message),
        ];
        (desired, Outcome::NotMet)
    };
    match result {
        TenantResult::Ready => {
            let message = format!("Entra issues tokens for Microsoft Graph in the home tenant {home}");
            (vec![Desired::met(ConditionType::Ready, Reason::Authenticated, message)], Outcome::Success)
        }
        TenantResult::Unknown => {
            let text = "the operator has not signed in yet";
            let desired = vec![
                Desired::unknown(ConditionType::Ready, Reason::SignInPending, text),
                Desired::met(ConditionType::Reconciling, Reason::SignInPending, text),
            ];
            (desired, Outcome::Waiting)
        }
        TenantResult::Missing(problem) => unmet(problem, ConditionType::Stalled),
        TenantResult::Unavailable(problem) => unmet(problem, ConditionType::Reconciling),
    }
}

/// `TenantsReady`, if the grants name other tenants than the home tenant.
fn others_readiness(checks: &TenantChecks) -> Option<Desired> {
    let total = checks.others().count();
    if total == 0 {
        return None;
    }
    let failing: Vec<(&TenantId, &Problem)> =
        checks.others().filter_map(|(tenant, result)| Some((tenant, result.problem()?))).collect();
    let unknown = checks.others().filter(|(_, result)| **result == TenantResult::Unknown).count();
    let type_ = ConditionType::TenantsReady;
    if !failing.is_empty() {
        let mut text = format!("{} of {total} tenants of the grants cannot be used:", failing.len());
        for (at, (tenant, problem)) in failing.iter().take(MAX_NAMED).enumerate() {
            let _ = write!(text, "{} {tenant} ({})", if at > 0 { "," } else { "" }, problem.reason);
        }
        if failing.len() > MAX_NAMED {
            text.push_str(", …");
        }
        text.push_str("; status.tenants says what is missing");
        return Some(Desired::unmet(type_, Reason::TenantsNotReady, text));
    }
    Some(if unknown > 0 {
        let text =
            format!("the operator has not signed in yet in {unknown} of {total} tenants of the grants");
        Desired::unknown(type_, Reason::SignInPending, text)
    } else {
        let text = format!("Entra issues tokens in all {total} other tenants of the grants");
        Desired::met(type_, Reason::Authenticated, text)
    })
}

/// The reason of a problem, which a status of a newer version may spell in a way that this version does not know.
fn reason_of(problem: &Problem) -> Reason {
    let known = Reason::ALL.iter().copied().find(|reason| reason.as_str() == problem.reason);
    known.unwrap_or(Reason::SignInRejected)
}

#[cfg(test)]
mod tests;
