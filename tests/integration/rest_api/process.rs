//! The process around the API: beside the controller, at its exit, and its metrics and logs.

use std::process::Command;
use std::time::Duration;

use super::fault_proxy::FaultProxy;
use super::*;

#[tokio::test]
async fn the_rest_api_can_be_served_by_the_controller_process() {
    let mut env = TestEnv::bare().await;
    put_key(&env, KEY).await;
    env.extra_args = vec!["--rest-bind-address".into(), "127.0.0.1:0".into()];
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.credential("sales-eu", json!({"destination": {"woodpecker": null, "store": {}}})).await;
    let address = serving(env.operator.as_ref().unwrap()).await;
    let response = request_at(&address, "POST", PATH, Some(sample(json!({})))).await;
    assert_eq!(response.status, 201, "{response:?}\n{}", env.log());
    env.wait_until_ready("sales-eu").await;
    env.stop_operator().await;
}

#[tokio::test]
async fn wrong_secrets_sent_for_an_app_do_not_stop_its_rotation() {
    let mut env = TestEnv::bare().await;
    put_key(&env, KEY).await;
    env.extra_args = vec!["--rest-bind-address".into(), "127.0.0.1:0".into()];
    env.start_operator().await;
    let address = serving(env.operator.as_ref().unwrap()).await;
    let mut statuses = Vec::new();
    for _ in 0..10 {
        let body = sample(json!({"client_secret": "wr0ng"}));
        statuses.push(request_at(&address, "POST", PATH, Some(body)).await.status);
    }
    assert_eq!(statuses, [[422; 8].as_slice(), &[429; 2]].concat());
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.credential("sales-eu", json!({"destination": {"woodpecker": null, "store": {}}})).await;
    env.wait_until_ready("sales-eu").await;
    env.stop_operator().await;
}

#[tokio::test]
async fn an_in_flight_request_is_answered_before_the_exit() {
    let mut api = Api::start().await;
    api.env.entra.service_time(Duration::from_millis(300));
    let request = api.create(json!({}));
    let stopped = async {
        eventually("Microsoft receives a request", || async {
            if api.env.entra.in_flight() > 0 { Ok(()) } else { Err(api.server.log()) }
        })
        .await;
        api.server.signal(rustix::process::Signal::TERM).unwrap();
    };
    let (response, ()) = tokio::join!(request, stopped);
    assert_eq!(response.status, 201, "{response:?}\n{}", api.server.log());
    let exit = api.server.stop().await.unwrap();
    assert!(exit.success(), "{exit}\n{}", api.server.log());
    assert_eq!(api.records().await.len(), 1);
}

#[tokio::test]
async fn a_failure_of_the_rest_api_does_not_stop_the_controller() {
    let mut env = TestEnv::bare().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    env.extra_args = vec!["--rest-bind-address".into(), address.clone()];
    env.spawn_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.credential("sales-eu", json!({"destination": {"woodpecker": null, "store": {}}})).await;
    env.wait_until_ready("sales-eu").await;
    let readyz_reports = async |word: &str| {
        eventually(&format!("{word} is reported"), || async {
            let (status, text) = env.get("/readyz").await;
            if status == 503 && text.contains(word) { Ok(()) } else { Err(text) }
        })
        .await;
    };
    readyz_reports("there is no Secret").await;
    put_key(&env, KEY).await;
    readyz_reports("failed to listen on").await;
    assert!(env.operator.as_ref().unwrap().is_running());
    drop(taken);
    assert_eq!(serving(env.operator.as_ref().unwrap()).await, address);
    assert_eq!(request_at(&address, "GET", PATH, None).await.status, 200);
    env.stop_operator().await;
}

#[tokio::test]
async fn a_request_dropped_at_shutdown_saves_nothing() {
    let mut env = TestEnv::bare().await;
    env.time_scale = 10;
    let fault_proxy = FaultProxy::before(&mut env).await;
    let mut api = Api::on(env).await;
    // Microsoft responds in time, but only after the wait for requests in flight has ended.
    api.env.entra.service_time(Duration::from_millis(1_300));
    let body = sample(json!({})).to_string();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let raw = format!("{head}{body}");
    let request = super::http::send_raw(&api.address, raw.as_bytes());
    let stopped = async {
        eventually("Microsoft receives a request", || async {
            if api.env.entra.in_flight() > 0 { Ok(()) } else { Err(api.server.log()) }
        })
        .await;
        api.server.signal(rustix::process::Signal::TERM).unwrap();
    };
    let (response, ()) = tokio::join!(request, stopped);
    assert!(response.is_none(), "{response:?}");
    let exit = api.server.stop().await.unwrap();
    assert!(exit.success(), "{exit}\n{}", api.server.log());
    assert!(api.server.log().contains("dropped requests"), "{}", api.server.log());
    assert_eq!(fault_proxy.count("POST", "/sealedgraphcredentials"), 0);
    assert_eq!(api.records().await, []);
}

