//! `rotate`: requests new client secrets at Microsoft Entra, or the removal of those that nothing records.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::wait::{Progressed, is_handled, is_stalled};
use super::{Change, ChangeArgs};
use crate::api::conditions::{Condition, ConditionStatus, ConditionType, Reason};
use crate::api::{ROTATE_OVERLAP, ROTATE_REQUESTED_AT, RotationStatus};
use crate::cli::objects::ObjectState;

/// How long a problem from before the request may stay in the status until it counts as the result: the operator writes
/// nothing if it meets the same problem again.
const UNCHANGED: Duration = Duration::from_secs(20);

/// Why nothing is to be removed.
pub(super) const NOTHING_UNKNOWN: &str = "has no client secrets that nothing records (status.rotation.unknownSecrets), so there is nothing to remove";

/// Arguments of `rotate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    graph-credential-operator rotate sales-eu --namespace mail\n  \
    graph-credential-operator rotate sales-eu --namespace mail --without-overlap\n  \
    graph-credential-operator rotate sales-eu --namespace mail --remove-unknown\n\n\
    Sets the annotation graph-credentials.io/rotate-requested-at: the operator then creates a new client secret, \
    verifies it, registers it at Woodpecker, and removes the earlier one after spec.rotation.overlap. The command waits \
    until the new one is registered. You can interrupt it: the operator continues.\n\n\
    With --without-overlap, after an incident, the earlier client secret is removed as soon as the new one is registered \
    and Microsoft Entra has shown it for five minutes. Tokens that Microsoft has issued for it stay valid until they \
    expire.\n\n\
    With --remove-unknown, no client secret is created. The operator removes those that it created for the object and \
    that nothing records (condition UnknownOwnSecrets). Check before that no other cluster uses them.\n\n\
    Exit codes: 0 the new client secrets are registered, or the unknown ones are removed; 3 some are not, or not yet; 1 \
    failure, or the operator did not respond in time; 2 invalid command line.")]
pub(in crate::cli) struct RotateArgs {
    /// Remove the earlier client secret as soon as the new one is registered, whatever spec.rotation.overlap is
    #[arg(long, conflicts_with = "remove_unknown")]
    without_overlap: bool,

    /// Create no client secret, but remove those that were created for the object and that nothing records
    #[arg(long)]
    remove_unknown: bool,

    #[command(flatten)]
    pub(super) change: ChangeArgs,
}

/// A requested rotation, and what the object was like before.
pub(super) struct Request {
    value: String,
    /// The client secret in use before.
    key_id: Option<String>,
    problem: Option<Problem>,
    since: Instant,
}

/// Client secrets that are to be removed, and what the object was like before.
pub(super) struct Removal {
    key_ids: Vec<String>,
    problem: Option<Problem>,
    since: Instant,
}

/// What prevents the rotation, according to the condition `RotationReady`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    reason: String,
    message: String,
}

// === impl RotateArgs ===

impl RotateArgs {
    pub(super) fn change(&self) -> Change {
        if self.remove_unknown {
            Change::RemoveUnknown
        } else {
            Change::Rotate { without_overlap: self.without_overlap }
        }
    }
}

/// Why no new client secret can be requested for an object that is not suspended.
pub(super) fn problem(state: &ObjectState) -> Option<&'static str> {
    if state.is_deleted() {
        return Some("is being deleted, so the operator creates no client secret for it");
    }
    let rotates = state.object.data.pointer("/spec/rotation").is_some_and(|rotation| !rotation.is_null());
    (!rotates).then_some(
        "has no spec.rotation, so the operator creates no client secret for it: create one in Entra and put it into its Secret, or replace spec.secretRef by spec.rotation",
    )
}

/// The annotations that request a new client secret. An overlap of an earlier request does not apply to this one.
pub(super) fn annotations(value: &str, without_overlap: bool) -> Value {
    let overlap = without_overlap.then_some("0s");
    json!({ROTATE_REQUESTED_AT: value, ROTATE_OVERLAP: overlap})
}

/// The IDs of the object's client secrets that nothing records.
pub(super) fn unknown_keys(state: &ObjectState) -> Vec<&str> {
    let unknown = rotation(state).map(|rotation| rotation.unknown_secrets.as_slice()).unwrap_or_default();
    unknown.iter().map(|it| it.key_id.as_str()).collect()
}

/// These client secrets of all objects in words, with their apps.
pub(super) fn named_unknown(targets: &[ObjectState]) -> String {
    let of = |state: &ObjectState| {
        let app = state.text("/spec/clientId").unwrap_or("of an unknown ID");
        let keys = unknown_keys(state).join(", ");
        format!("client secrets {keys} of app {app} (MicrosoftGraphCredential {})", state.name)
    };
    let all: Vec<String> = targets.iter().map(of).collect();
    format!(
        "{} at Microsoft Entra, which nothing records; a program or a cluster that uses them loses access",
        all.join(", ")
    )
}

fn rotation(state: &ObjectState) -> Option<&RotationStatus> {
    state.status.rotation.as_deref()
}

fn condition(state: &ObjectState, status: ConditionStatus) -> Option<&Condition> {
    state.condition(ConditionType::RotationReady).filter(|it| it.status == status)
}

