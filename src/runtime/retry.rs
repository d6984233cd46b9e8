//! Retries what a process needs before it can work.

use crate::runtime::process::Process;

/// Repeats `attempt` until it succeeds. Meanwhile `gate` is pending with the problem, and each new problem is logged.
pub(super) async fn until_success<T>(
    process: &Process<'_>,
    gate: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    // Local, because the controller and the REST API may both wait for the same gate.
    let mut logged = String::new();
    loop {
        let problem = match attempt().await {
            Ok(done) => return done,
            Err(problem) => problem,
        };
        process.readiness.pending(gate, &problem);
        if problem != logged {
            tracing::warn!(component = gate, problem, "not ready; trying again");
        }
        logged = problem;
        process.stop.run_until_cancelled(tokio::time::sleep(process.timing.startup_retry)).await;
    }
}
