//! The sandbox from the outside: the vendor's samples, the examples of its page, and its `OpenAPI` description.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::process::Process;
use serde_json::Value;

use crate::harness::{address, eventually};
use crate::{keep_report, report, responses, run, run_sample, schemathesis, selected_samples, tools};

/// The default API key.
const KEY: &str = "1000001.sandboxsandboxsandbox";

/// A sandbox with a folder of its own; returns its address too.
async fn sandbox(name: &str, args: &[&str]) -> (Process, String, PathBuf) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("sandbox-{name}"));
    let _earlier = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let process = Process::builder(env!("CARGO_BIN_EXE_graph-credential-operator"))
        .args(["sandbox", "--address", "127.0.0.1:0", "--log-format", "json"])
        .args(args)
        .log(folder.join("sandbox.log"))
        .spawn()
        .await
        .unwrap();
    let address = eventually("the sandbox is served", || async {
        address(&process, "serving the sandbox").ok_or_else(|| process.log())
    })
    .await;
    (process, format!("http://{address}"), folder)
}

/// Runs the selected samples of the vendor against a sandbox.
pub async fn run_samples(name: &str, args: &[&str]) {
    let (process, base, folder) = sandbox(name, args).await;
    let selected = selected_samples(&folder, KEY);
    let expected = selected.len();
    for sample in selected {
        run_sample(&folder, (&base, KEY), sample, || process.log());
    }
    assert_eq!(responses(&process.log()).get(&201), Some(&expected), "{}", process.log());
}

/// The block of a language in the page of the sandbox.
fn example(language: &str) -> String {
    let page = fs::read_to_string(kit::workspace().join("docs/tasks/sandbox.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).expect("the page has an example");
    rest.split("```").next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_of_the_page_of_the_sandbox_pass() {
    let (process, base, folder) = sandbox("page", &[]).await;
    fs::write(folder.join("test_example.py"), example("python")).unwrap();
    fs::write(folder.join("example.test.mjs"), example("javascript")).unwrap();
    let mut pytest = Command::new(tools("CONTRACT_PYTHON").join("bin/python"));
    pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"]);
    let mut node = Command::new("node");
    node.args(["--test", "example.test.mjs"]);
    for (mut command, passed) in [(pytest, "2 passed"), (node, "pass 1")] {
        command.current_dir(&folder).env("SANDBOX", &base).env("NO_PROXY", "127.0.0.1");
        let output = run(&mut command);
        let stdout = String::from_utf8_lossy(&output.stdout);
        let problem = format!("{stdout}\n{}\n{}", String::from_utf8_lossy(&output.stderr), process.log());
        assert!(output.status.success() && stdout.contains(passed), "{problem}");
    }
}

/// The routes of the sandbox that change what the other requests receive, or name magic secrets, which the others would then
/// send.
const CHANGING: &str = "^/sandbox/(answers|next|clock|reset)$";

/// Runs schemathesis against a sandbox of its own, with these arguments.
async fn check_description(name: &str, args: &[&str]) -> (Process, PathBuf, String) {
    let (process, base, folder) = sandbox(name, &["--strict", "--no-limits"]).await;
    let mut command = schemathesis("sandbox.toml", &base, KEY);
    // Each request has the API key of the command line. `ignored_auth` tests requests without it.
    command.args(["--exclude-checks", "missing_required_header"]).args(args);
    let output = run(command.current_dir(&folder).env("CONTRACT_SANDBOX", "1"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!process.log().contains("panicked"), "{}", process.log());
    assert!(output.status.success(), "the description does not hold");
    (process, folder, stdout)
}

/// The number of responses with each status in an HTTP archive. The sandbox does not log requests of its own routes.
fn archived_responses(path: &Path) -> BTreeMap<u64, usize> {
    let archive: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let entries = archive["log"]["entries"].as_array().unwrap();
    entries.iter().filter_map(|it| it["response"]["status"].as_u64()).fold(
        BTreeMap::new(),
        |mut responses, status| {
            *responses.entry(status).or_default() += 1;
            responses
        },
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_description_of_the_sandbox_matches_it() {
    let (process, _, stdout) = check_description("description", &["--exclude-path-regex", CHANGING]).await;
    let found = responses(&process.log());
    println!("responses: {found:?}");
    assert!([200, 201, 204, 404, 422].iter().all(|status| found.contains_key(status)), "{found:?}");
    let api = report(REPORT, &stdout, &found);

    // None of them leads to another, so that there are no stateful tests.
    let args = ["--include-path-regex", CHANGING, "--phases", "examples,coverage,fuzzing"];
    let archive = ["--report", "har", "--report-har-path", "requests.har"];
    let (_process, folder, stdout) = check_description("own-routes", &[args, archive].concat()).await;
    let found = archived_responses(&folder.join("requests.har"));
    println!("responses: {found:?}");
    assert!(found[&200] > 20 && found[&204] > 10 && found[&400] > 20, "{found:?}");
    assert!(stdout.contains("Selected: 5/"), "all of them: {stdout}");
    keep_report("sandbox-contract.md", &format!("{api}\n{}", report(OWN_ROUTES, &stdout, &found)));
}

const REPORT: &str = "# Conformance of the sandbox to its OpenAPI description

Written by `make contract`: schemathesis tests `sandbox --strict --no-limits` against docs/reference/sandbox-openapi.json \
with all of its checks but one: each request has an API key, so that none lacks a required header. All checks passed.";

const OWN_ROUTES: &str = "## Routes that change what other requests receive

The table of answers, planned answers, clock and reset are tested against a sandbox of their own.";
