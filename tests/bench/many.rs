//! Many objects: the operator and the floor, each in its own environment, and what the operator does
//! afterwards with all objects settled.

use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use kit::process::Process;

use crate::environment::{ACCOUNT, Environment};
use crate::figures::{Figures, float, quantile};
use crate::objects::{Kind, latencies};
use crate::plan::{Plan, Scenario, To};
use crate::{proc, settled};

/// Objects before the first measured one.
const WARM: usize = 20;

/// How long it takes until an account's counts are written.
const COUNTS: Duration = Duration::from_secs(10);

/// Objects that are created one at a time.
pub const ALONE: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Operator,
    Floor,
}

/// Figures of this destination at all sizes.
pub async fn measure(plan: &Plan, to: To, figures: &mut Figures) {
    for &size in &plan.sizes {
        let mut rounds = Vec::new();
        for _ in 0..plan.rounds {
            let floor = one(plan, to, size, Who::Floor).await;
            let operator = one(plan, to, size, Who::Operator).await;
            rounds.push(beside(&operator, &floor));
        }
        let ratio = |round: &Figures| round.get("ratio/objects_per_second").unwrap();
        let median = quantile(&rounds.iter().map(ratio).collect::<Vec<_>>(), 0.5);
        let counts = rounds.iter().find(|round| ratio(round).total_cmp(&median).is_eq()).unwrap();
        let prefix = format!("{}/{size}/", to.name());
        counts.print(&prefix);
        figures.extend(&prefix, counts);
    }
}

/// Both, and the ratio of the operator to the floor.
fn beside(operator: &Figures, floor: &Figures) -> Figures {
    let mut both = Figures::default();
    both.extend("operator/", operator);
    both.extend("floor/", floor);
    for name in ["objects_per_second", "operator_cpu_ms", "apiserver_cpu_ms", "alone/p50_ms", "alone/p99_ms"]
    {
        if let (Some(measured), Some(least)) = (operator.get(name), floor.get(name)) {
            both.set(format!("ratio/{name}"), measured / least);
        }
    }
    both
}

async fn one(plan: &Plan, to: To, size: usize, who: Who) -> Figures {
    println!("{} {size}, {}", to.name(), if who == Who::Operator { "operator" } else { "floor" });
    let environment = Environment::start().await;
    let process = match who {
        Who::Operator => environment.operator(&[]).await,
        Who::Floor => environment.floor(to).await,
    };
    match (to, who) {
        (To::Woodpecker, Who::Operator) => environment.account(ACCOUNT).await,
        (To::Woodpecker, Who::Floor) => {
            environment.woodpecker.add_account(ACCOUNT, &crate::environment::api_key(ACCOUNT));
        }
        (To::Store, _) => {}
    }
    let kind = Kind::plain(to);
    let (batch, alone) = (WARM..WARM + size, WARM + size..WARM + size + ALONE);
    environment.sources(&kind, 0..alone.end).await;
    environment.one_at_a_time(&kind, 0..WARM).await;
    environment.settle(&process, &mut environment.audit(), 0).await;
    let mut figures = driven(&environment, &process, size, environment.objects(&kind, batch.clone())).await;
    assert_eq!(environment.ready().await, WARM + size, "all are ready");
    figures.set("settled_mib", proc::memory(process.pid()));
    figures.extend("", &latencies("alone/", &environment.one_at_a_time(&kind, alone.clone()).await));
    tokio::time::sleep(COUNTS).await;
    environment.settle(&process, &mut environment.audit(), 0).await;
    if who == Who::Operator {
        afterwards(plan, environment, process, to, 0..alone.end, size, &mut figures).await;
    } else {
        drop(process);
        environment.end().await;
    }
    figures
}

/// What the operator does with all objects settled.
async fn afterwards(
    plan: &Plan,
    mut environment: Environment,
    mut process: Process,
    to: To,
    all: Range<usize>,
    size: usize,
    figures: &mut Figures,
) {
    figures.extend("relist/", &settled::relist(&mut environment, &process).await);
    let is_usual = size == plan.usual_size();
    if plan.has(Scenario::Rotation) && size <= plan.usual_size() {
        figures
            .extend("rotation/", &driven(&environment, &process, all.len(), environment.rotate(all)).await);
    }
    if plan.has(Scenario::Restart) {
        figures.extend("restart/", &settled::restart(&environment, &mut process, to).await);
    }
    if plan.has(Scenario::Foreign) && is_usual {
        let number = plan.sized(settled::FOREIGN);
        figures.extend("foreign/", &settled::foreign(&environment, &mut process, to, number).await);
    }
    if plan.has(Scenario::Idle) && is_usual {
        figures.extend("idle/", &settled::idle(&environment, &mut process).await);
    }
    process.stop().await.expect("the operator ends");
    environment.end().await;
}

/// Figures for this number of objects: until each has its event, and the process is settled.
pub async fn driven(
    environment: &Environment,
    process: &Process,
    number: usize,
    work: impl Future<Output = ()>,
) -> Figures {
    let mut audit = environment.audit();
    proc::forget_peak(process.pid());
    let pids = [process.pid(), environment.apiserver_pid(), environment.cluster.etcd().pid()];
    let (cpu, started) = (pids.map(proc::cpu), Timestamp::now());
    work.await;
    environment.settle(process, &mut audit, number).await;
    let took = audit.last_event.unwrap().duration_since(started).as_secs_f64();
    let mut figures = audit.per_object(number);
    figures.set("objects_per_second", float(number) / took);
    figures.set("seconds", took);
    for (name, (pid, before)) in
        ["operator_cpu_ms", "apiserver_cpu_ms", "etcd_cpu_ms"].into_iter().zip(pids.into_iter().zip(cpu))
    {
        figures.set(name, (proc::cpu(pid) - before) / float(number));
    }
    figures.set("peak_mib", proc::peak(process.pid()));
    figures
}
