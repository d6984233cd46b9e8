//! What the operator does when everything is settled: a relist, a restart, idle hours, and Secrets of others.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kit::process::Process;
use kube::Api;
use kube::api::PostParams;

use crate::environment::{ACCOUNT, Environment, typed};
use crate::figures::{Figures, float};
use crate::plan::To;
use crate::proc;

/// Secrets that no object names.
pub const FOREIGN: usize = 20_000;

/// How many times faster the operator's clock runs for the idle hour.
const TIME_SCALE: u32 = 60;

/// One hour of that clock.
const HOUR: Duration = Duration::from_mins(1);

/// Forces all lists again with an API server that has just started: the peak of memory.
pub async fn relist(environment: &mut Environment, process: &Process) -> Figures {
    let mut audit = environment.audit();
    proc::forget_peak(process.pid());
    environment.restart_apiserver().await;
    // A watch that ended is opened again within half a minute.
    let started = Instant::now();
    let lists = |it: &str| it.starts_with("list microsoftgraphcredentials");
    while audit.matching(lists) == 0 {
        assert!(started.elapsed() < Duration::from_mins(2), "no list: {:#?}", audit.requests);
        tokio::time::sleep(Duration::from_millis(250)).await;
        audit.read();
    }
    environment.settle(process, &mut audit, 0).await;
    let mut figures = Figures::default();
    figures.set("peak_mib", proc::peak(process.pid()));
    figures.set("lists", float(audit.matching(lists)));
    figures.set("writes", float(audit.writes()));
    figures
}

/// Stops the operator and starts it again.
pub async fn restart(environment: &Environment, process: &mut Process, to: To) -> Figures {
    process.stop().await.expect("the operator ends");
    let mut audit = environment.audit();
    let (tokens, lists) =
        (environment.entra.requests().len(), environment.woodpecker.requests(ACCOUNT).len());
    let started = Instant::now();
    *process = environment.operator(&[]).await;
    let ready = started.elapsed();
    let settled = ready + environment.settle(process, &mut audit, 0).await;
    let mut figures = Figures::default();
    figures.set("ready_seconds", ready.as_secs_f64());
    figures.set("settled_seconds", settled.as_secs_f64());
    figures.set("operator_cpu_ms", proc::cpu(process.pid()));
    figures.set("settled_mib", proc::memory(process.pid()));
    figures.set("peak_mib", proc::peak(process.pid()));
    figures.set("requests", float(audit.total()));
    figures.set("lists", float(audit.matching(|it| it.starts_with("list "))));
    figures.set("writes", float(audit.writes()));
    figures.set("events", float(audit.events()));
    figures.set("token_calls", float(environment.entra.requests().len() - tokens));
    if to == To::Woodpecker {
        let sent = environment.woodpecker.requests(ACCOUNT).len() - lists;
        figures.set("woodpecker_requests", float(sent));
    }
    figures
}

/// An idle hour, by a clock that runs faster.
pub async fn idle(environment: &Environment, process: &mut Process) -> Figures {
    process.stop().await.expect("the operator ends");
    *process = environment.operator(&["--time-scale", &TIME_SCALE.to_string()]).await;
    // At this speed there are always requests, so nothing else shows that the start is over.
    tokio::time::sleep(HOUR / 4).await;
    let mut audit = environment.audit();
    let (tokens, sent) = (environment.entra.requests().len(), environment.woodpecker.requests(ACCOUNT).len());
    let cpu = proc::cpu(process.pid());
    tokio::time::sleep(HOUR).await;
    audit.read();
    let mut figures = Figures::default();
    figures.set("operator_cpu_ms", proc::cpu(process.pid()) - cpu);
    figures.set("requests", float(audit.total()));
    figures.set("writes", float(audit.writes()));
    figures.set("events", float(audit.events()));
    figures.set("token_calls", float(environment.entra.requests().len() - tokens));
    figures.set("woodpecker_requests", float(environment.woodpecker.requests(ACCOUNT).len() - sent));
    figures.set("settled_mib", proc::memory(process.pid()));
    figures
}

/// Secrets of others in another namespace.
pub async fn foreign(environment: &Environment, process: &mut Process, to: To, number: usize) -> Figures {
    let mut figures = Figures::default();
    figures.set("secrets", float(number));
    figures.set("before_mib", proc::memory(process.pid()));
    let namespaces: Api<Namespace> = Api::all(environment.client.clone());
    let namespace = typed(serde_json::json!({"metadata": {"name": "foreign"}}));
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    proc::forget_peak(process.pid());
    environment.foreign_secrets("foreign", number).await;
    environment.settle(process, &mut environment.audit(), 0).await;
    figures.set("live_mib", proc::memory(process.pid()));
    figures.set("live_peak_mib", proc::peak(process.pid()));
    figures.extend("restart/", &restart(environment, process, to).await);
    figures
}
