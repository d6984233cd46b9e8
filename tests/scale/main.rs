//! The operator with many objects: figures and ratios of one run of the real operator on a real API server.
//! `make scale` runs it and checks each figure that has a bound. With `SCALE_REPORT` the figures are written
//! to that file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[allow(dead_code, unused_imports)]
#[path = "../integration/harness/mod.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../integration/keyring_access.rs"]
mod keyring_access;
mod many;
mod neighbours;
mod re_encryption;
mod readings;

use std::fmt::Write;
use std::time::{Duration, Instant};

use graph_credential_operator::api::MicrosoftGraphCredential;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use kube::api::ListParams;
use serde_json::json;

use crate::harness::{TENANT, TestEnv};

/// Duration of a request at Woodpecker.
const SERVICE: Duration = Duration::from_millis(50);

/// How long a measurement may take at most.
const TIMEOUT: Duration = Duration::from_mins(15);

/// The introduction of the report.
const ABOUT: &str = "# Scale

Written by `make scale`: an optimized build of the operator runs as one process on the same machine as a real etcd, a
real kube-apiserver and test doubles of Microsoft and Woodpecker. Each Woodpecker request takes 50 ms. Each account
processes one request at a time.
";

/// The figures, printed as they are measured.
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
    re_encryption::five_thousand_records_under_another_key(&mut report).await;
    many::a_thousand_objects_at_one_account(&mut report).await;
    neighbours::twenty_accounts_side_by_side(&mut report).await;
    readings::a_thousand_apps_in_fifty_tenants(&mut report).await;
    if let Some(path) = std::env::var_os("SCALE_REPORT") {
        std::fs::write(kit::workspace().join(path), report.0).expect("the report can be written");
    }
}

fn client_id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// Applies an object for an app of its own.
async fn apply(env: &TestEnv, number: usize, account: &str) {
    let client = client_id(number);
    env.entra.add_app(TENANT, &client);
    env.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
    let spec = json!({"clientId": client, "destination": {"woodpecker": {"accountRef": {"name": account}}}});
    env.credential(&format!("app-{number}"), spec).await;
}

/// The number of Ready objects at these accounts.
async fn ready(env: &TestEnv, accounts: &[String]) -> usize {
    let objects = env.api::<MicrosoftGraphCredential>().list(&ListParams::default()).await.unwrap();
    let is_ready = |object: &&MicrosoftGraphCredential| {
        harness::condition(object, ConditionType::Ready)
            .is_some_and(|ready| ready.status == ConditionStatus::True)
    };
    let is_there = |object: &&MicrosoftGraphCredential| {
        object.account_name().is_some_and(|account| accounts.contains(&account.name))
    };
    objects.items.iter().filter(is_there).filter(is_ready).count()
}

async fn wait_for(env: &TestEnv, accounts: &[String], number: usize) {
    let started = Instant::now();
    let mut printed = 0;
    loop {
        // The whole list is a load on the API server, so it is read only at the end.
        let registered: usize =
            accounts.iter().map(|account| env.woodpecker.credentials(account).len()).sum();
        let ready = if registered < number { registered } else { ready(env, accounts).await };
        if ready >= number {
            return;
        }
        if ready >= printed + 100 {
            println!("  {ready} of {number} after {:.1} s", started.elapsed().as_secs_f64());
            printed = ready;
        }
        assert!(started.elapsed() < TIMEOUT, "{ready} of {number} after {TIMEOUT:?}\n{}", env.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
