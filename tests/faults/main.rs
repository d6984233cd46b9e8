//! Exactly one registration, and one client secret of a rotation, through every fault: the operator as its own process on a real kube-apiserver,
//! with doubles of Woodpecker and Graph that fail in every way, and kills at every moment.
#![allow(clippy::too_many_lines, reason = "a test is one sequence of steps")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unwrap_in_result, missing_docs)]
#![allow(clippy::print_stderr, reason = "progress is printed to the terminal")]

mod case;
mod diagnostics;
mod environment;
#[allow(dead_code, unused_imports, reason = "shared with the integration tests, which use all of it")]
#[path = "../integration/harness/mod.rs"]
mod harness;
mod kill_point;
mod kind;
mod object;
mod outcome;
mod processes;
mod rng;
mod rotation;
mod run;
mod runner;
mod script;
mod summary;
mod witness;

use std::env;
use std::ops::Range;
use std::sync::Arc;

use futures::future::join_all;
use futures::{StreamExt, stream};

use self::case::Case;
use self::environment::Environment;
use self::kind::Kind;
use self::summary::{Part, Summary};

/// Executes the runs of one environment.
type Execute<F> = fn(Range<u64>, Arc<Summary>) -> F;

/// Environments that run at the same time. They wait most of the time.
const CONCURRENT_ENVIRONMENTS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn every_request_outcome_leaves_one_registration() {
    run_cases(&Case::all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kill_point_leaves_one_registration() {
    let summary = Arc::new(Summary::new(Part::Registrations));
    run_environments(script::sample(), &summary, runner::execute).await;
    finish(&summary);
}

/// Each fault at each step and a kill at each moment: two minutes, in which nothing else may use the machine.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, and needs the machine alone; `make faults` runs it"]
async fn many_rotation_cases() {
    let summary = Arc::new(Summary::new(Part::Rotations));
    tokio::join!(
        rotation::execute_cases(Arc::clone(&summary)),
        run_environments(rotation::sample(), &summary, rotation::execute),
    );
    finish(&summary);
}

/// As many runs as requested, see `make faults`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as long as requested; `make faults` runs it"]
async fn many_registration_runs() {
    many_runs(Part::Registrations, runner::execute).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as long as requested; `make faults` runs it"]
async fn many_rotation_runs() {
    many_runs(Part::Rotations, rotation::execute).await;
}

async fn many_runs<F: Future<Output = ()> + Send + 'static>(part: Part, execute: Execute<F>) {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let first = number("SEED").unwrap_or_default();
    let summary = Arc::new(Summary::new(part));
    let seeds = script::environments(first..first + number("RUNS").unwrap_or(1));
    run_environments(seeds, &summary, execute).await;
    if let Some(path) = env::var_os("FAULTS_REPORT") {
        let path = kit::workspace().join(path);
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(path, summary.report(first, &before)).expect("the report can be written");
    }
    finish(&summary);
}

/// Executes cases side by side under one operator.
async fn run_cases(cases: &[Case]) {
    let environment = Environment::start(Kind::Plain).await;
    let summary = Summary::new(Part::Registrations);
    let mut runs = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        runs.push(case::create_run(&environment, *case, number).await);
    }
    let running = cases
        .iter()
        .zip(&mut runs)
        .zip(0..)
        .map(|((case, run), number)| case.execute(&environment, run, number));
    let finished = join_all(running).await;
    for (index, result) in finished.into_iter().enumerate() {
        if let Err(problem) = result {
            summary.fail(format!(
                "{:?}: {problem}\n{}",
                cases[index],
                diagnostics::of_run(&environment, &runs[index])
            ));
        }
    }
    for (index, problem) in environment.verify(&runs).await {
        summary.fail(format!(
            "{:?}, at the end: {problem}\n{}",
            cases[index],
            diagnostics::of_run(&environment, &runs[index])
        ));
    }
    summary.add(Kind::Plain, &environment, &runs);
    environment.end().await;
    finish(&summary);
}

/// Executes environments, several at a time.
async fn run_environments<F: Future<Output = ()> + Send + 'static>(
    environments: Vec<Range<u64>>,
    summary: &Arc<Summary>,
    execute: Execute<F>,
) {
    stream::iter(environments)
        .for_each_concurrent(CONCURRENT_ENVIRONMENTS, |seeds| async move {
            // A failed environment does not end the others.
            let finished = tokio::spawn(execute(seeds.clone(), Arc::clone(summary))).await;
            if let Err(error) = finished {
                summary.fail(format!("seeds {seeds:?}: {error}"));
            }
            eprintln!("{}", summary.progress());
        })
        .await;
}

fn finish(summary: &Summary) {
    eprintln!("{}\n{}", summary.progress(), summary.tables());
    let failures = summary.failures();
    let first_lines: Vec<&str> = failures.iter().filter_map(|failure| failure.lines().next()).collect();
    assert!(failures.is_empty(), "{} failures, see above:\n{}", failures.len(), first_lines.join("\n"));
}
