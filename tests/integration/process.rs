//! The process: how it starts, what it waits for, and how it exits.

use std::process::Command;
use std::time::{Duration, Instant};

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use k8s_openapi::api::core::v1::Secret;
use kit::entra::Outcome;
use kit::woodpecker::{Fault, Op};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{API_KEY, EXPIRY, QUIET_TIME, TENANT, TestEnv, eventually, grant_everything};
use crate::rest_api::fault_proxy::FaultProxy;

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_graph-credential-operator"))
        .args(args)
        .env_clear()
        .env("KUBECONFIG", "/nonexistent")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_names_every_flag_with_its_environment_variable() {
    let (code, help, _) = run(&["run", "--help"]);
    assert_eq!(code, Some(0));
    for word in [
        "--watch-namespace",
        "GCO_WATCH_NAMESPACES",
        "--health-probe-bind-address",
        "GCO_HEALTH_PROBE_BIND_ADDRESS",
        "--allowed-woodpecker-url",
        "--allow-unverified",
        "--propagation-window",
        "--dns-server",
        "--log-format",
        "--keyring-secret",
        "--leader-elect",
        "GCO_LEADER_ELECT",
        "--leader-election-lease",
        "GCO_LEADER_ELECTION_LEASE",
    ] {
        assert!(help.contains(word), "{word} is missing in:\n{help}");
    }
}

#[test]
fn an_invalid_flag_is_reported_with_its_remedy() {
    for (args, field, remedy) in [
        (
            vec!["run", "--allowed-woodpecker-url", "http://api.example.com"],
            "--allowed-woodpecker-url",
            "use https",
        ),
        (vec!["run", "--health-probe-bind-address", "8080"], "--health-probe-bind-address", "ADDRESS:PORT"),
        (vec!["run", "--propagation-window", "1d"], "--propagation-window", "720h"),
        (vec!["run", "--propagation-window", "24h1s"], "--propagation-window", "at most 24h"),
        (vec!["run", "--propagation-window", "99999999h"], "--propagation-window", "such as 20m"),
        (vec!["run", "--time-scale", "0"], "--time-scale", "1..="),
        (vec!["run", "--leader-election-lease", "My_Lease"], "--leader-election-lease", "lowercase"),
        (vec!["run", "--leader-elect=perhaps"], "--leader-elect", "true, false"),
        (vec!["walk"], "walk", "--help"),
    ] {
        let (code, _, error) = run(&args);
        assert_eq!(code, Some(2), "{args:?}");
        assert!(error.contains(field) && error.contains(remedy), "{args:?}:\n{error}");
    }
}

