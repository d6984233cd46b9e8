//! Rotations: exactly one client secret of the operator for each app, and one registration that works at every moment.

mod check;
mod environment;
mod run;
mod script;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use self::check::Named;
use self::run::Run;
use self::script::{Act, Script};
use crate::kind::{Kind, failed_writes, holds};
use crate::script::environment_of;
use crate::summary::Summary;

pub use self::environment::RotationEnvironment;
pub use self::run::Run as RotationRun;
pub use self::script::sample;

/// Executes the seeds, all of one environment, with its kills.
pub async fn execute(seeds: Range<u64>, summary: Arc<Summary>) {
    execute_scripts(Some(environment_of(seeds.start)), seeds.map(Script::new).collect(), summary).await;
}

/// Executes one run for each fault of each step.
pub async fn execute_cases(summary: Arc<Summary>) {
    execute_scripts(None, Script::cases(), summary).await;
}

async fn execute_scripts(number: Option<u64>, scripts: Vec<Script>, summary: Arc<Summary>) {
    let environment = RotationEnvironment::start(number).await;
    let mut runs = Vec::new();
    for script in scripts {
        runs.push(Run::create(&environment, script).await);
    }
    let all: Vec<(&str, bool)> = runs.iter().map(|run| (run.client.as_str(), true)).collect();
    environment.set_grants(&all).await;
    let start = Instant::now();
    let kills = number.map(script::kills).unwrap_or_default();
    let (holds, failed) =
        (number.map(holds).unwrap_or_default(), number.map(failed_writes).unwrap_or_default());
    let base = &environment.base;
    tokio::join!(
        join_all(runs.iter_mut().map(|run| run.perform(&environment, start))),
        base.processes.execute_kills(&kills, &base.kill_points, start),
        base.delay_watches(&holds, start),
        base.fail_writes(&failed, start),
    );
    environment.end_faults(&runs).await;
    for (index, problem) in verify(&environment, &runs, number.is_some()).await {
        let run = &runs[index];
        let (seed, diagnostics) = (run.script.seed, check::diagnostics(&environment, run));
        let (what, again) = match number {
            Some(_) => ("seed", format!("make faults KIND=rotation SEED={seed}")),
            None => ("case", "make faults-sample".to_owned()),
        };
        let script = &run.script;
        summary.fail(format!("rotation, {what} {seed}: {problem}\nagain: {again}\n{script}{diagnostics}"));
    }
    if let Err(problem) = check::whole(&environment, &runs).await {
        summary.fail(format!("rotation, environment {number:?}: {problem}"));
    }
    summary.add_rotations(number.map_or(Kind::Plain, script::kind_of), &environment, &runs);
    environment.end().await;
}

/// Waits until every run has settled, has them rotate once more if `requests`, and returns the problems by run.
async fn verify(environment: &RotationEnvironment, runs: &[Run], requests: bool) -> Vec<(usize, String)> {
    if requests {
        environment.settle(runs, &|run, _| check::ready(environment, run)).await;
        join_all(runs.iter().map(|run| run.request_last(environment))).await;
    }
    let is_settled = |run: &Run, named: &Named| check::settled(environment, run, named, requests);
    environment.settle(runs, &is_settled).await;
    // They stay so.
    sleep(Duration::from_secs(1)).await;
    let named = Named::read(environment).await;
    let problem = |run: &Run| {
        let result = check::always(environment, run).and_then(|()| is_settled(run, &named));
        let witnessed = environment.base.witness.objection(&run.account).map_or(Ok(()), Err);
        let is_case = run.script.environment.is_none();
        let met = if is_case { check::fault_met(environment, run) } else { Ok(()) };
        result.and(witnessed).and(met).err()
    };
    runs.iter().enumerate().filter_map(|(index, run)| Some((index, problem(run)?))).collect()
}

#[test]
fn every_step_has_a_case_with_each_of_its_faults() {
    let cases = Script::cases();
    let is_of_graph = |act: &&Act| matches!(act, Act::FailGraph(..));
    let count = cases.iter().flat_map(|case| &case.acts).map(|(_, act)| act).filter(is_of_graph).count();
    assert_eq!(count, 12 + 2 * 15);
    assert!(cases.len() > 70, "{}", cases.len());
}
