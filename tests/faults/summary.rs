//! Summary of the runs and their results.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use kit::woodpecker::Op;

use crate::environment::Environment;
use crate::kill_point::KillPoint;
use crate::kind::Kind;
use crate::outcome::OPS;
use crate::run::Run;

pub struct Summary {
    start: Instant,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    runs: BTreeMap<Kind, usize>,
    deletions: usize,
    objects: usize,
    requests: usize,
    kills: BTreeMap<KillPoint, usize>,
    /// By fault and operation.
    faults: BTreeMap<&'static str, BTreeMap<Op, usize>>,
    failures: Vec<String>,
}

// === impl Summary ===

impl Summary {
    pub fn new() -> Self {
        Self { start: Instant::now(), counts: Mutex::default() }
    }

    pub fn add(&self, kind: Kind, environment: &Environment, runs: &[Run]) {
        let mut counts = self.lock();
        *counts.runs.entry(kind).or_default() += runs.len();
        counts.deletions += environment.witness.count();
        for run in runs {
            counts.objects += run.objects.len();
            for request in environment.env.woodpecker.requests(&run.account) {
                counts.requests += 1;
                if let Some(fault) = request.fault {
                    *counts.faults.entry(fault).or_default().entry(request.op).or_default() += 1;
                }
            }
        }
        for kill_point in environment.processes.kill_points() {
            *counts.kills.entry(kill_point).or_default() += 1;
        }
    }

    /// Printed at once, because a long run may not reach its end.
    pub fn fail(&self, failure: String) {
        eprintln!("FAILED {failure}");
        self.lock().failures.push(failure);
    }

    /// One line of progress.
    pub fn progress(&self) -> String {
        let counts = self.lock();
        let kills: usize = counts.kills.values().sum();
        let runs_of = |kind| counts.runs.get(&kind).copied().unwrap_or_default();
        format!(
            "{} runs ({} with delayed watches, {} with a restored API server), {} objects, {} requests, {} deletions \
             of existing credentials, {kills} kills, {} failures, {} s",
            counts.runs.values().sum::<usize>(),
            runs_of(Kind::DelayedWatches),
            runs_of(Kind::Restored),
            counts.objects,
            counts.requests,
            counts.deletions,
            counts.failures.len(),
            self.start.elapsed().as_secs()
        )
    }

    /// The summary for `docs/evidence/faults.md`.
    pub fn report(&self, first: u64) -> String {
        let progress = self.progress();
        let tables = self.tables();
        let failures: Vec<String> =
            self.failures().iter().filter_map(|it| it.lines().next()).map(|it| format!("- {it}")).collect();
        format!(
            "# Fault injection\n\nWritten by `make faults`; see CONTRIBUTING.md. Runs from seed {first} on: {progress}.\n\n{tables}\n{}\n",
            failures.join("\n")
        )
    }

    pub fn failures(&self) -> Vec<String> {
        self.lock().failures.clone()
    }

    /// How often each fault hit each operation, and how often the operator was killed at each kill point.
    pub fn tables(&self) -> String {
        let counts = self.lock();
        let mut text =
            "| fault | list | create | rename | update | delete |\n| --- | --: | --: | --: | --: | --: |\n"
                .to_owned();
        for (fault, by_op) in &counts.faults {
            let cells = OPS.map(|op| by_op.get(&op).copied().unwrap_or_default().to_string());
            let _ = writeln!(text, "| {fault} | {} |", cells.join(" | "));
        }
        text += "\n| killed at | times |\n| --- | --: |\n";
        for (kill_point, times) in &counts.kills {
            let _ = writeln!(text, "| {kill_point:?} | {times} |");
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap()
    }
}
