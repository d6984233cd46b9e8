//! How many requests the readings cost.

use std::collections::BTreeMap;

use super::*;

const TENANTS: usize = 5;
const APPS: usize = 20;

fn tenant(number: usize) -> String {
    format!("{:08x}-aaf4-4f7c-9dc2-2c9160d1cb32", number % TENANTS)
}

fn client(number: usize) -> String {
    format!("{number:08x}-480e-4a17-9b85-3467967bd179")
}

fn secret(number: usize) -> String {
    format!("s{number:02}~secret")
}

/// The apps are of every kind: with a secret on the application or on the service principal, one whose only secret has no
/// hint, and one whose secret expires soon.
fn set_up(env: &TestEnv, graph: &Graph) {
    let soon = (jiff::Timestamp::now() + Duration::from_hours(24 * 10)).to_string();
    for number in 0..APPS {
        let (tenant, client) = (tenant(number), client(number));
        env.entra.set_secrets(&tenant, IDENTITY, &["identity-secret"]);
        env.entra.set_roles(&tenant, IDENTITY, &["Application.Read.All"]);
        env.entra.set_secrets(&tenant, &client, &[&secret(number)]);
        let of = |end| PasswordEntry::of(KEY, &secret(number), end);
        let other = PasswordEntry::of(OTHER_KEY, "another", SAME_DAY);
        let (application, principal) = match number % 4 {
            0 => (vec![other, of(SAME_DAY)], Vec::new()),
            1 => (vec![other], vec![of(SAME_DAY)]),
            2 => (vec![of(SAME_DAY).without_hint()], Vec::new()),
            _ => (vec![of(&soon)], Vec::new()),
        };
        graph.set_application(&tenant, &client, &application);
        graph.set_service_principal(&tenant, &client, &principal);
    }
}

/// All readings were made so long ago that the next ones are due.
async fn let_a_day_pass(env: &TestEnv) {
    // A day and a tenth, divided by the time scale, is less than two hours.
    let before = jiff::Timestamp::now() - Duration::from_hours(2);
    let entra = json!({"lastReadTime": before.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
    let patch = Patch::Merge(json!({"status": {"entra": entra}}));
    let credentials = env.api::<MicrosoftGraphCredential>();
    for number in 0..APPS {
        let name = format!("app-{number}");
        credentials.patch_status(&name, &PatchParams::default(), &patch).await.expect("it can be changed");
    }
}

#[tokio::test]
async fn settled_apps_cost_one_request_a_day_each() {
    let (mut env, graph) = bare().await;
    set_up(&env, &graph);
    let namespace = env.namespace.clone();
    let in_tenant = |of: usize| (0..APPS).filter(move |number| number % TENANTS == of).map(client);
    let grants: Vec<Value> = (0..TENANTS)
        .map(|of| {
            let clients: Vec<String> = in_tenant(of).collect();
            json!({"namespaces": [namespace], "tenantId": tenant(of), "clientIds": clients})
        })
        .collect();
    env.start_operator().await;
    identity(&env, json!(grants)).await;
    for number in 0..APPS {
        let name = format!("app-{number}");
        env.secret(&name, &[("client_secret", &secret(number))]).await;
        let mut spec = entra("Follow");
        let app = json!({"tenantId": tenant(number), "clientId": client(number)});
        let rest = json!({"secretRef": {"name": name}, "destination": {"woodpecker": null, "store": {}}});
        merge(&mut spec, app);
        merge(&mut spec, rest);
        env.credential(&name, spec).await;
    }
    for number in 0..APPS {
        env.wait_until_ready(&format!("app-{number}")).await;
    }
    for day in 1..=3 {
        env.stop_operator().await;
        let_a_day_pass(&env).await;
        let before = graph.requests().len();
        env.start_operator().await;
        eventually("every app is read", || async {
            let read = graph.requests().len() - before;
            if read >= APPS { Ok(()) } else { Err(format!("{read}\n{}", env.log())) }
        })
        .await;
        tokio::time::sleep(QUIET_TIME).await;
        let mut of_apps: BTreeMap<String, usize> = BTreeMap::new();
        for request in &graph.requests()[before..] {
            *of_apps.entry(request.client.clone()).or_default() += 1;
        }
        assert_eq!(of_apps.len(), APPS, "day {day}: {of_apps:?}");
        assert!(of_apps.values().all(|count| *count == 1), "day {day}: {of_apps:?}");
    }
}

/// An object in the store for another app of the tenant.
async fn stored(env: &TestEnv, number: usize, spec: Value) -> String {
    let client = client(number);
    env.entra.add_app(TENANT, &client);
    env.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
    let mut whole = json!({"clientId": client, "destination": {"woodpecker": null, "store": {}}});
    merge(&mut whole, spec);
    let name = format!("app-{number}");
    env.credential(&name, whole).await;
    name
}

/// An operator whose waits are not shortened, with an identity that may read the apps.
async fn start_unscaled(more: &[&str]) -> (TestEnv, Graph) {
    let (mut env, graph) = bare().await;
    env.time_scale = 1;
    env.extra_args.extend(more.iter().map(|&arg| arg.to_owned()));
    env.start_operator().await;
    let clients: Vec<String> = (0..APPS).map(client).collect();
    identity(&env, json!([{"namespaces": [env.namespace], "tenantId": TENANT, "clientIds": clients}])).await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    (env, graph)
}

#[tokio::test]
async fn a_graph_that_does_not_answer_gets_few_requests() {
    let (env, graph) = start_unscaled(&[]).await;
    graph.fail_always(Fault::Reset);
    let mut names = Vec::new();
    for number in 0..APPS {
        names.push(stored(&env, number, entra("Check")).await);
        graph.set_application(TENANT, &client(number), &[entry(SAME_DAY)]);
    }
    for name in &names {
        env.wait_until_ready(name).await;
        let failed = ConditionStatus::Unknown;
        env.wait_for(name, ConditionType::ExpiryConfirmed, failed, "MicrosoftUnavailable").await;
    }
    // Five in a row open the circuit, two are sent at the same time, and then one at a time probes it.
    let sent = graph.requests().len();
    assert!((5..=12).contains(&sent), "{sent} requests for {APPS} apps");
    graph.clear_faults();
    for name in &names {
        env.wait_for(name, ConditionType::ExpiryConfirmed, ConditionStatus::True, "ExpiryMatches").await;
    }
}

#[tokio::test]
async fn readings_that_hang_delay_no_verification() {
    let (env, graph) = start_unscaled(&["--max-concurrent-reconciles", "4"]).await;
    graph.fail_always(Fault::Hang(Duration::from_mins(1)));
    let mut names = Vec::new();
    for number in 0..6 {
        names.push(stored(&env, number, entra("Check")).await);
    }
    eventually("a reading hangs", || async {
        if graph.requests().is_empty() { Err(env.log()) } else { Ok(()) }
    })
    .await;
    let since = std::time::Instant::now();
    names.push(stored(&env, 6, json!({})).await);
    eventually("all are ready but the one whose reading hangs", || async {
        let mut count = 0;
        for name in &names {
            let object = env.read(name).await;
            let ready = condition(&object, ConditionType::Ready);
            count += usize::from(ready.is_some_and(|it| it.status == ConditionStatus::True));
        }
        if count + 1 >= names.len() { Ok(()) } else { Err(format!("{count}\n{}", env.log())) }
    })
    .await;
    // A request to Graph times out after 15 s.
    assert!(since.elapsed() < Duration::from_secs(14), "{:?}", since.elapsed());
    assert_eq!(graph.requests().len(), 1, "one at a time");
}
