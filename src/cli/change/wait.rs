//! Waits until the operator has processed changed credentials, and shows them.

use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use super::Change;
use super::rotate::{Removal, Request};
use crate::api::conditions::{ConditionStatus, ConditionType, Reason};
use crate::api::reasons::Kind;
use crate::api::{MicrosoftGraphCredential, NamespacedName, RECONCILE_REQUESTED_AT};
use crate::cli::kubernetes;
use crate::cli::objects::{ObjectState, Urgency};
use crate::cli::output::{self, Format};
use crate::cli::progress::Progress;
use crate::cli::status::StatusReport;

/// Shortest pause between two checks.
const POLL: Duration = Duration::from_millis(500);

/// The pause, as a multiple of the time that a check takes.
const PAUSE_PER_CHECK: u32 = 5;

/// Up to so many objects are read one by one; more are listed.
const MAX_GETS: usize = 10;

/// A changed object.
pub(super) struct Pending {
    name: NamespacedName,
    uid: Option<String>,
    awaited: Awaited,
    /// As it was read last.
    object: DynamicObject,
}

/// What the operator is to do with a changed object.
pub(super) enum Awaited {
    /// To process the spec.
    Spec,
    /// To handle the reconcile request with that value.
    Reconcile(String),
    Rotation(Request),
    Removal(Removal),
}

/// The credentials after the change.
#[derive(Default)]
pub(super) struct Results {
    done: Vec<ObjectState>,
    /// Those that the operator has not processed in time.
    unfinished: Vec<ObjectState>,
    /// Those in which what was requested failed or lasts longer, although the credential may be Ready, and why.
    failed: Vec<(ObjectState, String)>,
    /// Those whose change was undone meanwhile.
    undone: Vec<NamespacedName>,
    deleted: Vec<NamespacedName>,
    /// Whether it was not waited for them.
    is_background: bool,
}

/// What is known of a changed object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progressed {
    No,
    /// The operator has processed it, and continues.
    Started,
    /// The same. If it lasts too long, it counts as failed, and that is why.
    Continues(String),
    Done,
    /// What was requested is not done although nothing prevents the rest of the work, and why.
    Failed(String),
    Undone,
    Deleted,
}

/// Waits for all of them at the same time.
pub(super) async fn until(
    client: &Client,
    mut pending: Vec<Pending>,
    change: Change,
    timeout: Duration,
) -> anyhow::Result<Results> {
    let deadline = Instant::now() + timeout;
    let total = pending.len();
    let mut progress = Progress::new(total, "credentials", change.participle());
    let (mut results, mut has_failed) = (Results::default(), false);
    loop {
        let started = Instant::now();
        match read(client, &pending).await {
            Ok(found) => results.sort(&mut pending, found, change, Instant::now() >= deadline),
            // The API server may be back before the deadline.
            Err(error) if Instant::now() < deadline && !is_rejection(&error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    output::note(&format!("{error:#}; trying again"));
                }
            }
            Err(error) => return Err(error),
        }
        progress.update(total - pending.len());
        if pending.is_empty() {
            break;
        }
        let pause = POLL.max(started.elapsed() * PAUSE_PER_CHECK);
        tokio::time::sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
    progress.finish();
    Ok(results)
}

/// Whether the API server will reject the same request again.
fn is_rejection(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => {
            matches!(status.code, 400..500) && !matches!(status.code, 408 | 429)
        }
        _ => false,
    }
}

/// The objects that still exist, by name.
async fn read(
    client: &Client,
    pending: &[Pending],
) -> anyhow::Result<HashMap<NamespacedName, DynamicObject>> {
    let mut found = HashMap::new();
    if pending.len() <= MAX_GETS {
        for Pending { name, .. } in pending {
            if let Some(object) = kubernetes::find::<MicrosoftGraphCredential>(client, name).await? {
                found.insert(name.clone(), object);
            }
        }
        return Ok(found);
    }
    let namespaces: BTreeSet<String> = pending.iter().map(|it| it.name.namespace.clone()).collect();
    let namespaces: Vec<String> = namespaces.into_iter().collect();
    let objects = kubernetes::list::<MicrosoftGraphCredential>(client, &namespaces).await?;
    found.extend(objects.into_iter().map(|object| (NamespacedName::of(&object), object)));
    Ok(found)
}

// === impl Pending ===

impl Pending {
    pub(super) fn new(object: DynamicObject, awaited: Awaited) -> Self {
        Self { name: NamespacedName::of(&object), uid: object.uid(), awaited, object }
    }

    fn state(&self) -> ObjectState {
        ObjectState::of(Kind::Credential, self.object.clone(), Timestamp::now())
    }

