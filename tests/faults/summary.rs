//! Summary of the runs and their results.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use kit::graph::Op as GraphOp;
use kit::woodpecker::Op;

use crate::environment::Environment;
use crate::harness::TENANT;
use crate::kill_point::KillPoint;
use crate::kind::Kind;
use crate::rotation::{RotationEnvironment, RotationRun};
use crate::run::Run;

/// What the runs are about. Each has a part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Registrations,
    Rotations,
}

pub struct Summary {
    part: Part,
    start: Instant,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    runs: BTreeMap<Kind, usize>,
    deletions: usize,
    created: usize,
    removed: usize,
    objects: usize,
    requests: usize,
    kills: BTreeMap<KillPoint, usize>,
    /// By fault and operation.
    faults: BTreeMap<String, BTreeMap<&'static str, usize>>,
    failures: Vec<String>,
}

// === impl Summary ===

impl Summary {
    pub fn new(part: Part) -> Self {
        Self { part, start: Instant::now(), counts: Mutex::default() }
    }

    pub fn add(&self, kind: Kind, environment: &Environment, runs: &[Run]) {
        let mut counts = self.lock();
        *counts.runs.entry(kind).or_default() += runs.len();
        counts.deletions += environment.witness.count();
        for run in runs {
            counts.objects += run.objects.len();
            counts.add_requests(environment, &run.account);
        }
        counts.add_kills(environment);
    }

    pub fn add_rotations(&self, kind: Kind, environment: &RotationEnvironment, runs: &[RotationRun]) {
        let mut counts = self.lock();
        *counts.runs.entry(kind).or_default() += runs.len();
        for run in runs {
            counts.add_requests(&environment.base, &run.account);
            let history = environment.graph.history(TENANT, &run.client);
            counts.created += history.iter().filter(|it| it.added_by.is_some()).count();
            counts.removed += history.iter().filter(|it| it.removed_by.is_some()).count();
        }
        for request in environment.graph.requests() {
            counts.requests += 1;
            let column = match request.op {
                GraphOp::AddPassword => "addPassword",
                GraphOp::RemovePassword => "removePassword",
                GraphOp::Application | GraphOp::ListApplications | GraphOp::ServicePrincipal => "reading",
            };
            if let Some(fault) = request.fault {
                *counts.faults.entry(fault).or_default().entry(column).or_default() += 1;
            }
        }
        for (path, failure) in environment.base.failed_writes() {
            let column = if path.contains("/sealedgraphcredentials") { "record" } else { "object" };
            let fault = format!("API server, {failure:?}");
            *counts.faults.entry(fault).or_default().entry(column).or_default() += 1;
        }
        counts.add_kills(&environment.base);
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
        let runs: usize = counts.runs.values().sum();
        let (delayed, restored) = (runs_of(Kind::DelayedWatches), runs_of(Kind::Restored));
        let what = match self.part {
            Part::Registrations => format!(
                "{runs} runs ({delayed} with delayed watches, {restored} with a restored API server), {} objects, {} \
                 requests, {} deletions of existing credentials",
                counts.objects, counts.requests, counts.deletions
            ),
            Part::Rotations => format!(
                "{runs} runs ({delayed} with delayed watches), {} requests, {} client secrets created and {} removed",
                counts.requests, counts.created, counts.removed
            ),
        };
        let seconds = self.start.elapsed().as_secs();
        format!("{what}, {kills} kills, {} failures, {seconds} s", counts.failures.len())
    }

    /// `docs/evidence/faults.md`, with this part of it replaced.
    pub fn report(&self, first: u64, before: &str) -> String {
        let part_of = |part: Part| {
            let parts = before.split("\n## ");
            let text = parts.into_iter().find(|it| it.starts_with(part.heading()));
            text.map(|text| format!("\n## {}\n", text.trim_end())).unwrap_or_default()
        };
        let parts = [Part::Registrations, Part::Rotations]
            .map(|part| if part == self.part { self.own_part(first) } else { part_of(part) });
        format!("# Fault injection\n\nWritten by `make faults`; see CONTRIBUTING.md.\n{}", parts.concat())
    }

    fn own_part(&self, first: u64) -> String {
        let (heading, progress, tables) = (self.part.heading(), self.progress(), self.tables());
        let failures: String = self
            .failures()
            .iter()
            .filter_map(|it| it.lines().next())
            .fold(String::new(), |text, line| text + "- " + line + "\n");
        let failures = if failures.is_empty() { failures } else { format!("\n{failures}") };
        format!("\n## {heading}\n\nRuns from seed {first} on: {progress}.\n\n{tables}{failures}")
    }

    pub fn failures(&self) -> Vec<String> {
        self.lock().failures.clone()
    }

    /// How often each fault hit each operation, and how often the operator was killed at each kill point.
    pub fn tables(&self) -> String {
        let counts = self.lock();
        let columns = self.part.columns();
        let mut text =
            format!("| fault | {} |\n| --- |{}\n", columns.join(" | "), " --: |".repeat(columns.len()));
        for (fault, by_op) in &counts.faults {
            let cells: Vec<String> =
                columns.iter().map(|op| by_op.get(op).copied().unwrap_or_default().to_string()).collect();
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

// === impl Part ===

impl Part {
    fn heading(self) -> &'static str {
        match self {
            Self::Registrations => "Registrations",
            Self::Rotations => "Rotations",
        }
    }

    /// The operations, as columns.
    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Registrations => &["list", "create", "rename", "update", "delete"],
            Self::Rotations => &[
                "reading",
                "addPassword",
                "removePassword",
                "list",
                "create",
                "update",
                "delete",
                "record",
                "object",
            ],
        }
    }
}

// === impl Counts ===

impl Counts {
    /// The requests at Woodpecker.
    fn add_requests(&mut self, environment: &Environment, account: &str) {
        for request in environment.env.woodpecker.requests(account) {
            self.requests += 1;
            let column = match request.op {
                Op::List => "list",
                Op::Create => "create",
                Op::Rename => "rename",
                Op::Update => "update",
                Op::Delete => "delete",
                Op::Companies | Op::Me | Op::ListMailboxes | Op::Connect | Op::Other => "other",
            };
            if let Some(fault) = request.fault {
                *self.faults.entry(fault.to_owned()).or_default().entry(column).or_default() += 1;
            }
        }
    }

    fn add_kills(&mut self, environment: &Environment) {
        for kill_point in environment.processes.kill_points() {
            *self.kills.entry(kill_point).or_default() += 1;
        }
    }
}

#[test]
fn a_report_keeps_the_other_part() {
    let first = Summary::new(Part::Registrations).report(1, "");
    let both = Summary::new(Part::Rotations).report(2, &first);
    let again = Summary::new(Part::Registrations).report(3, &both);
    for text in [&both, &again] {
        let places = ["# Fault injection", "## Registrations", "## Rotations"].map(|part| text.find(part));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
    }
    assert!(
        again.contains("seed 3 on") && again.contains("seed 2 on") && !again.contains("seed 1 on"),
        "{again}"
    );
    assert_eq!(Summary::new(Part::Registrations).report(3, &again).lines().count(), again.lines().count());
}
