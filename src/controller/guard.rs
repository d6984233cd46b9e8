//! Around every pass: a span, a deadline, a net for panics, metrics, and the delay after errors.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use kube::runtime::controller::Action;
use tokio::time::Instant;
use tracing::Instrument;

use super::backoff;
use super::error::PassError;
use crate::settings::Timing;
use crate::telemetry::logs::chain;
use crate::telemetry::metrics::Metrics;

/// What a pass leaves behind.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// One word for the metric.
    pub result: &'static str,
    /// When to come back without being called.
    pub again_in: Duration,
}

/// The guard of one controller. Errors of the Kubernetes API are counted here, in memory, since a status
/// cannot be written where the API fails; a restart may forget them.
#[derive(Debug)]
pub struct Guard {
    controller: &'static str,
    timing: Timing,
    metrics: Arc<Metrics>,
    errors: Mutex<HashMap<String, u32>>,
}

// === impl Guard ===

impl Guard {
    /// For that controller, as metrics name it.
    pub fn new(controller: &'static str, timing: &Timing, metrics: Arc<Metrics>) -> Self {
        Self { controller, timing: *timing, metrics, errors: Mutex::default() }
    }

    /// Carries out a pass over the object of that name and says when the next one is due.
    pub async fn watch_over(
        &self,
        object: impl Display,
        pass: impl Future<Output = Result<Outcome, PassError>>,
    ) -> Action {
        let object = object.to_string();
        let span = tracing::info_span!("pass", controller = self.controller, object);
        let started = Instant::now();
        self.metrics.pass_started(self.controller);
        let caught = AssertUnwindSafe(tokio::time::timeout(self.timing.pass, pass)).catch_unwind();
        let ended = match caught.instrument(span.clone()).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_elapsed)) => Err(PassError::Deadline),
            Err(_panic) => {
                self.metrics.panicked(self.controller);
                Err(PassError::Panicked)
            }
        };
        let outcome = span.in_scope(|| self.conclude(&object, ended));
        self.metrics.pass_ended(self.controller, outcome.result, started.elapsed());
        Action::requeue(outcome.again_in)
    }

    fn conclude(&self, object: &str, ended: Result<Outcome, PassError>) -> Outcome {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let error = match ended {
            Ok(outcome) => {
                errors.remove(object);
                tracing::debug!(result = outcome.result, again_in = ?outcome.again_in, "pass ended");
                return outcome;
            }
            Err(error) => error,
        };
        let count = errors.entry(object.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        let again_in = backoff::delay(&self.timing, *count, object);
        let text = chain(&error);
        if error.is_ordinary() {
            tracing::info!(error = text, ?again_in, "pass ended early");
        } else {
            tracing::warn!(error = text, category = error.category(), ?again_in, "pass failed");
        }
        Outcome { result: if error.is_ordinary() { "requeue" } else { "error" }, again_in }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new("test", &Timing::STANDARD, Arc::new(Metrics::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_its_own_pass_and_no_other() {
        let guard = guard();
        let panicking = async { panic!("a defect") };
        let other = async { Ok(Outcome { result: "success", again_in: Duration::from_hours(1) }) };
        let (_, kept) = tokio::join!(guard.watch_over("a/b", panicking), guard.watch_over("a/c", other));
        assert_eq!(kept, Action::requeue(Duration::from_hours(1)));
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
        let fail = async || guard.watch_over("a/b", async { Err(PassError::Conflict) }).await;
        let delay = |failures| Action::requeue(backoff::delay(&Timing::STANDARD, failures, "a/b"));
        assert_eq!((fail().await, fail().await), (delay(1), delay(2)));
        guard.watch_over("a/b", async { Ok(Outcome { result: "success", again_in: Duration::ZERO }) }).await;
        assert_eq!(fail().await, delay(1));
    }
}
