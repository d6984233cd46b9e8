//! How the operator does with many objects: figures and ratios of one run, by the real operator on a real API
//! server. Run with `make scale`; each figure that has a bound is checked against it. With `SCALE_REPORT` the
//! figures are written to that file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod many;
mod neighbours;
mod reseal;
#[allow(dead_code, unused_imports)]
#[path = "../promises/stage/mod.rs"]
mod stage;
#[path = "../promises/vault.rs"]
mod vault;

use std::fmt::Write;
use std::time::{Duration, Instant};

use graph_credential_operator::resources::MicrosoftGraphCredential;
use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use kube::api::ListParams;
use serde_json::json;

use crate::stage::{Stage, TENANT};

/// What one request takes at Woodpecker.
const SERVICE: Duration = Duration::from_millis(50);

/// How long all of it may take at most.
const PATIENCE: Duration = Duration::from_mins(15);

/// What the report says of itself.
const ABOUT: &str = "# Scale

Written by `make scale`: the operator in an optimized build, as one process beside a real etcd, a real kube-apiserver and
doubles of Microsoft and Woodpecker on the same machine. Each Woodpecker request takes 50 ms, one at a time per account.
";

/// The figures, told as they come.
struct Report(String);

impl Report {
    fn section(&mut self, title: &str) {
        println!("{title}");
        write!(self.0, "\n## {title}\n\n").unwrap();
    }

    fn figure(&mut self, what: &str) {
        println!("  {what}");
        writeln!(self.0, "- {what}").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn figures() {
    let mut report = Report(ABOUT.to_owned());
    reseal::five_thousand_records_under_another_key(&mut report).await;
    many::a_thousand_objects_at_one_account(&mut report).await;
    neighbours::twenty_accounts_side_by_side(&mut report).await;
    if let Some(path) = std::env::var_os("SCALE_REPORT") {
        std::fs::write(kit::workspace().join(path), report.0).expect("the report can be written");
    }
}

fn client_id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// Applies an object for an app of its own.
async fn apply(stage: &Stage, number: usize, account: &str) {
    let client = client_id(number);
    stage.entra.add_app(TENANT, &client);
    stage.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
    let spec = json!({"clientId": client, "destination": {"woodpecker": {"accountRef": {"name": account}}}});
    stage.credential(&format!("app-{number}"), spec).await;
}

/// How many objects at these accounts are Ready.
async fn ready(stage: &Stage, accounts: &[String]) -> usize {
    let objects = stage.api::<MicrosoftGraphCredential>().list(&ListParams::default()).await.unwrap();
    let is_ready = |object: &&MicrosoftGraphCredential| {
        stage::condition(object, ConditionType::Ready)
            .is_some_and(|ready| ready.status == ConditionStatus::True)
    };
    let is_there = |object: &&MicrosoftGraphCredential| {
        object.account_name().is_some_and(|account| accounts.contains(&account.name))
    };
    objects.items.iter().filter(is_there).filter(is_ready).count()
}

async fn wait_for(stage: &Stage, accounts: &[String], number: usize) {
    let started = Instant::now();
    let mut told = 0;
    loop {
        // The whole list weighs on the API server: it is asked for in the end alone.
        let registered: usize =
            accounts.iter().map(|account| stage.woodpecker.credentials(account).len()).sum();
        let ready = if registered < number { registered } else { ready(stage, accounts).await };
        if ready >= number {
            return;
        }
        if ready >= told + 100 {
            println!("  {ready} of {number} after {:.1} s", started.elapsed().as_secs_f64());
            told = ready;
        }
        assert!(started.elapsed() < PATIENCE, "{ready} of {number} after {PATIENCE:?}\n{}", stage.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
