//! The process: how it starts, what it waits for, and how it ends.

use std::process::Command;
use std::time::{Duration, Instant};

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use k8s_openapi::api::core::v1::Secret;
use kit::cluster::Cluster;
use kit::entra::Outcome;
use kit::woodpecker::{Fault, Op};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::serves::front::Front;
use crate::stage::{A_WHILE, API_KEY, EXPIRY, Stage, TENANT, eventually, grant_everything};

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
        "--listen",
        "GCO_LISTEN",
        "--woodpecker-base-url",
        "--allow-unverified",
        "--propagation-window",
        "--dns-server",
        "--log-format",
        "--time-scale",
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
fn a_bad_flag_is_named_with_its_cure() {
    for (args, field, cure) in [
        (
            vec!["run", "--woodpecker-base-url", "http://api.example.com"],
            "--woodpecker-base-url",
            "use https",
        ),
        (vec!["run", "--listen", "8080"], "--listen", "ADDRESS:PORT"),
        (vec!["run", "--propagation-window", "1d"], "--propagation-window", "720h"),
        (vec!["run", "--propagation-window", "24h1s"], "--propagation-window", "at most 24h"),
        (vec!["run", "--propagation-window", "99999999h"], "--propagation-window", "such as 20m"),
        (vec!["run", "--time-scale", "0"], "--time-scale", "1..="),
        (vec!["run", "--leader-election-lease", "My_Lease"], "--leader-election-lease", "lower case"),
        (vec!["run", "--leader-elect=perhaps"], "--leader-elect", "true, false"),
        (vec!["walk"], "walk", "--help"),
    ] {
        let (code, _, error) = run(&args);
        assert_eq!(code, Some(2), "{args:?}");
        assert!(error.contains(field) && error.contains(cure), "{args:?}:\n{error}");
    }
}

#[test]
fn no_cluster_and_a_bad_log_filter_are_clear_errors() {
    let (code, _, error) = run(&["run", "--listen", "127.0.0.1:0", "--dns-server", "127.0.0.1:9"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("KUBECONFIG"), "{error}");
    let run_with_ca = |path: &str| {
        run(&["run", "--listen", "127.0.0.1:0", "--dns-server", "127.0.0.1:9", "--extra-ca", path])
    };
    let (code, _, error) = run_with_ca("/nonexistent");
    assert!(code == Some(1) && error.contains("--extra-ca") && error.contains("may read"), "{error}");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let (code, _, error) = run_with_ca(manifest);
    assert!(code == Some(1) && error.contains("BEGIN CERTIFICATE"), "{error}");
    let (code, _, error) = run(&["run", "--log", "a=b=c"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("--log"), "{error}");
}

#[test]
fn the_crds_are_printed_as_they_stand_in_the_repository() {
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
async fn missing_crds_are_waited_for_and_named_by_readiness() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.unwrap()));
    grant_everything(cluster).await;
    let mut stage = Stage::on(cluster).await;
    stage.spawn_operator().await;
    eventually("readiness names the CRDs", || async {
        let (status, text) = stage.get("/readyz").await;
        let is_told =
            status == 503 && text.contains("microsoftgraphcredentials") && text.contains("apply the CRDs");
        if is_told { Ok(()) } else { Err(format!("{status} {text}\n{}", stage.log())) }
    })
    .await;
    assert_eq!(stage.get("/healthz").await, (200, "ok\n".into()));
    cluster.apply_crds(kit::workspace().join("crds")).await.unwrap();
    eventually("it becomes ready", || async {
        let (status, text) = stage.get("/readyz").await;
        if status == 200 && text.contains("--time-scale") {
            Ok(())
        } else {
            Err(format!("{status} {text}\n{}", stage.log()))
        }
    })
    .await;
    stage.stop_operator().await;
}

