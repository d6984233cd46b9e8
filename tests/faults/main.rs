//! Exactly one registration through every fault: the operator as its own process on a real kube-apiserver,
//! with a double of Woodpecker that fails in every way, and kills at every moment.
#![allow(clippy::too_many_lines, reason = "a test is one sequence of steps")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unwrap_in_result, missing_docs)]
#![allow(clippy::print_stderr, reason = "progress is told on the terminal")]

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
use self::summary::Summary;

/// Environments that run at the same time. They wait most of the time.
const WORLDS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn every_request_outcome_leaves_one_registration() {
    play_cases(&Case::all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kill_point_leaves_one_registration() {
    let tally = Arc::new(Summary::new());
    play_all(script::sample(), &tally).await;
    conclude(&tally);
}

/// As many runs as requested, see `make faults`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "as long as one likes; `make faults` runs it"]
async fn many_runs() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let first = number("SEED").unwrap_or_default();
    let tally = Arc::new(Summary::new());
    play_all(script::worlds(first..first + number("RUNS").unwrap_or(1)), &tally).await;
    if let Some(path) = env::var_os("FAULTS_REPORT") {
        std::fs::write(kit::workspace().join(path), tally.report(first)).expect("the report can be written");
    }
    conclude(&tally);
}

/// Plays cases side by side under one operator.
async fn play_cases(cases: &[Case]) {
    let world = Environment::set(Kind::Plain).await;
    let tally = Summary::new();
    let mut runs = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        runs.push(case::set(&world, *case, number).await);
    }
    let playing =
        cases.iter().zip(&mut runs).zip(0..).map(|((case, run), number)| case.play(&world, run, number));
    let played = join_all(playing).await;
    for (index, result) in played.into_iter().enumerate() {
        if let Err(trouble) = result {
            tally.fail(format!("{:?}: {trouble}\n{}", cases[index], diagnostics::tell(&world, &runs[index])));
        }
    }
    for (index, trouble) in world.verdict(&runs).await {
        tally.fail(format!(
            "{:?}, in the end: {trouble}\n{}",
            cases[index],
            diagnostics::tell(&world, &runs[index])
        ));
    }
    tally.take_in(Kind::Plain, &world, &runs);
    world.end().await;
    conclude(&tally);
}

/// Plays environments, several at a time.
async fn play_all(worlds: Vec<Range<u64>>, tally: &Arc<Summary>) {
    stream::iter(worlds)
        .for_each_concurrent(WORLDS, |seeds| async move {
            // A failed environment does not end the others.
            let played = tokio::spawn(runner::play(seeds.clone(), Arc::clone(tally))).await;
            if let Err(error) = played {
                tally.fail(format!("seeds {seeds:?}: {error}"));
            }
            eprintln!("{}", tally.progress());
        })
        .await;
}

fn conclude(tally: &Summary) {
    eprintln!("{}\n{}", tally.progress(), tally.tables());
    let failures = tally.failures();
    let first_lines: Vec<&str> = failures.iter().filter_map(|failure| failure.lines().next()).collect();
    assert!(failures.is_empty(), "{} failures, see above:\n{}", failures.len(), first_lines.join("\n"));
}
