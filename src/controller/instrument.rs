//! Wraps every reconcile: tracing span, timeout, panic handling, metrics and the backoff after errors.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;

use crate::api::conditions::{Condition, whole_second};
use crate::controller::error::ReconcileError;
use crate::controller::queue::QueueResult;
use crate::core::backoff;
use crate::core::error_chain::chain;
use crate::core::event::EventBody;
use crate::core::outcome::Outcome;
use crate::core::timing::Timing;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::otlp;

/// A completed reconcile.
#[derive(Clone, Debug)]
pub struct Completed {
    pub outcome: Outcome,
    /// When to reconcile again if nothing triggers it before.
    pub requeue_after: Duration,
    /// The generation of the object; `None` if no object was read.
    pub generation: Option<i64>,
    /// The reason of the condition `Ready`, if there is one.
    pub reason: Option<String>,
}

/// Runs the reconciles of one controller. It counts errors of the Kubernetes API in memory, because a status cannot be
/// written while the API fails.
#[derive(Debug)]
pub struct ReconcileRunner {
    controller: &'static str,
    timing: Timing,
    metrics: Arc<Metrics>,
    errors: Mutex<HashMap<String, Errors>>,
}

/// Consecutive errors of one object.
#[derive(Debug, Default)]
struct Errors {
    count: u32,
    reported: Option<String>,
}

// === impl Completed ===

impl Completed {
    /// A reconcile without conditions.
    pub fn new(outcome: Outcome, requeue_after: Duration) -> Self {
        Self { outcome, requeue_after, generation: None, reason: None }
    }

    /// With the object's generation and the reason of its condition `Ready`.
    pub fn about(self, generation: Option<i64>, ready: Option<&Condition>) -> Self {
        Self { generation, reason: ready.map(|ready| ready.reason.clone()), ..self }
    }
}

// === impl ReconcileRunner ===

impl ReconcileRunner {
    /// `controller` is the label value in metrics.
    pub fn new(
        controller: &'static str,
        timing: &Timing,
        max_concurrent: u16,
        metrics: Arc<Metrics>,
    ) -> Self {
        metrics.reconciles.set_max_concurrent(controller, max_concurrent);
        Self { controller, timing: *timing, metrics, errors: Mutex::default() }
    }

    /// Reconciles one object. Returns when to reconcile it again, and an event if the failure differs from the one
    /// reported last. Resyncs are spread.
    pub async fn execute(
        &self,
        object: impl Display,
        reconcile: impl Future<Output = Result<Completed, ReconcileError>>,
    ) -> (QueueResult, Option<EventBody>) {
        let object = object.to_string();
        // At the highest level, so that no log filter removes the object's name from the lines.
        let span = tracing::error_span!(
            parent: None,
            "reconcile",
            controller = self.controller,
            object,
            trace_id = Empty,
            result = Empty,
            otel.status_code = Empty,
        );
        let is_traced = otlp::record_trace_id(&span);
        let started = Instant::now();
        self.metrics.reconciles.started(self.controller);
        let caught =
            AssertUnwindSafe(tokio::time::timeout(self.timing.reconcile_timeout, reconcile)).catch_unwind();
        let ended = match caught.instrument(span.clone()).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_elapsed)) => Err(ReconcileError::Deadline),
            Err(_panic) => {
                self.metrics.reconciles.panicked(self.controller);
                Err(ReconcileError::Panicked)
            }
        };
        let (completed, event) = span.in_scope(|| self.record_result(&object, ended));
        let Completed { outcome, requeue_after, .. } = completed;
        // Log lines have the result without the span; a span field only for them would cost too much.
        if is_traced {
            span.record("result", outcome.result());
            if outcome == Outcome::Failed {
                span.record("otel.status_code", "ERROR");
            }
        }
        let (result, label) = (outcome.result(), outcome.as_str());
        self.metrics.reconciles.ended(self.controller, result, label, started.elapsed());
        let is_retry = matches!(outcome, Outcome::Failed | Outcome::Requeued);
        let is_resync = requeue_after == self.timing.resync;
        let after = if is_resync { backoff::shorten(&object, requeue_after, 4) } else { requeue_after };
        (QueueResult::Requeue { after, is_retry }, event)
    }

    /// Forgets a deleted object, so that one re-created under its name starts without errors.
    pub fn forget(&self, object: impl Display) {
        self.errors.lock().remove(&object.to_string());
    }

    fn record_result(
        &self,
        object: &str,
        ended: Result<Completed, ReconcileError>,
    ) -> (Completed, Option<EventBody>) {
        let mut errors = self.errors.lock();
        let error = match ended {
            Ok(completed) => {
                errors.remove(object);
                let Completed { outcome, requeue_after, generation, reason } = &completed;
                let (result, requeue_at) = (outcome.result(), requeue_at(*requeue_after));
                let outcome = outcome.as_str();
                tracing::info!(result, outcome, generation, reason, requeue_at, "reconciled");
                return (completed, None);
            }
            Err(error) => error,
        };
        let errors = errors.entry(object.to_owned()).or_default();
        errors.count = errors.count.saturating_add(1);
        let requeue_after = backoff::delay(&self.timing, errors.count, object);
        let text = chain(&error);
        if error.is_expected() {
            tracing::info!(error = text, requeue_at = requeue_at(requeue_after), "requeued");
            return (Completed::new(Outcome::Requeued, requeue_after), None);
        }
        let (category, requeue_at) = (error.category(), requeue_at(requeue_after));
        tracing::warn!(error = text, category, requeue_at, "reconcile failed");
        // The error's own text is the same on each attempt; its causes may hold times and addresses.
        let message = format!("{error}; the operator tries again");
        let is_new = errors.reported.replace(message.clone()).is_none_or(|reported| reported != message);
        let event = is_new.then_some(EventBody {
            is_warning: true,
            reason: "ReconcileFailed",
            action: "Reconcile",
            text: message,
            request_ids: String::new(),
        });
        (Completed::new(Outcome::Failed, requeue_after), event)
    }
}

