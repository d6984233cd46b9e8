//! Around every pass: a span, a deadline, a net for panics, metrics, and the delay after errors.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use kube::runtime::controller::Action;
use tokio::time::Instant;
use tracing::Instrument;

use super::error::PassError;
use super::{Context, backoff};
use crate::settings::Timing;

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
    errors: Mutex<HashMap<String, u32>>,
}

// === impl Guard ===

impl Guard {
    /// For that controller, as metrics name it.
    pub fn new(controller: &'static str) -> Self {
        Self { controller, errors: Mutex::default() }
    }

    /// Carries out a pass over the object of that name and says when the next one is due.
    pub async fn watch_over(
        &self,
        context: &Context,
        object: impl Display,
        pass: impl Future<Output = Result<Outcome, PassError>>,
    ) -> Action {
        let object = object.to_string();
        let span = tracing::info_span!("pass", controller = self.controller, object);
        let started = Instant::now();
        context.metrics.pass_started(self.controller);
        let timing = &context.rules.timing;
        let caught = AssertUnwindSafe(tokio::time::timeout(timing.pass, pass)).catch_unwind();
        let ended = match caught.instrument(span.clone()).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_elapsed)) => Err(PassError::Deadline),
            Err(_panic) => {
                context.metrics.panicked(self.controller);
                Err(PassError::Panicked)
            }
        };
        let outcome = span.in_scope(|| self.conclude(timing, &object, ended));
        context.metrics.pass_ended(self.controller, outcome.result, started.elapsed());
        Action::requeue(outcome.again_in)
    }

    fn conclude(&self, timing: &Timing, object: &str, ended: Result<Outcome, PassError>) -> Outcome {
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
        let again_in = backoff::delay(timing, *count, object);
        let source = &error as &dyn std::error::Error;
        if error.is_ordinary() {
            tracing::info!(error = source, ?again_in, "pass ended early");
        } else {
            tracing::warn!(error = source, category = error.category(), ?again_in, "pass failed");
        }
        Outcome { result: if error.is_ordinary() { "requeue" } else { "error" }, again_in }
    }
}
