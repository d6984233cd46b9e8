//! Accounts at a slow Woodpecker: how long one of them is without a request, and many of them side by side.

use std::time::Duration;

use graph_credential_operator::api::{RECONCILE_REQUESTED_AT, WoodpeckerAccount};
use kit::process::Process;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::environment::{ACCOUNT, Environment};
use crate::figures::{Figures, float};
use crate::many::driven;
use crate::objects::{Kind, account_name};
use crate::plan::{Plan, To};
use crate::proc;

/// Duration of a request at Woodpecker.
const SERVICE: Duration = Duration::from_millis(50);

/// Objects of each of many accounts.
const EACH: usize = 20;

/// The two numbers of accounts that are compared.
const FEW: usize = 10;
const MANY: usize = 300;

/// One account with many new objects: the share of the time in which Woodpecker has no request.
pub async fn queue(plan: &Plan, figures: &mut Figures) {
    let number = plan.usual_size();
    let environment = Environment::start().await;
    environment.woodpecker.service_time(SERVICE);
    environment.woodpecker.enforce_concurrency(true);
    let process = environment.operator(&[]).await;
    environment.account(ACCOUNT).await;
    let kind = Kind::plain(To::Woodpecker);
    environment.sources(&kind, 0..number).await;
    environment.settle(&process, &mut environment.audit(), 0).await;
    let (before, busy) =
        (environment.woodpecker.requests(ACCOUNT).len(), environment.woodpecker.busy(ACCOUNT));
    let mut of_queue = driven(&environment, &process, number, environment.objects(&kind, 0..number)).await;
    let requests = environment.woodpecker.requests(ACCOUNT);
    let (first, last) = (requests[before].at, requests.last().unwrap().at);
    let span = last.duration_since(first).as_secs_f64() + SERVICE.as_secs_f64();
    let busy = (environment.woodpecker.busy(ACCOUNT) - busy).as_secs_f64();
    of_queue.set("woodpecker_requests", float(requests.len() - before) / float(number));
    of_queue.set("idle_percent", (1.0 - busy / span).max(0.0) * 100.0);
    of_queue.set("most_at_a_time", float(environment.woodpecker.max_in_flight(ACCOUNT)));
    of_queue.print("queue/");
    figures.extend("queue/", &of_queue);
    end(environment, process).await;
}

/// Many accounts at a slow Woodpecker, the same at one that responds at once, and few.
pub async fn measure(plan: &Plan, figures: &mut Figures) {
    let many = plan.sized(MANY);
    let few = FEW.min(many);
    let at_once = side_by_side(many, Duration::ZERO).await;
    let slow = side_by_side(many, SERVICE).await;
    let of_few = side_by_side(few, Duration::ZERO).await;
    let mut all = Figures::default();
    all.set("accounts", float(many));
    all.extend("at_once/", &at_once);
    all.extend("slow/", &slow);
    all.extend("few/", &of_few);
    let ratio =
        |name: &str, one: &Figures, other: &Figures| one.get(name).unwrap() / other.get(name).unwrap();
    all.set("ratio/seconds", ratio("seconds", &slow, &at_once));
    all.set("ratio/reconcile_cpu_ms", ratio("reconcile_cpu_ms", &at_once, &of_few));
    all.print("accounts/");
    figures.extend("accounts/", &all);
}

async fn side_by_side(accounts: usize, service: Duration) -> Figures {
    let environment = Environment::start().await;
    let process = environment.operator(&[]).await;
    for number in 0..accounts {
        environment.account(&account_name(number)).await;
    }
    environment.woodpecker.service_time(service);
    let number = accounts * EACH;
    let kind = Kind { accounts, ..Kind::plain(To::Woodpecker) };
    environment.sources(&kind, 0..number).await;
    environment.settle(&process, &mut environment.audit(), 0).await;
    let mut figures = driven(&environment, &process, number, environment.objects(&kind, 0..number)).await;
    environment.woodpecker.service_time(Duration::ZERO);
    figures.set("reconcile_cpu_ms", reconcile_cpu(&environment, &process, accounts).await);
    end(environment, process).await;
    figures
}

/// CPU of the operator for one reconcile of an account whose objects are all settled: the number of
/// reconciles in the same time does not depend on the number of accounts.
async fn reconcile_cpu(environment: &Environment, process: &Process, accounts: usize) -> f64 {
    // The last registrations still have counts to be written.
    tokio::time::sleep(Duration::from_secs(10)).await;
    environment.settle(process, &mut environment.audit(), 0).await;
    let (cpu, api) = (proc::cpu(process.pid()), environment.api::<WoodpeckerAccount>());
    for number in 0..MANY {
        let annotations = json!({RECONCILE_REQUESTED_AT: number.to_string()});
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        api.patch(&account_name(number % accounts), &PatchParams::default(), &patch).await.unwrap();
        tokio::time::sleep(SERVICE).await;
    }
    environment.settle(process, &mut environment.audit(), 0).await;
    (proc::cpu(process.pid()) - cpu) / float(MANY)
}

async fn end(environment: Environment, mut process: Process) {
    process.stop().await.expect("the operator ends");
    environment.end().await;
}
