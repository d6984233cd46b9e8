//! Waits until the operator has processed changed credentials, and shows them.

use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use super::Change;
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
    /// The value of the reconcile request.
    requested: Option<String>,
    /// As it was read last.
    object: DynamicObject,
}

/// The credentials after the change.
#[derive(Default)]
pub(super) struct Results {
    done: Vec<ObjectState>,
    /// Those that the operator has not processed in time.
    unfinished: Vec<ObjectState>,
    /// Those whose change was undone meanwhile.
    undone: Vec<NamespacedName>,
    deleted: Vec<NamespacedName>,
    /// Whether it was not waited for them.
    is_background: bool,
}

/// What is known of a changed object.
enum Progressed {
    No,
    /// The operator has processed it, and continues.
    Started,
    Done,
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
    pub(super) fn new(object: DynamicObject, requested: Option<String>) -> Self {
        Self { name: NamespacedName::of(&object), uid: object.uid(), requested, object }
    }

    fn state(&self) -> ObjectState {
        ObjectState::of(Kind::Credential, self.object.clone(), Timestamp::now())
    }

    fn progressed(&self, state: &ObjectState, change: Change) -> Progressed {
        let is_undone = match change {
            Change::Reconcile => false,
            Change::Suspend => !state.is_suspended(),
            Change::Resume => state.is_suspended(),
        };
        if is_undone {
            return Progressed::Undone;
        }
        let is_processed = match &self.requested {
            None => state.is_current(),
            Some(requested) => state.is_current() && is_handled(state, requested),
        };
        let is_stalled = state
            .condition(ConditionType::Stalled)
            .is_some_and(|stalled| stalled.status == ConditionStatus::True);
        match state.assessment.urgency {
            _ if !is_processed => Progressed::No,
            _ if is_stalled => Progressed::Done,
            Urgency::InProgress => Progressed::Started,
            Urgency::NeedsAction | Urgency::ExpiresSoon | Urgency::Suspended | Urgency::Ready => {
                Progressed::Done
            }
        }
    }
}