/// The end of a request because of that condition.
fn because(condition: &Condition) -> String {
    format!("{} ({})", condition.message, condition.reason)
}

// === impl Problem ===

impl Problem {
    fn of(state: &ObjectState) -> Option<Self> {
        let found = condition(state, ConditionStatus::False)?;
        Some(Self { reason: found.reason.clone(), message: found.message.clone() })
    }

    /// A problem of now that is not from before the request, or has stayed since.
    fn lasting(state: &ObjectState, before: Option<&Self>, waited: Duration) -> Option<String> {
        let found = Self::of(state)?;
        let is_result = before != Some(&found) || waited >= UNCHANGED;
        is_result.then(|| format!("{} ({})", found.message, found.reason))
    }
}

// === impl Request ===

impl Request {
    pub(super) fn new(value: &str, before: &ObjectState) -> Self {
        let current = rotation(before).and_then(|rotation| rotation.current.as_ref());
        Self {
            value: value.to_owned(),
            key_id: current.map(|it| it.key_id.clone()),
            problem: Problem::of(before),
            since: Instant::now(),
        }
    }

    pub(super) fn progressed(&self, state: &ObjectState) -> Progressed {
        self.progressed_after(state, self.since.elapsed())
    }

    fn progressed_after(&self, state: &ObjectState, waited: Duration) -> Progressed {
        let handled = rotation(state).and_then(|rotation| rotation.last_handled_rotate_at.as_deref());
        let progressed = if is_handled(state, ROTATE_REQUESTED_AT, &self.value, handled) {
            self.after_handling(state)
        } else {
            self.before_handling(state, waited)
        };
        let explain = |why| format!("no new client secret is registered yet: {why}");
        match progressed {
            Progressed::Failed(why) => Progressed::Failed(explain(why)),
            Progressed::Continues(why) => Progressed::Continues(explain(why)),
            other => other,
        }
    }

    /// The operator handles the request by creating the client secret, so it has not, or it could not.
    fn before_handling(&self, state: &ObjectState, waited: Duration) -> Progressed {
        if let Some(why) = Problem::lasting(state, self.problem.as_ref(), waited) {
            return Progressed::Failed(why);
        }
        if let Some(unknown) = condition(state, ConditionStatus::Unknown) {
            return Progressed::Continues(because(unknown));
        }
        match state.condition(ConditionType::Ready) {
            // A new one is created only once the one in use is registered.
            Some(ready) if is_stalled(state) && waited >= UNCHANGED => Progressed::Failed(because(ready)),
            Some(ready) if ready.status != ConditionStatus::True => Progressed::Continues(because(ready)),
            _ => Progressed::No,
        }
    }

    fn after_handling(&self, state: &ObjectState) -> Progressed {
        let settled = rotation(state).filter(|it| it.pending.is_none() && it.attempt.is_none());
        let current = settled.and_then(|rotation| rotation.current.as_ref());
        if state.is_ready && current.is_some_and(|it| self.key_id.as_ref() != Some(&it.key_id)) {
            return Progressed::Done;
        }
        let problem = Problem::of(state);
        match (problem, state.condition(ConditionType::Ready)) {
            // A problem from before stays in the status until the end of the reconcile, and an overdue renewal until the
            // new client secret is registered.
            (Some(new), _)
                if Some(&new) != self.problem.as_ref() && new.reason != Reason::RenewalOverdue.as_str() =>
            {
                Progressed::Failed(format!("{} ({})", new.message, new.reason))
            }
            (_, Some(ready)) if is_stalled(state) => Progressed::Failed(because(ready)),
            (_, Some(ready)) if ready.status != ConditionStatus::True => {
                Progressed::Continues(because(ready))
            }
            _ => {
                let rotation_ready = state.condition(ConditionType::RotationReady).map(because);
                Progressed::Continues(
                    rotation_ready.unwrap_or_else(|| "the operator is working on it".to_owned()),
                )
            }
        }
    }
}

// === impl Removal ===

impl Removal {
    pub(super) fn new(before: &ObjectState) -> Self {
        let key_ids = unknown_keys(before).into_iter().map(ToOwned::to_owned).collect();
        Self { key_ids, problem: Problem::of(before), since: Instant::now() }
    }

    pub(super) fn progressed(&self, state: &ObjectState) -> Progressed {
        self.progressed_after(state, self.since.elapsed())
    }

    fn progressed_after(&self, state: &ObjectState, waited: Duration) -> Progressed {
        let left: Vec<&str> =
            unknown_keys(state).into_iter().filter(|it| self.key_ids.iter().any(|key| key == it)).collect();
        if left.is_empty() {
            return Progressed::Done;
        }
        let explain = |why: &str| format!("client secrets {} are not removed yet: {why}", left.join(", "));
        if let Some(why) = Problem::lasting(state, self.problem.as_ref(), waited) {
            return Progressed::Failed(explain(&why));
        }
        match condition(state, ConditionStatus::Unknown) {
            Some(unknown) => Progressed::Continues(explain(&because(unknown))),
            None => Progressed::No,
        }
    }
}

#[cfg(test)]
mod tests;
