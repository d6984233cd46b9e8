//! Tests of the plan.

mod deleting;
mod moving;
mod reading;
mod registering;
mod removing;
mod rotating;
mod settled;
mod verifying;

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::conditions::{ConditionType, Reason};
use crate::api::timestamp::Time;
use crate::api::{AccountName, Ownership, Registration, Rejections, UnknownFields};
use crate::core::diagnosis::Diagnosis;
use crate::core::failure::{FailureKind, Operation, QueueError};
use crate::core::model::fixtures::{
    account, deleted, fresh, issued, not_issued, now, pending, policy, registration, rejected, rotated, seen,
    settled,
};
use crate::core::model::{
    Claim, Existence, Listed, PreviousRegistration, ReadyTarget, StepResults, VerificationResult,
};
use crate::core::plan::*;
use crate::core::remote::Entry;
use crate::core::secret_form::SecretForm;
use crate::core::token_result::TokenResult;

fn plain() -> Value {
    json!({})
}

fn next(observed: &Observed) -> Plan {
    next_step(observed, &policy(), now())
}

fn step_of(observed: &Observed) -> Step {
    match next(observed) {
        Plan::Step(step) => step,
        Plan::Done(conclusion) => panic!("done: {conclusion:?}"),
    }
}

fn conclusion_of(observed: &Observed) -> Conclusion {
    match next(observed) {
        Plan::Done(conclusion) => conclusion,
        Plan::Step(step) => panic!("step: {step:?}"),
    }
}

/// The reason of the conclusion.
fn reason(observed: &Observed) -> Reason {
    match conclusion_of(observed).state {
        ReconcileState::Blocked(problem) | ReconcileState::NotVerified(problem) => problem.reason,
        readiness => panic!("{readiness:?}"),
    }
}

fn verified(mut observed: Observed) -> Observed {
    observed.results.verification = Some(issued());
    observed
}

fn entry(id: i64, name: &str) -> Entry {
    let spec = fresh(&json!({})).object.spec;
    let (tenant, client) = (spec.tenant_id.to_string(), spec.client_id.to_string());
    Entry { id, tenant, client, name: name.into(), expires_at: None }
}

fn listed_as(mut observed: Observed, entries: Vec<Entry>, max_age: MaxAge) -> Observed {
    observed.results.listed = Some(Listed { entries, max_age });
    observed
}

fn listed(observed: Observed, ids: &[i64]) -> Observed {
    listed_as(observed, ids.iter().map(|id| entry(*id, "")).collect(), MaxAge::Recent)
}

fn adoption(adoption: &Value) -> Value {
    json!({"destination": {"woodpecker": {"accountRef": {"name": "agency"}, "adoption": adoption}}})
}

fn failing(mut observed: Observed, operation: Operation, kind: FailureKind) -> Observed {
    observed.results.failure = Some(Failure { operation, kind, retry_after: None, id: None });
    observed
}

fn other_account() -> AccountName {
    AccountName { namespace: "mail".into(), name: "other".into() }
}

fn in_use() -> Failure {
    let kind = FailureKind::Rejected { status: 409, code: None };
    Failure { operation: Operation::Delete, kind, retry_after: None, id: Some(7) }
}

fn with_previous_registration(spec: &Value) -> Observed {
    let mut observed = settled(spec);
    observed.object.metadata.finalizers = Some(vec![crate::api::FINALIZER.into()]);
    let mut earlier = registration();
    (earlier.credential_id, earlier.account) = (7, Some(other_account()));
    let place = earlier.location().unwrap();
    observed.status.previous_registrations = vec![earlier.clone()];
    let target = Target::Ready(ReadyTarget { location: place, may_create: true, may_adopt: true });
    observed.previous_registration =
        Some(PreviousRegistration { registration: earlier, target, is_reachable: true });
    observed
}
