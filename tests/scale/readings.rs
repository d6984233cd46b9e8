//! Readings of the expiry dates of many apps at Microsoft Entra.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use graph_credential_operator::api::{EntraIdentity, MicrosoftGraphCredential};
use kit::graph::{Graph, PasswordEntry};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{QUIET_TIME, TestEnv, eventually};
use crate::{Report, client_id};

const TENANTS: usize = 50;
const APPS: usize = 1000;
const IDENTITY: &str = "11111111-480e-4a17-9b85-3467967bd179";
const KEY: &str = "670007de-a1b2-4c3d-8e5f-678901234567";
const END: &str = "2027-11-28T10:00:00Z";

fn tenant(number: usize) -> String {
    format!("{:08x}-aaf4-4f7c-9dc2-2c9160d1cb32", number % TENANTS)
}

/// Settled apps, whose readings are due once a day.
pub(crate) async fn a_thousand_apps_in_fifty_tenants(report: &mut Report) {
    report.section(&format!("{APPS} apps in {TENANTS} tenants whose expiry is read from Entra"));
    let mut env = TestEnv::bare().await;
    let graph = Graph::start().await;
    env.log_filter = "warn,graph_credential_operator=info";
    env.extra_args.extend(["--entra-identities".to_owned(), "--microsoft-graph".to_owned(), graph.url()]);
    env.start_operator().await;
    set_up(&env, &graph).await;
    wait_for_readings(&env, &graph, 0).await;
    report.figure(&format!("until the first date of each is known: {}", counts(&env, &graph, 0, 0).0));
    for day in 1..=2 {
        env.stop_operator().await;
        let_a_day_pass(&env).await;
        let (readings, tokens) = (graph.requests().len(), env.entra.requests().len());
        env.start_operator().await;
        wait_for_readings(&env, &graph, readings).await;
        tokio::time::sleep(QUIET_TIME).await;
        let (text, most) = counts(&env, &graph, readings, tokens);
        report.figure(&format!(
            "day {day}, after a restart at which all are due: {text} (bound: 1 for each app)"
        ));
        assert_eq!(most, 1, "{text}");
    }
}

async fn set_up(env: &TestEnv, graph: &Graph) {
    env.secret("reader", &[("client-secret", "identity-secret")]).await;
    env.secret("shared", &[("client_secret", "s3cret-one")]).await;
    let grants: Vec<Value> = (0..TENANTS)
        .map(|of| {
            let clients: Vec<String> = (of..APPS).step_by(TENANTS).map(client_id).collect();
            env.entra.set_secrets(&tenant(of), IDENTITY, &["identity-secret"]);
            env.entra.set_roles(&tenant(of), IDENTITY, &["Application.Read.All"]);
            json!({"namespaces": [env.namespace], "tenantId": tenant(of), "clientIds": clients})
        })
        .collect();
    let auth = json!({"clientSecretRef": {"name": "reader"}});
    let spec = json!({"clientId": IDENTITY, "tenantId": tenant(0), "auth": auth, "grants": grants});
    env.apply::<EntraIdentity>("reader", json!({"spec": spec})).await.expect("the identity can be applied");
    for number in 0..APPS {
        let (tenant, client) = (tenant(number), client_id(number));
        env.entra.set_secrets(&tenant, &client, &["s3cret-one"]);
        graph.set_application(&tenant, &client, &[PasswordEntry::of(KEY, "s3cret-one", END)]);
        let spec = json!({
            "tenantId": tenant, "clientId": client, "secretRef": {"name": "shared"},
            "entra": {"identityRef": {"name": "reader"}, "expiry": "Follow"},
            "destination": {"woodpecker": null, "store": {}}
        });
        env.credential(&format!("app-{number}"), spec).await;
    }
}

/// All readings were made so long ago that the next ones are due.
async fn let_a_day_pass(env: &TestEnv) {
    let before = jiff::Timestamp::now() - Duration::from_hours(25);
    let entra = json!({"lastReadTime": before.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
    let patch = Patch::Merge(json!({"status": {"entra": entra}}));
    let credentials = env.api::<MicrosoftGraphCredential>();
    for number in 0..APPS {
        let name = format!("app-{number}");
        credentials.patch_status(&name, &PatchParams::default(), &patch).await.expect("it can be changed");
    }
}

async fn wait_for_readings(env: &TestEnv, graph: &Graph, before: usize) {
    let deadline = std::time::Instant::now() + crate::TIMEOUT;
    loop {
        let requests = graph.requests();
        let read: BTreeSet<&str> = requests[before..].iter().map(|it| it.client.as_str()).collect();
        if read.len() >= APPS {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{} of {APPS}\n{}", read.len(), env.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    eventually("all dates are written", || async {
        let object = env.read(&format!("app-{}", APPS - 1)).await;
        let is_read = object.status.is_some_and(|status| status.entra.is_some());
        if is_read { Ok(()) } else { Err(env.log()) }
    })
    .await;
}

/// The requests since then in words, and the most for one app.
fn counts(env: &TestEnv, graph: &Graph, readings: usize, tokens: usize) -> (String, usize) {
    let mut of_apps: BTreeMap<String, usize> = BTreeMap::new();
    let requests = graph.requests();
    for request in &requests[readings..] {
        *of_apps.entry(request.client.clone()).or_default() += 1;
    }
    let most = of_apps.values().copied().max().unwrap_or_default();
    let all = env.entra.requests();
    let signed_in = all[tokens..].iter().filter(|it| it.client == IDENTITY).count();
    let sent = requests.len() - readings;
    (
        format!("{sent} requests to Microsoft Graph, at most {most} for one app, and {signed_in} sign-ins"),
        most,
    )
}
