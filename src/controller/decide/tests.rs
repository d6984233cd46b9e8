//! The policy of a pass, as tables and sentences.

mod deleting;
mod moving;
mod registering;
mod settled;
mod verifying;

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::controller::observed::testing::{
    account, deleted, fresh, issued, not_issued, now, pending, refused, registration, rotated, rules, seen,
    settled,
};
use crate::controller::observed::{Claim, Learnt, Listed, Probe, Proof, ReadyTarget, Retiring};
use crate::destination::{FailureKind, Operation};
use crate::microsoft::{Diagnosis, Verdict};
use crate::resources::conditions::{ConditionType, Reason};
use crate::resources::{AccountName, Ownership, Registration};
use crate::woodpecker::{Entry, LaneClosed};

fn plain() -> Value {
    json!({})
}

fn next(observed: &Observed) -> Decision {
    decide(observed, &rules(), now())
}

fn acts(observed: &Observed) -> Action {
    match next(observed) {
        Decision::Act(action) => action,
        Decision::Rest(rest) => panic!("rests: {rest:?}"),
    }
}

fn rests(observed: &Observed) -> Rest {
    match next(observed) {
        Decision::Rest(rest) => rest,
        Decision::Act(action) => panic!("acts: {action:?}"),
    }
}

/// The reason in the condition that the decision blames.
fn reason(observed: &Observed) -> Reason {
    match rests(observed).standing {
        Standing::Blocked(problem) | Standing::NotProven(problem) => problem.reason,
        standing => panic!("{standing:?}"),
    }
}

fn proved(mut observed: Observed) -> Observed {
    observed.learnt.proof = Some(issued());
    observed
}

fn entry(id: i64, name: &str) -> Entry {
    let spec = fresh(&json!({})).object.spec;
    let (tenant, client) = (spec.tenant_id.to_string(), spec.client_id.to_string());
    Entry { id, tenant, client, name: name.into(), expires_at: None }
}

fn listed_as(mut observed: Observed, entries: Vec<Entry>, freshness: Freshness) -> Observed {
    observed.learnt.listed = Some(Listed { entries, freshness });
    observed
}

fn listed(observed: Observed, ids: &[i64]) -> Observed {
    listed_as(observed, ids.iter().map(|id| entry(*id, "")).collect(), Freshness::Fresh)
}

fn adoption(adoption: &Value) -> Value {
    json!({"destination": {"woodpecker": {"accountRef": {"name": "agency"}, "adoption": adoption}}})
}

fn failing(mut observed: Observed, operation: Operation, kind: FailureKind) -> Observed {
    observed.learnt.failure = Some(Failure { operation, kind, retry_after: None, id: None });
    observed
}

fn other_account() -> AccountName {
    AccountName { namespace: "mail".into(), name: "other".into() }
}

fn in_use() -> Failure {
    let kind = FailureKind::Refused { status: 409, word: None };
    Failure { operation: Operation::Delete, kind, retry_after: None, id: Some(7) }
}

fn with_retiring(spec: &Value) -> Observed {
    let mut observed = settled(spec);
    observed.object.metadata.finalizers = Some(vec![crate::resources::FINALIZER.into()]);
    let mut earlier = registration();
    (earlier.credential_id, earlier.account) = (7, Some(other_account()));
    let place = earlier.place().unwrap();
    observed.status.retiring = vec![earlier.clone()];
    let target = Target::Ready(ReadyTarget { place, may_create: true, may_adopt: true });
    observed.retiring = Some(Retiring { registration: earlier, target, is_reachable: true });
    observed
}
