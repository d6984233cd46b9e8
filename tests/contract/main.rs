//! The REST API from the outside: the vendor's own samples, and the `OpenAPI` description against the running
//! server. Both need programs beyond Rust and are run by name: `make samples`, `make contract`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[allow(dead_code, unused_imports)]
#[path = "../integration/harness/mod.rs"]
mod harness;
mod sandbox;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use graph_credential_operator::api::SealedGraphCredential;
use kit::entra::Fault;
use kit::process::Process;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::harness::{CLIENT, TENANT, TestEnv, address, eventually, send_get};

/// The API key of the test namespace.
const KEY: &str = "4711.a-key-of-the-env";

/// The vendor's address in the samples.
const VENDOR: &str = "https://api.woodpecker.co";

/// A test environment with the API, and the app of the samples.
async fn serve() -> (TestEnv, Process, String) {
    let mut env = TestEnv::bare().await;
    env.time_scale = 1;
    env.entra.set_secrets(TENANT, CLIENT, &["your-client-secret"]);
    let entry = format!("{}.ci", env.namespace);
    env.secret("graph-credential-operator-api-keys", &[(&entry, KEY)]).await;
    let server = env.launch_with(&["serve", "--rest-bind-address", "127.0.0.1:0"]).await;
    let address = eventually("the API is served", || async {
        let (status, text) = send_get(&server, "/readyz").await;
        let address = address(&server, "serving the credentials REST API");
        address.filter(|_| status == 200).ok_or_else(|| format!("{text}\n{}", server.log()))
    })
    .await;
    (env, server, format!("http://{address}"))
}

/// The number of responses with each status in the log.
fn responses(log: &str) -> BTreeMap<u64, usize> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let requests = lines.filter(|line| line["message"] == "request");
    requests.filter_map(|line| line["status"].as_u64()).fold(BTreeMap::new(), |mut responses, status| {
        *responses.entry(status).or_default() += 1;
        responses
    })
}

/// The result of a run of schemathesis, with that introduction.
fn report(introduction: &str, stdout: &str, responses: &BTreeMap<u64, usize>) -> String {
    let wanted = ["Schemathesis v", "Operations:", "API Links:", "Seed:"];
    let lines = stdout
        .lines()
        .map(str::trim)
        .filter(|line| line.contains(" generated, ") || wanted.iter().any(|word| line.starts_with(word)));
    let lines: Vec<String> =
        lines.map(|line| format!("- {}\n", line.split_whitespace().collect::<Vec<_>>().join(" "))).collect();
    let responses: Vec<String> =
        responses.iter().map(|(status, count)| format!("{count} × {status}")).collect();
    format!("{introduction}\n\n{}- responses: {}\n", lines.concat(), responses.join(", "))
}

const REPORT: &str = "# Conformance of the REST API to its OpenAPI description

Written by `make contract`: schemathesis tests `serve` against docs/reference/openapi.json with all of its checks. The API \
accepts what the description allows (2xx, or 404 for an id that does not exist), and rejects what it does not allow. All \
checks passed.";

/// Keeps the result of a run in the folder that `CONTRACT_REPORT` names, if it is set.
fn keep_report(file: &str, report: &str) {
    if let Some(folder) = std::env::var_os("CONTRACT_REPORT") {
        fs::write(kit::workspace().join(folder).join(file), report).expect("the report can be written");
    }
}

fn here() -> PathBuf {
    kit::workspace().join("tests/contract")
}

/// A folder that `make` has installed: a Python environment with packages, or node packages.
fn tools(variable: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| panic!("{variable} is not set: use make"), PathBuf::from)
}