    fn progressed(&self, state: &ObjectState, change: Change) -> Progressed {
        let is_undone = match change {
            Change::Reconcile | Change::Rotate { .. } | Change::RemoveUnknown => false,
            Change::Suspend => !state.is_suspended(),
            Change::Resume => state.is_suspended(),
        };
        if is_undone {
            return Progressed::Undone;
        }
        let is_processed = match &self.awaited {
            Awaited::Spec => state.is_current(),
            Awaited::Reconcile(requested) => {
                let handled = state.text("/status/lastHandledReconcileAt");
                state.is_current() && is_handled(state, RECONCILE_REQUESTED_AT, requested, handled)
            }
            Awaited::Rotation(request) => return request.progressed(state),
            Awaited::Removal(removal) => return removal.progressed(state),
        };
        match state.assessment.urgency {
            _ if !is_processed => Progressed::No,
            _ if is_stalled(state) => Progressed::Done,
            Urgency::InProgress => Progressed::Started,
            Urgency::NeedsAction | Urgency::ExpiresSoon | Urgency::Suspended | Urgency::Ready => {
                Progressed::Done
            }
        }
    }
}

/// Whether only a person can continue.
pub(super) fn is_stalled(state: &ObjectState) -> bool {
    state.condition(ConditionType::Stalled).is_some_and(|stalled| stalled.status == ConditionStatus::True)
}

/// Whether the operator has handled the request in the annotation, or a later one that replaced it. It handles none of an
/// invalid object.
pub(super) fn is_handled(
    state: &ObjectState,
    annotation: &str,
    requested: &str,
    handled: Option<&str>,
) -> bool {
    let current = state.object.annotations().get(annotation).map(String::as_str);
    let at = |time: Option<&str>| time.and_then(|time| time.parse::<Timestamp>().ok());
    let is_replaced = at(current) > at(Some(requested)) && handled == current;
    let is_invalid = state
        .condition(ConditionType::Ready)
        .is_some_and(|ready| ready.reason == Reason::InvalidObject.as_str());
    handled == Some(requested) || is_replaced || is_invalid
}

// === impl Results ===

impl Results {
    /// Objects that are not waited for.
    pub(super) fn unfinished(pending: &[Pending]) -> Self {
        let unfinished = pending.iter().map(Pending::state).collect();
        Self { unfinished, is_background: true, ..Self::default() }
    }

    /// Moves what is done from the pending objects to the results; at the deadline, everything.
    fn sort(
        &mut self,
        pending: &mut Vec<Pending>,
        mut found: HashMap<NamespacedName, DynamicObject>,
        change: Change,
        is_late: bool,
    ) {
        for mut it in std::mem::take(pending) {
            let object = found.remove(&it.name).filter(|object| object.uid() == it.uid);
            let progressed = match object {
                None => Progressed::Deleted,
                Some(object) => {
                    it.object = object;
                    it.progressed(&it.state(), change)
                }
            };
            match progressed {
                Progressed::Done => self.done.push(it.state()),
                Progressed::Failed(why) => self.failed.push((it.state(), why)),
                Progressed::Continues(why) if is_late => self.failed.push((it.state(), why)),
                Progressed::Undone => self.undone.push(it.name),
                Progressed::Deleted => self.deleted.push(it.name),
                Progressed::Started if is_late => self.done.push(it.state()),
                Progressed::No if is_late => self.unfinished.push(it.state()),
                Progressed::Started | Progressed::Continues(_) | Progressed::No => pending.push(it),
            }
        }
    }

    /// Prints the credentials, and returns the exit code.
    pub(super) fn print(self, format: Format, change: Change) -> anyhow::Result<ExitCode> {
        let code = self.exit_code(change);
        for name in &self.deleted {
            output::note(&format!("MicrosoftGraphCredential {name} was deleted meanwhile"));
        }
        for name in &self.undone {
            output::note(&format!(
                "spec.suspend of MicrosoftGraphCredential {name} was set back meanwhile, probably by the tool that applies it"
            ));
        }
        for (state, why) in &self.failed {
            output::note(&format!("MicrosoftGraphCredential {}: {why}", state.name));
        }
        if !self.is_background && !self.unfinished.is_empty() {
            output::note(&format!(
                "the operator did not respond in time about {} credentials: check that it runs and serves their namespaces (graph-credential-operator check), or wait longer with --timeout",
                self.unfinished.len()
            ));
        }
        let failed = self.failed.into_iter().map(|(state, _)| state);
        let credentials = self.done.into_iter().chain(failed).chain(self.unfinished).collect();
        let mut report = StatusReport {
            credentials,
            accounts: Vec::new(),
            identities: Vec::new(),
            mailboxes: Vec::new(),
            now: Timestamp::now(),
            shows_namespace: true,
        };
        report.sort();
        format.print(&report)?;
        Ok(code)
    }

    fn exit_code(&self, change: Change) -> ExitCode {
        let is_ready = |state: &ObjectState| match change {
            Change::Reconcile | Change::Rotate { .. } | Change::Resume => state.is_ready,
            Change::Suspend => state.is_ready || state.is_suspended(),
            Change::RemoveUnknown => true,
        };
        let has_failed = !self.undone.is_empty() || !self.unfinished.is_empty() && !self.is_background;
        if has_failed {
            ExitCode::FAILURE
        } else if self.deleted.is_empty() && self.failed.is_empty() && self.done.iter().all(is_ready) {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(3)
        }
    }
}

#[cfg(test)]
mod tests;