#[tokio::test]
async fn log_lines_can_be_text_for_people_and_hold_no_secret_either() {
    let mut stage = Stage::bare().await;
    stage.log_filter = "debug";
    stage.extra_args = vec!["--log-format".into(), "text".into()];
    stage.spawn_operator().await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    stage.operator.as_mut().unwrap().stop().await.unwrap();
    let log = stage.log();
    let line = log.lines().find(|line| line.contains("serving probes and metrics")).expect(&log);
    assert!(line.contains(" INFO ") && line.contains("address=127.0.0.1:"), "{line}");
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_err()), "no line is JSON:\n{log}");
    let ended = log.lines().find(|line| line.contains("reason=\"Ready\"")).expect(&log);
    let object = format!("object=\"{}/sales-eu\"", stage.namespace);
    for part in
        [" INFO pass{controller=", &object, "pass ended result=\"success\" generation=1", "next_look=\"20"]
    {
        assert!(ended.contains(part), "{part} is not in {ended}");
    }
    assert!(!log.contains('\u{1b}'), "no colours in a file:\n{log}");
    for secret in ["s3cret-one", API_KEY] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn sigterm_finishes_the_work_that_is_under_way() {
    let mut stage = Stage::set().await;
    stage.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_millis(1500)));
    stage.credential("sales-eu", json!({})).await;
    eventually("the create is under way", || async {
        if stage.woodpecker.in_flight("agency") == 1 && stage.woodpecker.writes("agency") == 1 {
            Ok(())
        } else {
            Err("not yet".into())
        }
    })
    .await;
    let operator = stage.operator.as_ref().unwrap();
    operator.signal(Signal::TERM).unwrap();
    let exit = operator.wait(Duration::from_secs(20)).await.unwrap();
    assert!(exit.success(), "{exit}\n{}", operator.log());
    let status = stage.read("sales-eu").await.status.unwrap();
    assert!(
        status.registration.is_some() && status.pending.is_none(),
        "the registration is written down: {status:#?}"
    );
    stage.start_operator().await;
    stage.wait_until_ready("sales-eu").await;
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn what_only_waited_for_its_turn_at_sigterm_is_not_taken_for_sent() {
    let mut stage = Stage::bare().await;
    // A call may take nine seconds, so that the first create is still under way when all are proved.
    stage.time_scale = 5;
    stage.start_operator().await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    let clients: Vec<String> = (0..5).map(|n| format!("00000000-0000-4000-8000-00000000000{n}")).collect();
    stage.woodpecker.fail_next(Op::Create, 1, Fault::Slow(Duration::from_secs(6)));
    for (n, client) in clients.iter().enumerate() {
        stage.entra.add_app(TENANT, client);
        stage.entra.set_secrets(TENANT, client, &["s3cret-one"]);
        stage.credential(&format!("app-{n}"), json!({"clientId": client})).await;
    }
    eventually("one create is under way and all are proved", || async {
        let is_under_way =
            stage.woodpecker.in_flight("agency") == 1 && stage.woodpecker.writes("agency") == 1;
        let proved = stage.entra.requests().iter().filter(|it| it.outcome == Outcome::Issued).count();
        if is_under_way && proved == clients.len() { Ok(()) } else { Err(format!("{proved} proved")) }
    })
    .await;
    stage.stop_operator().await;
    assert_eq!(stage.woodpecker.writes("agency"), 1, "nothing is begun after SIGTERM");
    for n in 0..clients.len() {
        let status = stage.read(&format!("app-{n}")).await.status.unwrap_or_default();
        assert_eq!(status.pending, None, "app-{n}");
    }
    stage.start_operator().await;
    for n in 0..clients.len() {
        stage.wait_until_ready(&format!("app-{n}")).await;
    }
    assert_eq!(stage.remote().len(), clients.len());
}

#[tokio::test]
async fn a_lost_keyring_is_never_replaced_silently() {
    let mut stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    let keyring: Secret = stage.api().get("graph-credential-operator-keyring").await.unwrap();
    let json: Value = serde_json::from_slice(&keyring.data.as_ref().unwrap()["keyring.json"].0).unwrap();
    assert_eq!(json["primary"], json["keys"][0]["id"]);
    for key in [&json["keys"][0], &json["fingerprintKeys"][0]] {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(key["bytes"].as_str().unwrap()).unwrap();
        assert_eq!(bytes.len(), 32);
        assert!(key["created"].is_string() && key["id"].is_string());
    }
    stage.stop_operator().await;
    stage.delete_secret("graph-credential-operator-keyring").await;
    let mark = stage.cluster.audit_mark().unwrap();
    stage.spawn_operator().await;
    eventually("readiness names the keyring", || async {
        let (status, text) = stage.get("/readyz").await;
        if status == 503 && text.contains("keyring") && text.contains("backup") {
            Ok(())
        } else {
            Err(format!("{status} {text}"))
        }
    })
    .await;
    assert_eq!(stage.status_writes(mark), Vec::<String>::new());

    let mut restored = keyring;
    restored.metadata.resource_version = None;
    restored.metadata.managed_fields = None;
    stage.api::<Secret>().create(&kube::api::PostParams::default(), &restored).await.unwrap();
    eventually("the restored keyring serves", || async {
        let (status, text) = stage.get("/readyz").await;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await;
    let tokens = stage.entra.requests().len();
    tokio::time::sleep(crate::stage::A_WHILE).await;
    assert_eq!(stage.entra.requests().len(), tokens, "the fingerprint is known again");
}

#[tokio::test]
async fn a_lost_api_server_is_survived() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.unwrap()));
    crate::stage::prepare(cluster).await;
    let mut stage = Stage::on(cluster).await;
    // A leader would end after so long.
    stage.extra_args.push("--leader-elect=false".to_owned());
    stage.start_operator().await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    cluster.apiserver().signal(Signal::STOP).unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    cluster.apiserver().signal(Signal::CONT).unwrap();
    stage.credential("sales-eu", json!({})).await;
    stage.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::True, "Ready").await;
    assert!(stage.operator.as_ref().unwrap().is_running());
}

#[tokio::test]
async fn sigterm_ends_the_operator_at_once_where_its_objects_could_not_be_listed_yet() {
    for kind in ["/woodpeckeraccounts", "/microsoftgraphcredentials"] {
        let mut stage = Stage::bare().await;
        let front = Front::before(&mut stage).await;
        // The keyring is there: nothing is looked for that may depend on an earlier one.
        stage.start_operator().await;
        stage.stop_operator().await;
        front.fail(kind);
        stage.spawn_operator().await;
        let operator = stage.operator.as_ref().unwrap();
        operator.wait_for_log("a watch failed and is tried again", A_WHILE).await.unwrap();
        let began = Instant::now();
        stage.stop_operator().await;
        assert!(began.elapsed() < Duration::from_secs(2), "{kind}: {:?}", began.elapsed());
    }
}
