//! Retries what a process needs before it can work.

use crate::core::error_chain::chain;
use crate::runtime::process::Process;

/// Repeats `attempt` until it succeeds; returns `None` if the process stops before that. Meanwhile `gate` is pending with
/// the problem, and each new problem is logged. The causes of a problem are only logged, because they may contain times
/// and addresses.
pub(super) async fn until_success<T>(
    process: &Process<'_>,
    gate: &str,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<T>,
) -> Option<T> {
    // Local, because the controller and the REST API may both wait for the same gate.
    let mut logged = String::new();
    loop {
        let error = match attempt().await {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        let problem = error.to_string();
        process.readiness.pending(gate, &problem);
        if problem != logged {
            tracing::error!(component = gate, error = chain(error.as_ref()), "not ready; trying again");
        }
        logged = problem;
        process.stop.run_until_cancelled(tokio::time::sleep(process.timing.startup_retry)).await?;
    }
}
