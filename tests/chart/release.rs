//! What the release workflow writes into the chart before it packs it, run as the workflow does.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::alerts::runbooks;
use crate::artifact_hub;
use crate::global::copy;
use crate::rendering::{NAMESPACE, Rendered, chart, helm};

const STEP: &str = "The chart, and manifests that name the image";

/// The commands of a step of the job that packs a release.
pub fn commands_of(step: &str) -> String {
    let file = kit::workspace().join(".github").join("workflows").join("release.yaml");
    let workflow = kit::helm::parse(&fs::read_to_string(file).unwrap()).unwrap().remove(0);
    let steps = workflow["jobs"]["package"]["steps"].as_array().unwrap();
    let found: &Value = steps.iter().find(|it| it["name"] == step).expect("the workflow has the step");
    found["run"].as_str().unwrap().to_owned()
}

/// The commands that change the chart: those before the step builds helm.
fn commands() -> String {
    let all = commands_of(STEP);
    let (before, _) = all.split_once("(cd tools/helm").expect("it builds helm");
    before.to_owned()
}

/// Runs the commands in a folder with a copy of the chart.
fn run_in(folder: &Path) {
    copy(&chart(), &folder.join("deploy/chart"));
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &commands()])
        .current_dir(folder)
        .env("GITHUB_REF_NAME", concat!("v", env!("CARGO_PKG_VERSION")))
        .env("GITHUB_SERVER_URL", "https://git.example.com")
        .env("GITHUB_REPOSITORY", "mail/graph-credential-operator")
        .env("REGISTRY", "registry.example.com")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_released_chart_names_its_registry_and_where_its_pages_are() {
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path());
    let released = folder.path().join("deploy/chart");
    let about = artifact_hub::about(&fs::read_to_string(released.join("Chart.yaml")).unwrap());
    artifact_hub::check(&about);
    let source = "https://git.example.com/mail/graph-credential-operator";
    assert_eq!((&about["home"], &about["sources"]), (&json!(source), &json!([source])));
    let links = about["annotations"]["artifacthub.io/links"].as_str().unwrap();
    for link in kit::helm::parse(links).unwrap()[0].as_array().unwrap() {
        let url = link["url"].as_str().unwrap().strip_prefix(source).unwrap_or_else(|| panic!("{link}"));
        let page = url.strip_prefix(concat!("/blob/v", env!("CARGO_PKG_VERSION"), "/"));
        assert!(url == "/issues" || page.is_some_and(|page| kit::workspace().join(page).is_file()), "{link}");
    }

    let rendered = |values: Value| Rendered(helm().objects(&released, NAMESPACE, &values).unwrap());
    let with_alerts = rendered(json!({"prometheusRule": {"enabled": true}}));
    for link in runbooks(&with_alerts) {
        let page = link.strip_prefix(&format!("{source}/blob/v{}/", env!("CARGO_PKG_VERSION")));
        assert!(page.is_some_and(|page| kit::workspace().join(page).is_file()), "{link}");
    }
    let own = json!({"prometheusRule": {"enabled": true, "runbookBaseUrl": "https://runbooks.example.com"}});
    assert!(runbooks(&rendered(own)).iter().all(|link| link.starts_with("https://runbooks.example.com/Gr")
        || link.starts_with("https://runbooks.example.com/Wo")
        || link.starts_with("https://runbooks.example.com/En")));
    let image = &with_alerts.get("Deployment", "")["spec"]["template"]["spec"]["containers"][0]["image"];
    let expected = concat!("registry.example.com/mail/graph-credential-operator:", env!("CARGO_PKG_VERSION"));
    assert_eq!(*image, expected);
}

#[test]
fn the_chart_of_the_repository_names_no_address() {
    let about = artifact_hub::about(&fs::read_to_string(chart().join("Chart.yaml")).unwrap());
    assert!(about["home"].is_null() && about["sources"].is_null(), "a fork has another one");
}
