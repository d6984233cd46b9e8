//! Around every pass: a span, a deadline, a net for panics, metrics, and the delay after errors.

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

use super::error::PassError;
use super::queue::Ended;
use crate::backoff;
use crate::events::Note;
use crate::resources::conditions::{Condition, whole_second};
use crate::settings::Timing;
use crate::telemetry::logs::chain;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::otlp;

/// What a pass leaves behind.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// As metrics name it.
    pub result: &'static str,
    /// When to come back without being called.
    pub again_in: Duration,
    /// The version of the object that it was about; nothing where none was read.
    pub generation: Option<i64>,
    /// The reason of the condition `Ready` that came of it, where it came to one.
    pub reason: Option<String>,
}

/// The guard of one controller. Errors of the Kubernetes API are counted here, in memory, since a status
/// cannot be written where the API fails; a restart may forget them.
#[derive(Debug)]
pub struct Guard {
    controller: &'static str,
    timing: Timing,
    metrics: Arc<Metrics>,
    errors: Mutex<HashMap<String, Errors>>,
}

/// The errors in a row of one object.
#[derive(Debug, Default)]
struct Errors {
    count: u32,
    told: Option<String>,
}

// === impl Outcome ===

impl Outcome {
    /// Of a pass that came to no condition.
    pub fn new(result: &'static str, again_in: Duration) -> Self {
        Self { result, again_in, generation: None, reason: None }
    }

    /// Of that version of the object, with what its condition `Ready` says.
    pub fn about(self, generation: Option<i64>, ready: Option<&Condition>) -> Self {
        Self { generation, reason: ready.map(|ready| ready.reason.clone()), ..self }
    }
}

// === impl Guard ===

impl Guard {
    /// For that controller, as metrics name it.
    pub fn new(controller: &'static str, timing: &Timing, most_passes: u16, metrics: Arc<Metrics>) -> Self {
        metrics.passes.bounded(controller, most_passes);
        Self { controller, timing: *timing, metrics, errors: Mutex::default() }
    }

    /// Carries out a pass over the object of that name. Returns how it ended, and a failure to tell people, where it is not
    /// the one that they were told last. What is only looked at again in case an event was missed is spread.
    pub async fn watch_over(
        &self,
        object: impl Display,
        pass: impl Future<Output = Result<Outcome, PassError>>,
    ) -> (Ended, Option<Note>) {
        let object = object.to_string();
        // Of the highest level, so that no log filter takes the object's name from its lines.
        let span = tracing::error_span!(
            parent: None,
            "pass",
            controller = self.controller,
            object,
            trace_id = Empty,
            result = Empty,
            otel.status_code = Empty,
        );
        let is_traced = otlp::note_trace_id(&span);
        let started = Instant::now();
        self.metrics.passes.started(self.controller);
        let caught = AssertUnwindSafe(tokio::time::timeout(self.timing.pass, pass)).catch_unwind();
        let ended = match caught.instrument(span.clone()).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_elapsed)) => Err(PassError::Deadline),
            Err(_panic) => {
                self.metrics.passes.panicked(self.controller);
                Err(PassError::Panicked)
            }
        };
        let (outcome, note) = span.in_scope(|| self.conclude(&object, ended));
        // Lines show the result without the span: for them alone a field is too dear to write.
        if is_traced {
            span.record("result", outcome.result);
            if outcome.result == "error" {
                span.record("otel.status_code", "ERROR");
            }
        }
        self.metrics.passes.ended(self.controller, outcome.result, started.elapsed());
        let is_retry = matches!(outcome.result, "error" | "requeue");
        let is_resync = outcome.again_in == self.timing.resync;
        let after = if is_resync { backoff::shorten(&object, outcome.again_in, 4) } else { outcome.again_in };
        (Ended::Again { after, is_retry }, note)
    }

    /// Forgets an object that is gone: one made anew under its name begins anew.
    pub fn forget(&self, object: impl Display) {
        self.errors.lock().remove(&object.to_string());
    }

    fn conclude(&self, object: &str, ended: Result<Outcome, PassError>) -> (Outcome, Option<Note>) {
        let mut errors = self.errors.lock();
        let error = match ended {
            Ok(outcome) => {
                errors.remove(object);
                let Outcome { result, again_in, generation, reason } = &outcome;
                tracing::info!(result, generation, reason, next_look = next_look(*again_in), "pass ended");
                return (outcome, None);
            }
            Err(error) => error,
        };
        let errors = errors.entry(object.to_owned()).or_default();
        errors.count = errors.count.saturating_add(1);
        let again_in = backoff::delay(&self.timing, errors.count, object);
        let text = chain(&error);
        if error.is_ordinary() {
            tracing::info!(error = text, next_look = next_look(again_in), "pass ended early");
            return (Outcome::new("requeue", again_in), None);
        }
        let (category, next_look) = (error.category(), next_look(again_in));
        tracing::warn!(error = text, category, next_look, "pass failed");
        // The error's own words are the same on each try; its causes may hold times and addresses.
        let words = format!("{error}; the operator tries again");
        let is_news = errors.told.replace(words.clone()).is_none_or(|told| told != words);
        let note = is_news.then_some(Note {
            is_warning: true,
            reason: "PassFailed",
            action: "Reconcile",
            text: words,
            ids: String::new(),
        });
        (Outcome::new("error", again_in), note)
    }
}