/// The time of the next reconcile, for a log line; `None` if it is out of range.
fn requeue_at(requeue_after: Duration) -> Option<String> {
    let at = Timestamp::now().checked_add(requeue_after).ok()?;
    Some(whole_second(at).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner() -> ReconcileRunner {
        ReconcileRunner::new("test", &Timing::STANDARD, 16, Arc::new(Metrics::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_only_its_own_reconcile() {
        let runner = runner();
        let panicking = async { panic!("a bug") };
        let other = async { Ok(Completed::new(Outcome::Success, Duration::from_secs(77))) };
        let (_, kept) = tokio::join!(runner.execute("a/b", panicking), runner.execute("a/c", other));
        let after = Duration::from_secs(77);
        assert_eq!(kept, (QueueResult::Requeue { after, is_retry: false }, None));
        let text = runner.metrics.render().unwrap();
        assert!(text.contains("controller_runtime_reconcile_panics_total{controller=\"test\"} 1"), "{text}");
        assert!(text.contains("controller_runtime_active_workers{controller=\"test\"} 0"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_reconcile_times_out() {
        let runner = runner();
        let started = Instant::now();
        runner.execute("a/b", std::future::pending()).await;
        assert_eq!(started.elapsed(), Timing::STANDARD.reconcile_timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn consecutive_errors_wait_longer_until_a_success() {
        let runner = runner();
        let fail = async || runner.execute("a/b", async { Err(ReconcileError::Conflict) }).await.0;
        let delay = |failures| {
            let after = backoff::delay(&Timing::STANDARD, failures, "a/b");
            QueueResult::Requeue { after, is_retry: true }
        };
        assert_eq!((fail().await, fail().await), (delay(1), delay(2)));
        runner.execute("a/b", async { Ok(Completed::new(Outcome::Success, Duration::ZERO)) }).await;
        assert_eq!(fail().await, delay(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_re_created_object_starts_without_errors() {
        let runner = runner();
        let fail = async || runner.execute("a/b", async { Err(ReconcileError::Deadline) }).await;
        let first = fail().await;
        assert_ne!(fail().await, first);
        runner.forget("a/b");
        assert_eq!(fail().await, first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_reported_once_until_it_changes_or_a_reconcile_succeeds() {
        let runner = runner();
        let fail = async |error: ReconcileError| runner.execute("a/b", async { Err(error) }).await.1;
        assert!(
            fail(ReconcileError::Deadline).await.is_some_and(|event| event.text.contains("took too long"))
        );
        assert_eq!(fail(ReconcileError::Deadline).await, None);
        assert!(fail(ReconcileError::StepLimit).await.is_some());
        assert!(fail(ReconcileError::Deadline).await.is_some());
        assert_eq!(fail(ReconcileError::Conflict).await, None, "a conflict is no failure");
        runner.execute("a/b", async { Ok(Completed::new(Outcome::Success, Duration::ZERO)) }).await;
        assert!(fail(ReconcileError::Deadline).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_names_the_failure_and_nothing_of_its_causes() {
        let runner = runner();
        let cause = kube::Error::Service("connect to 10.96.0.1:6443 failed".into());
        let (_, event) = runner.execute("a/b", async { Err(ReconcileError::ReadObject(cause)) }).await;
        assert_eq!(event.unwrap().text, "failed to read the object; the operator tries again");
    }
}
