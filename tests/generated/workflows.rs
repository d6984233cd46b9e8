//! Checks the workflows: what they use is pinned, because a tag can be moved, and nothing is compiled beside secrets.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// Commands that compile or run what others wrote.
const COMPILING: [&str; 7] = ["cargo", "go", "make", "npm", "pip", ".ci/", "tools/"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The text of every workflow.
fn workflows() -> Vec<String> {
    let files = fs::read_dir(root().join(".github").join("workflows")).expect("there are workflows");
    let paths = files.map(|file| file.expect("a workflow can be found").path());
    paths.map(|path| fs::read_to_string(path).expect("it can be read")).collect()
}

#[test]
fn actions_in_workflows_are_pinned_to_a_commit() {
    let mut pinned = 0;
    for text in workflows() {
        for used in
            text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: "))
        {
            // An action of this repository, at the same commit.
            if used.starts_with("./") {
                continue;
            }
            let (action, rest) = used.split_once('@').expect(used);
            let (commit, version) = rest.split_once(" # v").expect("a commit, and the version that it is");
            let is_commit = commit.len() == 40 && commit.chars().all(|it| it.is_ascii_hexdigit());
            assert!(is_commit && !version.is_empty(), "{action} is not pinned: {used}");
            pinned += 1;
        }
    }
    assert!(pinned > 5, "{pinned} actions");
}

#[test]
fn a_job_with_secrets_or_write_permissions_compiles_nothing_and_needs_approval() {
    let mut seen = 0;
    for text in workflows() {
        let workflow: Value = serde_saphyr::from_str(&text).expect("it is YAML");
        for (name, job) in workflow["jobs"].as_object().expect("there are jobs") {
            let permissions = job.get("permissions").unwrap_or(&workflow["permissions"]);
            assert!(permissions.is_object(), "{name}: permissions are not listed");
            if !job.to_string().contains("secrets") && !permissions.to_string().contains("write") {
                continue;
            }
            assert_eq!(job["environment"], "release", "{name}");
            for step in job["steps"].as_array().expect("a job has steps") {
                let (uses, run) = (step["uses"].as_str().unwrap_or(""), step["run"].as_str().unwrap_or(""));
                assert!(!uses.starts_with("actions/checkout@"), "{name} checks the source out");
                for command in COMPILING {
                    let mut words = run.split(|it: char| it.is_whitespace() || "()$`;&|=\"'".contains(it));
                    let is_folder = command.ends_with('/');
                    let is_there =
                        words.any(|word| word == command || is_folder && word.starts_with(command));
                    assert!(!is_there, "{name} runs {command}: {run}");
                }
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 1, "the job that publishes");
}

#[test]
fn programs_and_toolchains_are_pinned() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect(name);
    let container = read("deploy/image/Containerfile");
    let files = ["tools/deny", "tools/image/build", "docs/tasks/install.md"].map(read);
    let mut installed = 0;
    for text in workflows().iter().chain(&files).chain([&container]) {
        for command in text.lines().filter(|line| line.contains("cargo install") && !line.contains("--path"))
        {
            assert!(command.contains("--locked") && command.contains("--version"), "{command}");
            installed += 1;
        }
    }
    assert!(installed > 4, "{installed} programs");
    let toolchain = read("rust-toolchain.toml");
    let (_, channel) = toolchain.split_once("channel = \"").expect("a channel");
    let (version, _) = channel.split_once('"').expect("a version");
    assert_eq!(version.split('.').count(), 3, "{version} is not one version");
    let base = container.lines().find(|line| line.starts_with("FROM rust:")).expect("a base image");
    assert!(base.starts_with(&format!("FROM rust:{version}-")) && base.contains("@sha256:"), "{base}");
}
