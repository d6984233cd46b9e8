//! The sandbox from the outside: the vendor's samples, the examples of its page, and its `OpenAPI` description.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use kit::process::Process;

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

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_description_of_the_sandbox_matches_it() {
    let (process, base, folder) = sandbox("description", &["--strict", "--no-limits"]).await;
    let mut command = schemathesis("sandbox.toml", &base, KEY);
    // They change what the other requests receive, or name magic secrets, which the others would then send.
    command.args(["--exclude-path-regex", "^/sandbox/(answers|next|clock|reset)$"]);
    // Each request has the API key of the command line. `ignored_auth` tests requests without it.
    command.args(["--exclude-checks", "missing_required_header"]);
    let output = run(command.current_dir(&folder).env("CONTRACT_SANDBOX", "1"));
    let stdout = String::from_utf8_lossy(&output.stdout);
    println!("{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!process.log().contains("panicked"), "{}", process.log());
    let responses = responses(&process.log());
    println!("responses: {responses:?}");
    assert!(output.status.success(), "the description does not hold");
    assert!([200, 201, 204, 404, 422].iter().all(|status| responses.contains_key(status)), "{responses:?}");
    keep_report("sandbox-contract.md", &report(REPORT, &stdout, &responses));
}

const REPORT: &str = "# Conformance of the sandbox to its OpenAPI description

Written by `make contract`: schemathesis tests `sandbox --strict --no-limits` against docs/reference/sandbox-openapi.json \
with all of its checks but one: each request has an API key, so that none lacks a required header. The sandbox's own routes \
that change what other requests receive are left out: the table of answers, planned answers, clock and reset. All checks \
passed.";