#[tokio::test]
async fn an_unresponsive_api_server_does_not_delay_the_shutdown() {
    let mut env = TestEnv::bare().await;
    env.time_scale = 4;
    let fault_proxy = FaultProxy::before(&mut env).await;
    let mut api = Api::on(env).await;
    fault_proxy.stop_responding();
    let before = fault_proxy.count("GET", KEYS);
    eventually("the API keys are read", || async {
        if fault_proxy.count("GET", KEYS) > before { Ok(()) } else { Err(api.server.log()) }
    })
    .await;
    let start = std::time::Instant::now();
    let exit = api.server.stop().await.unwrap();
    assert!(exit.success(), "{exit}\n{}", api.server.log());
    // The process gives up the Lease after 15 seconds; any other request may take 30.
    assert!(start.elapsed() < Duration::from_secs(28) / 4, "{:?}", start.elapsed());
}

#[tokio::test]
async fn each_request_is_logged_and_counted_once_without_its_content() {
    const CANARY: &str = "canary/served+%2B~";
    let mut env = TestEnv::bare().await;
    env.log_filter = "trace";
    env.entra.set_secrets(TENANT, CLIENT, &[CANARY]);
    let api = Api::on(env).await;
    let id = api.created(json!({"client_secret": CANARY})).await;
    for body in [json!({"client_secret": CANARY}), json!({CANARY: CANARY}), json!({"tenant_id": CANARY})] {
        assert_eq!(api.request("POST", PATH, Some(body)).await.status, 422);
    }
    let odd = format!("{PATH}/canary%2Fserved?client_secret=canary%2Fserved");
    assert_eq!(api.request("PATCH", &odd, Some(json!({"name": "x"}))).await.status, 404);
    let log = api.server.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let lines: Vec<&Value> = lines.iter().filter(|line| line["message"] == "request").collect();
    assert_eq!(lines.len(), 5, "{log}");
    let first = lines[0];
    assert_eq!(
        (&first["method"], &first["route"], &first["status"], &first["key"], &first["namespace"]),
        (&json!("POST"), &json!(PATH), &json!(201), &json!("ci"), &json!(api.env.namespace))
    );
    let metrics = send_get(&api.server, "/metrics").await.1;
    let count = |method: &str, route: &str, code: &str| {
        format!(
            "graph_credential_rest_requests_total{{method=\"{method}\",route=\"{route}\",code=\"{code}\"}}"
        )
    };
    let item = format!("{PATH}/{{credential_id}}");
    for line in [
        count("POST", PATH, "201") + " 1",
        count("POST", PATH, "422") + " 3",
        count("PATCH", &item, "404") + " 1",
    ] {
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    let record = serde_json::to_string(&api.opened(id).await.0).unwrap();
    for (place, text) in [("the log", &log), ("the metrics", &metrics), ("the record", &record)] {
        for form in [CANARY, "canary/served", "canary%2Fserved", "Y2FuYXJ5"] {
            assert!(!text.contains(form), "{form} is in {place}");
        }
        assert!(!text.contains(KEY), "the API key is in {place}");
    }
}

#[tokio::test]
async fn requests_without_a_key_are_counted_and_one_line_stands_for_a_hundred() {
    let api = Api::start().await;
    for _ in 0..150 {
        assert_eq!(super::http::send(&api.address, "GET", PATH, &[], b"").await.status, 401);
    }
    let log = api.server.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let counts: Vec<&Value> =
        lines.iter().filter(|line| line["status"] == 401).map(|line| &line["unauthenticated"]).collect();
    assert_eq!(counts, [&json!(1), &json!(101)], "{log}");
    let metrics = send_get(&api.server, "/metrics").await.1;
    let line =
        format!("graph_credential_rest_requests_total{{method=\"GET\",route=\"{PATH}\",code=\"401\"}} 150");
    assert!(metrics.contains(&line), "{metrics}");
}

#[test]
fn plain_http_beyond_loopback_must_be_allowed() {
    for args in [&["serve"][..], &["run"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_graph-credential-operator"))
            .args(args)
            .args([
                "--rest-bind-address",
                "0.0.0.0:0",
                "--health-probe-bind-address",
                "127.0.0.1:0",
                "--dns-server",
                "127.0.0.1:9",
            ])
            .env_clear()
            .env("KUBECONFIG", "/nonexistent")
            .env("HOME", "/nonexistent")
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains("--rest-insecure-http") && error.contains("unencrypted"), "{error}");
    }
}