/// The version that a program prints, if it is installed.
fn version(program: &str) -> Option<String> {
    let output =
        Command::new(program).arg("--version").output().ok().filter(|output| output.status.success())?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = stdout.lines().next().unwrap_or_default();
    Some(first.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

/// Whether a sample is selected: all five are, or those that `SAMPLES` names by their programs.
fn is_requested(program: &str) -> bool {
    std::env::var("SAMPLES")
        .map_or(true, |names| names.is_empty() || names.split_whitespace().any(|it| it == program))
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// The samples of the vendor's pages with only address and API key changed, and the command for each.
fn samples(dir: &Path, key: &str) -> Vec<(&'static str, &'static str, Command)> {
    let mut python = Command::new(tools("CONTRACT_PYTHON").join("bin/python"));
    python.arg("sample.py");
    let mut node = Command::new("node");
    node.arg("sample.js").env("NODE_PATH", tools("CONTRACT_NODE").join("node_modules"));
    let mut php = Command::new("php");
    php.arg("sample.php").env("WOODPECKER_API_KEY", key);
    fs::create_dir_all(dir.join("vendor")).unwrap();
    // What Composer would write; Debian's package has its own loader.
    fs::write(dir.join("vendor/autoload.php"), "<?php require '/usr/share/php/GuzzleHttp/autoload.php';\n")
        .unwrap();
    let mut java = Command::new("java");
    java.arg("WoodpeckerApiClient.java");
    let mut curl = Command::new("sh");
    curl.arg("curl.sh");
    vec![
        ("curl", "curl.sh", curl),
        ("python3", "sample.py", python),
        ("java", "WoodpeckerApiClient.java", java),
        ("node", "sample.js", node),
        ("php", "sample.php", php),
    ]
}

/// The selected samples. Each of their programs must be installed.
fn selected_samples(dir: &Path, key: &str) -> Vec<(&'static str, &'static str, Command)> {
    fs::create_dir_all(dir).unwrap();
    let selected: Vec<_> =
        samples(dir, key).into_iter().filter(|(program, ..)| is_requested(program)).collect();
    let missing: Vec<_> =
        selected.iter().map(|(program, ..)| *program).filter(|it| version(it).is_none()).collect();
    assert!(
        missing.is_empty(),
        "not installed: {missing:?}. Install them, or name those to be run: SAMPLES='curl python3'"
    );
    selected
}

/// Runs a sample against the server at `base`; returns the credential that it prints.
fn run_sample(
    dir: &Path,
    (base, key): (&str, &str),
    (program, file, mut command): (&str, &str, Command),
    log: impl Fn() -> String,
) -> String {
    let text = fs::read_to_string(here().join("samples").join(file)).unwrap();
    fs::write(dir.join(file), text.replace(VENDOR, base).replace("{YOUR_API_KEY}", key)).unwrap();
    let output = run(command.current_dir(dir).env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && stdout.contains("credential_id"),
        "{program}: {stdout}\n{stderr}\n{}",
        log()
    );
    stdout.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_of_the_vendor_run_unchanged() {
    let (env, server, base) = serve().await;
    let dir = env.cluster.dir().join("samples");
    let mut rows = String::new();
    for (at, (program, file, command)) in selected_samples(&dir, KEY).into_iter().enumerate() {
        let sample = (program, file, command);
        let stdout = run_sample(&dir, (&base, KEY), sample, || server.log());
        let records: Vec<SealedGraphCredential> = env.api().list(&ListParams::default()).await.unwrap().items;
        assert_eq!(records.len(), at + 1, "{program} has created one");
        assert!(records.iter().all(|record| record.spec.name == "MS Graph app"));
        let version = version(program).unwrap_or_default();
        println!("{program} ({version}): {}", stdout.trim());
        rows.extend(["| `", file, "` | ", &version, " | 201 | 201 | 201 |\n"]);
    }
    assert!(!rows.is_empty(), "SAMPLES names none of them");
    sandbox::run_samples("samples", &[]).await;
    sandbox::run_samples("strict-samples", &["--strict"]).await;
    if let Some(path) = std::env::var_os("SAMPLES_REPORT") {
        fs::write(kit::workspace().join(path), samples_report(&rows)).expect("the report can be written");
    }
}

fn samples_report(rows: &str) -> String {
    format!(
        "# Woodpecker's request samples against the REST API and the sandbox\n\nWritten by `make samples`: the request \
         samples of Woodpecker's documentation, run against `serve`, `sandbox` and `sandbox --strict` with only the address \
         and the API key changed. Each of them created one credential and printed it.\n\n\
         | sample | run by | `serve` | `sandbox` | `sandbox --strict` |\n| --- | --- | --- | --- | --- |\n{rows}"
    )
}

/// schemathesis with all of its checks, against a server that serves its own description.
fn schemathesis(config: &str, base: &str, key: &str) -> Command {
    let examples = std::env::var("EXAMPLES").unwrap_or_else(|_| "50".into());
    let seed = std::env::var("SEED").unwrap_or_else(|_| "1".into());
    let mut command = Command::new(tools("CONTRACT_PYTHON").join("bin/schemathesis"));
    command.arg("--config-file").arg(here().join(config));
    command.args(["run", &format!("{base}/openapi.json"), "--url", base]);
    command.args(["--header", &format!("x-api-key: {key}"), "--seed", &seed, "--max-examples", &examples]);
    command.args([
        "--checks",
        "all",
        "--no-color",
        "--suppress-health-check",
        "all",
        "--output-sanitize",
        "false",
    ]);
    command.env("SCHEMATHESIS_HOOKS", "hooks").env("PYTHONPATH", here()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("CONTRACT_ADDRESS", base).env("CONTRACT_KEY", key).env("NO_PROXY", "127.0.0.1");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_description_matches_the_running_server() {
    let (env, server, base) = serve().await;
    // Microsoft issues a token for every invented app, so that requests after a create are tested too.
    let issued =
        json!({"token_type": "Bearer", "expires_in": 3599, "access_token": "e30.e30.e30"}).to_string();
    let is_json = vec![("content-type".to_owned(), "application/json".to_owned())];
    env.entra.fail_always(Fault::Status(200, issued, is_json));
    let output = run(schemathesis("schemathesis.toml", &base, KEY).current_dir(env.cluster.dir()));
    let stdout = String::from_utf8_lossy(&output.stdout);
    println!("{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!server.log().contains("panicked"), "{}", server.log());
    let responses = responses(&server.log());
    println!("responses: {responses:?}");
    assert!(output.status.success(), "the description does not hold");
    assert!([200, 201, 204, 404, 422].iter().all(|status| responses.contains_key(status)), "{responses:?}");
    let taken: usize = [200, 201, 204].iter().map(|status| responses[status]).sum();
    assert!(taken * 3 > responses.values().sum::<usize>(), "a third and more is taken: {responses:?}");
    assert!(!responses.contains_key(&429), "no request was rate-limited: {responses:?}");
    keep_report("rest-contract.md", &report(REPORT, &stdout, &responses));
}