#[test]
fn no_cluster_and_a_bad_log_filter_are_clear_errors() {
    let (code, _, error) =
        run(&["run", "--health-probe-bind-address", "127.0.0.1:0", "--dns-server", "127.0.0.1:9"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("KUBECONFIG"), "{error}");
    let run_with_ca = |path: &str| {
        run(&[
            "run",
            "--health-probe-bind-address",
            "127.0.0.1:0",
            "--dns-server",
            "127.0.0.1:9",
            "--ca-bundle",
            path,
        ])
    };
    let (code, _, error) = run_with_ca("/nonexistent");
    assert!(code == Some(1) && error.contains("--ca-bundle") && error.contains("may read"), "{error}");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let (code, _, error) = run_with_ca(manifest);
    assert!(code == Some(1) && error.contains("BEGIN CERTIFICATE"), "{error}");
    let (code, _, error) = run(&["run", "--log-level", "a=b=c"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("--log-level"), "{error}");
}

#[test]
fn the_printed_crds_match_the_repository() {
    let (code, printed, _) = run(&["crd"]);
    assert_eq!(code, Some(0));
    for file in ["microsoftgraphcredentials", "woodpeckeraccounts", "sealedgraphcredentials"] {
        let path = kit::workspace().join("crds").join(format!("{file}.yaml"));
        let text = std::fs::read_to_string(path).unwrap();
        let without_comment = text.split_once('\n').unwrap().1;
        assert!(printed.contains(without_comment), "{file}");
    }
}

#[tokio::test]
async fn missing_crds_are_waited_for_and_reported_by_readiness() {
    let cluster = crate::harness::own_cluster().await;
    grant_everything(cluster).await;
    let mut env = TestEnv::on(cluster).await;
    env.spawn_operator().await;
    eventually("readiness names the CRDs", || async {
        let (status, text) = env.get("/readyz").await;
        let is_reported =
            status == 503 && text.contains("microsoftgraphcredentials") && text.contains("apply the CRDs");
        if is_reported { Ok(()) } else { Err(format!("{status} {text}\n{}", env.log())) }
    })
    .await;
    assert_eq!(env.get("/healthz").await, (200, "ok\n".into()));
    cluster.apply_crds(kit::workspace().join("crds")).await.unwrap();
    eventually("it becomes ready", || async {
        let (status, text) = env.get("/readyz").await;
        if status == 200 && text.contains("--time-scale") {
            Ok(())
        } else {
            Err(format!("{status} {text}\n{}", env.log()))
        }
    })
    .await;
    env.stop_operator().await;
}

#[tokio::test]
async fn text_logs_contain_no_secret() {
    let mut env = TestEnv::bare().await;
    env.log_filter = "debug";
    env.extra_args = vec!["--log-format".into(), "text".into()];
    env.spawn_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env.operator.as_mut().unwrap().stop().await.unwrap();
    let log = env.log();
    let line = log.lines().find(|line| line.contains("serving probes and metrics")).expect(&log);
    assert!(line.contains(" INFO ") && line.contains("address=127.0.0.1:"), "{line}");
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_err()), "no line is JSON:\n{log}");
    let ended = log.lines().find(|line| line.contains("reason=\"Ready\"")).expect(&log);
    let object = format!("object=\"{}/sales-eu\"", env.namespace);
    for part in [
        " INFO reconcile{controller=",
        &object,
        "reconciled result=\"success\" outcome=\"success\" generation=1",
        "requeue_at=\"20",
    ] {
        assert!(ended.contains(part), "{part} is not in {ended}");
    }
    assert!(!log.contains('\u{1b}'), "no colours in a file:\n{log}");
    for secret in ["s3cret-one", API_KEY] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn sigterm_finishes_the_work_in_flight() {
    let mut env = TestEnv::start().await;
    env.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_millis(1500)));
    env.credential("sales-eu", json!({})).await;
    eventually("the create is under way", || async {
        if env.woodpecker.in_flight("agency") == 1 && env.woodpecker.writes("agency") == 1 {
            Ok(())
        } else {
            Err("not yet".into())
        }
    })
    .await;
    let operator = env.operator.as_ref().unwrap();
    operator.signal(Signal::TERM).unwrap();
    let exit = operator.wait(Duration::from_secs(20)).await.unwrap();
    assert!(exit.success(), "{exit}\n{}", operator.log());
    let status = env.read("sales-eu").await.status.unwrap();
    assert!(
        status.registration.is_some() && status.pending_create.is_none(),
        "the registration is written down: {status:#?}"
    );
    env.start_operator().await;
    env.wait_until_ready("sales-eu").await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn a_create_queued_at_sigterm_is_not_treated_as_sent() {
    let mut env = TestEnv::bare().await;
    // A request may take nine seconds, so that the first create is still in flight when all secrets are
    // verified.
    env.time_scale = 5;
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    let clients: Vec<String> = (0..5).map(|n| format!("00000000-0000-4000-8000-00000000000{n}")).collect();
    env.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_secs(6)));
    for (n, client) in clients.iter().enumerate() {
        env.entra.add_app(TENANT, client);
        env.entra.set_secrets(TENANT, client, &["s3cret-one"]);
        env.credential(&format!("app-{n}"), json!({"clientId": client})).await;
    }
    eventually("one create is in flight and all are verified", || async {
        let is_under_way = env.woodpecker.in_flight("agency") == 1 && env.woodpecker.writes("agency") == 1;
        let verified = env.entra.requests().iter().filter(|it| it.outcome == Outcome::Issued).count();
        if is_under_way && verified == clients.len() { Ok(()) } else { Err(format!("{verified} verified")) }
    })
    .await;
    env.stop_operator().await;
    assert_eq!(env.woodpecker.writes("agency"), 1, "nothing is started after SIGTERM");
    for n in 0..clients.len() {
        let status = env.read(&format!("app-{n}")).await.status.unwrap_or_default();
        assert_eq!(status.pending_create, None, "app-{n}");
    }
    env.start_operator().await;
    for n in 0..clients.len() {
        env.wait_until_ready(&format!("app-{n}")).await;
    }
    assert_eq!(env.remote().len(), clients.len());
}

