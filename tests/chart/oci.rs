//! The chart as an OCI artifact: pushed to a registry and pulled again, it is unchanged.

use std::path::Path;
use std::time::Duration;

use kit::assets::{Assets, Program};
use kit::process::Process;
use serde_json::json;

use crate::rendering::{NAMESPACE, chart, helm};

const NAME: &str = "graph-credential-operator";

fn run(args: &[&str]) -> String {
    helm().plain(Path::new("/dev/null"), args).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_from_a_registry_equals_the_folder() {
    let located = tokio::task::spawn_blocking(|| Assets::locate(&[Program::Registry])).await.unwrap();
    let assets = located.unwrap_or_else(|error| panic!("{}", kit::chain(&error)));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("registry.log");
    let program = assets.path(Program::Registry).unwrap();
    let registry = Process::builder(program).args(["--port", "0"]).log(log).spawn().await.unwrap();
    registry.wait_for_log("serving on port ", Duration::from_secs(20)).await.unwrap();
    let log = registry.log();
    let port: u16 = log.split("serving on port ").nth(1).unwrap().trim().parse().unwrap();

    let (version, to) = (env!("CARGO_PKG_VERSION"), folder.path().display().to_string());
    run(&["package", &chart().display().to_string(), "--destination", &to]);
    let archive = folder.path().join(format!("{NAME}-{version}.tgz")).display().to_string();
    let charts = format!("oci://localhost:{port}/charts");
    run(&["push", &archive, &charts, "--plain-http"]);
    let from = format!("{charts}/{NAME}");
    let args = ["template", NAME, &from, "--version", version, "--namespace", NAMESPACE, "--plain-http"];
    let expected = helm().template(&chart(), NAMESPACE, &json!({}), &[]).unwrap();
    assert_eq!(run(&args), expected);
}