/// Whether the operator has handled the request, or a later one that replaced it. It handles none of an invalid object.
fn is_handled(state: &ObjectState, requested: &str) -> bool {
    let handled = state.text("/status/lastHandledReconcileAt");
    let current = state.object.annotations().get(RECONCILE_REQUESTED_AT).map(String::as_str);
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
                Progressed::Undone => self.undone.push(it.name),
                Progressed::Deleted => self.deleted.push(it.name),
                Progressed::Started if is_late => self.done.push(it.state()),
                Progressed::No if is_late => self.unfinished.push(it.state()),
                Progressed::Started | Progressed::No => pending.push(it),
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
        if !self.is_background && !self.unfinished.is_empty() {
            output::note(&format!(
                "the operator did not respond in time about {} credentials: check that it runs and serves their namespaces (graph-credential-operator check), or wait longer with --timeout",
                self.unfinished.len()
            ));
        }
        let credentials = self.done.into_iter().chain(self.unfinished).collect();
        let mut report = StatusReport {
            credentials,
            accounts: Vec::new(),
            identities: Vec::new(),
            now: Timestamp::now(),
            shows_namespace: true,
        };
        report.sort();
        format.print(&report)?;
        Ok(code)
    }

    fn exit_code(&self, change: Change) -> ExitCode {
        let is_ready = |state: &ObjectState| {
            matches!(state.assessment.urgency, Urgency::Ready | Urgency::ExpiresSoon)
                || change == Change::Suspend && state.is_suspended()
        };
        let has_failed = !self.undone.is_empty() || !self.unfinished.is_empty() && !self.is_background;
        if has_failed {
            ExitCode::FAILURE
        } else if self.deleted.is_empty() && self.done.iter().all(is_ready) {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(3)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pending(requested: Option<&str>) -> Pending {
        Pending::new(object(&json!({}), &json!({})), requested.map(ToOwned::to_owned))
    }

    fn object(metadata: &Value, more: &Value) -> DynamicObject {
        let mut object = json!({
            "metadata": {"name": "x", "namespace": "mail", "uid": "u-1", "generation": 1}, "spec": {},
            "status": {"observedGeneration": 1, "conditions": [{
                "type": "Ready", "status": "True", "reason": "Ready", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"
            }]},
        });
        for (part, fields) in [("metadata", metadata), ("status", &more["status"]), ("spec", &more["spec"])] {
            for (field, value) in fields.as_object().into_iter().flatten() {
                object[part][field] = value.clone();
            }
        }
        serde_json::from_value(object).unwrap()
    }

    /// The results once that object was read; `None` if it still waits.
    fn results(
        pending: Pending,
        found: Option<DynamicObject>,
        change: Change,
        is_late: bool,
    ) -> Option<Results> {
        let (mut all, mut results) = (vec![pending], Results::default());
        let found = found.into_iter().map(|object| (NamespacedName::of(&object), object)).collect();
        results.sort(&mut all, found, change, is_late);
        all.is_empty().then_some(results)
    }

    #[test]
    fn a_request_is_done_once_it_or_a_later_one_is_handled() {
        const TIMES: [&str; 4] = [
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:01Z",
            "2026-01-01T00:00:01.5Z",
            "2026-01-01T00:00:02Z",
        ];
        let [earlier, ours, _, later] = TIMES;
        let with = |annotation: Option<&str>, handled: Option<&str>| {
            let metadata = json!({"annotations": {RECONCILE_REQUESTED_AT: annotation}});
            let metadata = if annotation.is_some() { metadata } else { json!({}) };
            let found = object(&metadata, &json!({"status": {"lastHandledReconcileAt": handled}}));
            results(pending(Some(ours)), Some(found), Change::Reconcile, false).is_some()
        };
        for (annotation, handled, is_done) in [
            (Some(ours), None, false),
            (Some(ours), Some(earlier), false),
            (Some(ours), Some(ours), true),
            (Some(later), Some(ours), true),
            (Some(later), Some(earlier), false),
            (Some(later), Some(later), true),
            (None, None, false),
            (Some(earlier), Some(earlier), false),
        ] {
            assert_eq!(with(annotation, handled), is_done, "{annotation:?} {handled:?}");
        }
        assert!(with(Some(TIMES[2]), Some(TIMES[2])), "fractions are compared as times");
    }

    #[test]
    fn an_invalid_object_is_done_without_being_handled() {
        let conditions = json!([{
            "type": "Ready", "status": "False", "reason": "InvalidObject", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"
        }]);
        let found = object(&json!({}), &json!({"status": {"conditions": conditions}}));
        let results = results(pending(Some("2")), Some(found), Change::Reconcile, false).unwrap();
        assert_eq!((results.done.len(), results.exit_code(Change::Reconcile)), (1, ExitCode::from(3)));
    }

    #[test]
    fn a_deleted_or_re_created_object_is_not_ready() {
        let other = object(&json!({"uid": "u-2"}), &json!({}));
        for found in [None, Some(other)] {
            let results = results(pending(None), found, Change::Resume, false).unwrap();
            assert_eq!((results.deleted.len(), results.exit_code(Change::Resume)), (1, ExitCode::from(3)));
        }
    }

    #[test]
    fn a_change_that_was_undone_fails() {
        let results =
            results(pending(None), Some(object(&json!({}), &json!({}))), Change::Suspend, false).unwrap();
        assert_eq!((results.undone.len(), results.exit_code(Change::Suspend)), (1, ExitCode::FAILURE));
    }

    #[test]
    fn at_the_deadline_work_in_progress_is_no_failure_but_silence_is() {
        let conditions = json!([{
            "type": "Ready", "status": "Unknown", "reason": "AwaitingPropagation", "message": "m",
            "lastTransitionTime": Timestamp::now()
        }]);
        let found = object(&json!({}), &json!({"status": {"conditions": conditions}}));
        assert!(results(pending(None), Some(found.clone()), Change::Resume, false).is_none());
        let late = results(pending(None), Some(found), Change::Resume, true).unwrap();
        assert_eq!(late.exit_code(Change::Resume), ExitCode::from(3));
        let silent = object(&json!({"generation": 2}), &json!({}));
        let silent = results(pending(None), Some(silent), Change::Resume, true).unwrap();
        assert_eq!((silent.unfinished.len(), silent.exit_code(Change::Resume)), (1, ExitCode::FAILURE));
    }
}