#[tokio::test]
async fn a_lost_keyring_is_never_replaced_silently() {
    let mut env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let keyring: Secret = env.api().get("graph-credential-operator-keyring").await.unwrap();
    let json: Value = serde_json::from_slice(&keyring.data.as_ref().unwrap()["keyring.json"].0).unwrap();
    assert_eq!(json["primary"], json["keys"][0]["id"]);
    for key in [&json["keys"][0], &json["fingerprintKeys"][0]] {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(key["bytes"].as_str().unwrap()).unwrap();
        assert_eq!(bytes.len(), 32);
        assert!(key["created"].is_string() && key["id"].is_string());
    }
    env.stop_operator().await;
    env.delete_secret("graph-credential-operator-keyring").await;
    let mark = env.cluster.audit_mark().unwrap();
    env.spawn_operator().await;
    eventually("readiness names the keyring", || async {
        let (status, text) = env.get("/readyz").await;
        if status == 503 && text.contains("keyring") && text.contains("backup") {
            Ok(())
        } else {
            Err(format!("{status} {text}"))
        }
    })
    .await;
    assert_eq!(env.status_writes(mark), Vec::<String>::new());

    let mut restored = keyring;
    restored.metadata.resource_version = None;
    restored.metadata.managed_fields = None;
    env.api::<Secret>().create(&kube::api::PostParams::default(), &restored).await.unwrap();
    eventually("the restored keyring serves", || async {
        let (status, text) = env.get("/readyz").await;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await;
    let tokens = env.entra.requests().len();
    tokio::time::sleep(crate::harness::QUIET_TIME).await;
    assert_eq!(env.entra.requests().len(), tokens, "the fingerprint is known again");
}

#[tokio::test]
async fn an_api_server_outage_is_survived() {
    let cluster = crate::harness::own_cluster().await;
    crate::harness::prepare(cluster).await;
    let mut env = TestEnv::on(cluster).await;
    // A leader would exit after this time.
    env.extra_args.push("--leader-elect=false".to_owned());
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    cluster.apiserver().signal(Signal::STOP).unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    cluster.apiserver().signal(Signal::CONT).unwrap();
    env.credential("sales-eu", json!({})).await;
    env.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::True, "Ready").await;
    assert!(env.operator.as_ref().unwrap().is_running());
}

#[tokio::test]
async fn sigterm_ends_the_operator_immediately_before_the_first_list() {
    for kind in ["/woodpeckeraccounts", "/microsoftgraphcredentials"] {
        let mut env = TestEnv::bare().await;
        let fault_proxy = FaultProxy::before(&mut env).await;
        // The keyring exists, so the operator does not check what depends on an earlier one.
        env.start_operator().await;
        env.stop_operator().await;
        fault_proxy.fail(kind);
        env.spawn_operator().await;
        let operator = env.operator.as_ref().unwrap();
        operator.wait_for_log("a watch failed and is tried again", QUIET_TIME).await.unwrap();
        let started = Instant::now();
        env.stop_operator().await;
        assert!(started.elapsed() < Duration::from_secs(2), "{kind}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn without_dns_settings_the_operator_runs_and_is_not_ready_until_they_can_be_used() {
    let mut env = TestEnv::bare().await;
    let file = env.cluster.dir().join(format!("{}-resolv.conf", env.namespace));
    std::fs::write(&file, "search example.com\n").unwrap();
    env.resolv_conf = Some(file.clone());
    env.spawn_operator().await;
    let unready = eventually("the operator is not ready, because of DNS alone", || async {
        let (status, text) = env.get("/readyz").await;
        let is_dns_alone = text.contains("waiting for dns: ") && text.matches("waiting for ").count() == 1;
        if status == 503 && is_dns_alone { Ok(text) } else { Err(format!("{text}\n{}", env.log())) }
    })
    .await;
    assert!(unready.contains("/etc/resolv.conf") && unready.contains("--dns-server"), "{unready}");
    assert!(env.log().contains("/etc/resolv.conf"), "{}", env.log());

    // The doubles are at IP addresses, so what needs no names works.
    let store = json!({"destination": {"woodpecker": null, "store": {}}});
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.credential("sales-eu", store).await;
    env.wait_until_ready("sales-eu").await;

    std::fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
    eventually("the operator is ready", || async {
        let (status, text) = env.get("/readyz").await;
        if status == 200 { Ok(()) } else { Err(format!("{text}\n{}", env.log())) }
    })
    .await;
    env.stop_operator().await;
}
