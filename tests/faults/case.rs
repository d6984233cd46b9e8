//! The cases: one for each outcome of each operation, side by side under one operator, each with its own
//! account.

use std::collections::BTreeSet;
use std::time::Duration;

use kit::woodpecker::Op;
use tokio::time::{Instant, sleep};

use crate::environment::{Environment, TIMEOUT};
use crate::outcome::{OPS, Outcome};
use crate::run::Run;
use crate::script::{Act, Policy, Start};

/// Time between the starts of two cases.
const BETWEEN: Duration = Duration::from_millis(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub op: Op,
    pub outcome: Outcome,
    pub meanwhile: Meanwhile,
}

/// What happens to the object as soon as the request has got its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    Nothing,
    /// It is deleted, with the policy `Delete`.
    Deleted,
    /// The value that the request was to set changes again.
    ChangedAgain,
    /// Its earlier secret comes back.
    RestoreSecret,
}

// === impl Case ===

impl Case {
    /// The cases that must hold.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for op in OPS {
            for outcome in Outcome::of(op) {
                all.push(Self { op, outcome, meanwhile: Meanwhile::Nothing });
                // A create that takes effect after every wait, when the object is deleted, cannot be cleaned
                // up.
                if matches!(op, Op::Create | Op::Update) && outcome != Outcome::LateAfterSettle {
                    all.push(Self { op, outcome, meanwhile: Meanwhile::Deleted });
                }
                // A change that overwrites a later one after every wait cannot be noticed.
                if matches!(op, Op::Rename | Op::Update) && outcome != Outcome::LateAfterSettle {
                    all.push(Self { op, outcome, meanwhile: Meanwhile::ChangedAgain });
                }
                if op == Op::Update && outcome != Outcome::LateAfterSettle {
                    all.push(Self { op, outcome, meanwhile: Meanwhile::RestoreSecret });
                }
            }
        }
        all
    }

    /// The account's name.
    pub fn name(self) -> String {
        let end = match self.meanwhile {
            Meanwhile::Nothing => "",
            Meanwhile::Deleted => "-deleted",
            Meanwhile::ChangedAgain => "-again",
            Meanwhile::RestoreSecret => "-back",
        };
        format!("{:?}-{:?}{end}", self.op, self.outcome).to_lowercase()
    }

    /// Executes the case up to the point from which the run must settle; returns what prevented it. The cases
    /// start one after the other, because all at once would overload the machine at this pace.
    pub async fn execute(self, environment: &Environment, run: &mut Run, number: u32) -> Result<(), String> {
        sleep(BETWEEN * number).await;
        let inject = Act::InjectFault(self.op, self.outcome, 1);
        if self.op == Op::List {
            // The account lists first, and then the object before it creates.
            run.act(environment, Act::InjectFault(self.op, self.outcome, 2)).await;
        } else if self.op == Op::Create {
            run.act(environment, inject).await;
        }
        run.open(environment).await;
        run.act(environment, Act::Make(0, Policy::Delete)).await;
        match self.op {
            Op::List | Op::Create => {}
            Op::Rename => {
                settled(environment, run).await?;
                run.act(environment, inject).await;
                run.act(environment, Act::Rename(0)).await;
            }
            Op::Update => {
                settled(environment, run).await?;
                run.act(environment, inject).await;
                run.act(environment, Act::Rotate(0)).await;
            }
            Op::Delete => {
                settled(environment, run).await?;
                run.act(environment, inject).await;
                run.act(environment, Act::Delete(0)).await;
            }
            Op::Companies | Op::Me | Op::ListMailboxes | Op::Connect | Op::Other => {
                unreachable!("no case is about it")
            }
        }
        self.wait_for_fault(environment, run).await?;
        match (self.meanwhile, self.op) {
            (Meanwhile::Nothing, _) => {}
            (Meanwhile::Deleted, _) => run.act(environment, Act::Delete(0)).await,
            (Meanwhile::ChangedAgain, Op::Rename) => run.act(environment, Act::Rename(0)).await,
            (Meanwhile::RestoreSecret, _) => run.act(environment, Act::RestoreSecret(0)).await,
            (Meanwhile::ChangedAgain, _) => run.act(environment, Act::Rotate(0)).await,
        }
        settled(environment, run).await
    }

    async fn wait_for_fault(self, environment: &Environment, run: &Run) -> Result<(), String> {
        let times = if self.op == Op::List { 2 } else { 1 };
        until(&format!("the fault is injected {times} times"), || async {
            let requests = environment.env.woodpecker.requests(&run.account);
            let injected = requests.iter().filter(|it| it.op == self.op && it.fault.is_some()).count();
            if injected >= times { Ok(()) } else { Err(format!("{injected} times")) }
        })
        .await
    }
}

/// Waits until the run is as it should be, and meanwhile acts on rejections as a user does.
async fn settled(environment: &Environment, run: &Run) -> Result<(), String> {
    until("it settles", || async {
        let Some(problem) = environment.problem(run) else { return Ok(()) };
        environment.retry_rejected(run).await;
        Err(problem)
    })
    .await
}

async fn until<F: Future<Output = Result<(), String>>>(
    what: &str,
    is_so: impl Fn() -> F,
) -> Result<(), String> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match is_so().await {
            Ok(()) => return Ok(()),
            Err(last) if Instant::now() >= deadline => return Err(format!("{what}: not reached: {last}")),
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Creates the run of a case.
pub async fn create_run(environment: &Environment, case: Case, number: usize) -> Run {
    Run::create(environment, &case.name(), number as u64, &[Start::Nothing]).await
}

#[test]
fn every_outcome_of_every_operation_has_a_case() {
    let names: BTreeSet<String> = Case::all().into_iter().map(Case::name).collect();
    assert_eq!(names.len(), Case::all().len());
    assert!(names.len() >= 80, "{}", names.len());
}
