//! Benchmarks of the operator and its REST API, beside bare programs that make the same requests in the same
//! run, on a real API server. `make bench` runs them. The environment selects what is measured (`plan.rs`),
//! and bounds are checked (`bounds.rs`). With `BENCH_REPORT=docs/evidence` the figures, pages and pictures
//! there are written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]
// A report of a few lines is built in the shortest way.
#![allow(clippy::format_push_string, clippy::format_collect)]

mod accounts;
mod audit;
mod bare;
mod beside;
mod bounds;
mod capacity;
mod client;
mod environment;
mod fat;
mod figures;
mod floor;
mod hostile;
#[allow(dead_code)]
#[path = "../integration/rest_api/http.rs"]
mod http;
mod many;
mod objects;
mod plan;
mod plot;
mod proc;
mod processes;
mod report;
mod rest;
mod sandbox;
mod settled;
mod table;

use crate::figures::{Figures, Kept};
use crate::plan::{Plan, Scenario};

#[tokio::test(flavor = "multi_thread")]
async fn figures() {
    let _only_once = rustls::crypto::ring::default_provider().install_default();
    let plan = Plan::from_env();
    let mut figures = Figures::default();
    for to in plan.destinations() {
        many::measure(&plan, to, &mut figures).await;
    }
    if plan.has(Scenario::Fat) {
        fat::measure(&plan, &mut figures).await;
    }
    if plan.has(Scenario::Queue) {
        accounts::queue(&plan, &mut figures).await;
    }
    if plan.has(Scenario::Accounts) {
        accounts::measure(&plan, &mut figures).await;
    }
    if plan.has(Scenario::Beside) {
        beside::measure(&plan, &mut figures).await;
    }
    if plan.has(Scenario::Hostile) {
        hostile::measure(&plan, &mut figures).await;
    }
    if plan.has(Scenario::Rest) {
        rest::measure(&plan, &mut figures).await;
    }
    if plan.has(Scenario::Sandbox) {
        sandbox::measure(&plan, &mut figures).await;
    }
    if let Some(folder) = &plan.report {
        let folder = kit::workspace().join(folder);
        let mut kept = Kept::read(&folder.join("bench.json"));
        if !plan.scenarios.is_empty() {
            kept.machine = proc::machine();
            kept.figures.replace_with(&figures);
        }
        report::write(&folder, &kept);
    }
    let results = bounds::hold(&figures);
    println!("bounds{}", if plan.is_small { " (a rehearsal, bounds are not checked)" } else { "" });
    for (line, holds) in &results {
        println!("  {} {line}", if *holds { "holds: " } else { "FAILS: " });
    }
    let failed: Vec<&str> =
        results.iter().filter(|(_, holds)| !holds).map(|(line, _)| line.as_str()).collect();
    assert!(plan.is_small || failed.is_empty(), "{} bounds fail:\n{}", failed.len(), failed.join("\n"));
}
