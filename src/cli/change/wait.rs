//! Waits until the operator has reconciled changed credentials.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use jiff::Timestamp;
use kube::Client;
use tokio::time::Instant;

use crate::api::conditions::{ConditionStatus, ConditionType};
use crate::api::reasons::Kind;
use crate::api::{MicrosoftGraphCredential, NamespacedName};
use crate::cli::describe::find;
use crate::cli::objects::ObjectState;
use crate::cli::output::{self, Format};
use crate::cli::progress::Progress;
use crate::cli::status::StatusReport;

/// Interval between two checks of an object.
const POLL: Duration = Duration::from_millis(500);

/// What to wait for.
pub(super) enum Goal {
    /// The operator has handled the reconcile request with this value.
    Handled(String),
    /// The operator has observed the current spec.
    Observed,
}

/// The credentials after the change.
pub(super) struct Results {
    states: Vec<ObjectState>,
    deleted: Vec<NamespacedName>,
}

/// Waits for each credential in turn: the operator works on the others meanwhile.
pub(super) async fn until(
    client: &Client,
    names: Vec<NamespacedName>,
    goal: &Goal,
    timeout: Duration,
) -> anyhow::Result<Results> {
    let deadline = Instant::now() + timeout;
    let mut progress = Progress::new(names.len(), "credentials", "reconciled");
    let (total, mut results) = (names.len(), Results { states: Vec::new(), deleted: Vec::new() });
    for name in names {
        loop {
            let Some(object) = find::<MicrosoftGraphCredential>(client, &name).await? else {
                results.deleted.push(name.clone());
                break;
            };
            let state = ObjectState::of(Kind::Credential, object);
            if goal.is_reached(&state) {
                results.states.push(state);
                break;
            }
            if Instant::now() >= deadline {
                let reason = state.cause().map_or("", |cause| cause.message.as_str());
                bail!(
                    "the operator did not finish MicrosoftGraphCredential {name} within {timeout:?}, {} of {total} are done: check that an operator runs and serves the namespace, or wait longer with --timeout. {reason}",
                    results.states.len()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        progress.update(results.states.len() + results.deleted.len())?;
    }
    progress.finish();
    Ok(results)
}

// === impl Goal ===

impl Goal {
    fn is_reached(&self, state: &ObjectState) -> bool {
        match self {
            Self::Handled(value) => state.status.last_handled_reconcile_at.as_ref() == Some(value),
            Self::Observed => state.is_current(),
        }
    }
}

// === impl Results ===

impl Results {
    /// 3 if a credential is not Ready, unless that is not expected.
    pub(super) fn exit_code(&self, may_be_unready: bool) -> ExitCode {
        let is_ready = |state: &ObjectState| {
            state.condition(ConditionType::Ready).is_some_and(|it| it.status == ConditionStatus::True)
        };
        if may_be_unready || self.states.iter().all(is_ready) { ExitCode::SUCCESS } else { ExitCode::from(3) }
    }

    pub(super) fn print(self, format: Format) -> anyhow::Result<()> {
        for name in &self.deleted {
            output::note(&format!("MicrosoftGraphCredential {name} was deleted meanwhile"));
        }
        let mut report = StatusReport {
            credentials: self.states,
            accounts: Vec::new(),
            now: Timestamp::now(),
            shows_namespace: true,
        };
        report.sort();
        format.print(&report)
    }
}