/// The time of the next look at an object that is not woken, for a log line; nothing beyond all dates.
fn next_look(again_in: Duration) -> Option<String> {
    let at = Timestamp::now().checked_add(again_in).ok()?;
    Some(whole_second(at).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new("test", &Timing::STANDARD, 16, Arc::new(Metrics::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_its_own_pass_and_no_other() {
        let guard = guard();
        let panicking = async { panic!("a defect") };
        let other = async { Ok(Outcome::new("success", Duration::from_secs(77))) };
        let (_, kept) = tokio::join!(guard.watch_over("a/b", panicking), guard.watch_over("a/c", other));
        let after = Duration::from_secs(77);
        assert_eq!(kept, (Ended::Again { after, is_retry: false }, None));
        let text = guard.metrics.render().unwrap();
        assert!(text.contains("controller_runtime_reconcile_panics_total{controller=\"test\"} 1"), "{text}");
        assert!(text.contains("controller_runtime_active_workers{controller=\"test\"} 0"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_hangs_is_ended() {
        let guard = guard();
        let started = Instant::now();
        guard.watch_over("a/b", std::future::pending()).await;
        assert_eq!(started.elapsed(), Timing::STANDARD.pass);
    }

    #[tokio::test(start_paused = true)]
    async fn errors_in_a_row_wait_longer_and_success_starts_anew() {
        let guard = guard();
        let fail = async || guard.watch_over("a/b", async { Err(PassError::Conflict) }).await.0;
        let delay = |failures| {
            let after = backoff::delay(&Timing::STANDARD, failures, "a/b");
            Ended::Again { after, is_retry: true }
        };
        assert_eq!((fail().await, fail().await), (delay(1), delay(2)));
        guard.watch_over("a/b", async { Ok(Outcome::new("success", Duration::ZERO)) }).await;
        assert_eq!(fail().await, delay(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_made_anew_begins_anew() {
        let guard = guard();
        let fail = async || guard.watch_over("a/b", async { Err(PassError::Deadline) }).await;
        let first = fail().await;
        assert_ne!(fail().await, first);
        guard.forget("a/b");
        assert_eq!(fail().await, first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_once_until_another_comes_or_a_pass_succeeds() {
        let guard = guard();
        let fail = async |error: PassError| guard.watch_over("a/b", async { Err(error) }).await.1;
        assert!(fail(PassError::Deadline).await.is_some_and(|note| note.text.contains("took too long")));
        assert_eq!(fail(PassError::Deadline).await, None);
        assert!(fail(PassError::Endless).await.is_some());
        assert!(fail(PassError::Deadline).await.is_some());
        assert_eq!(fail(PassError::Conflict).await, None, "a conflict is the ordinary course of things");
        guard.watch_over("a/b", async { Ok(Outcome::new("success", Duration::ZERO)) }).await;
        assert!(fail(PassError::Deadline).await.is_some());
    }
}
