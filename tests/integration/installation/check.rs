//! `check` on an installation of the chart: all is well, and each thing that is wrong is named with what to do.

use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::TokenRequest;
use kit::clock::Clock;

use super::release::NAMESPACE;
use super::*;
use crate::admin_cli::{CommandOutput, run, run_with};

const ACCOUNT: &str = "graph-credentials/graph-credential-operator";

/// The flags that lead to the doubles.
fn flags(env: &TestEnv) -> Vec<String> {
    let (entra, woodpecker) = (env.entra.url(), env.woodpecker.base_url());
    ["--microsoft-authority", &entra, "--allowed-woodpecker-url", &woodpecker, "--dns-server", "127.0.0.1:9"]
        .map(ToOwned::to_owned)
        .to_vec()
}

pub async fn check(env: &TestEnv, more: &[&str]) -> CommandOutput {
    let flags = flags(env);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    run(env, &[&["check", "--operator-namespace", NAMESPACE], flags.as_slice(), more].concat()).await
}

/// A kubeconfig of a ServiceAccount without rights.
pub async fn kubeconfig_of_nobody(env: &TestEnv) -> PathBuf {
    let accounts: Api<ServiceAccount> = Api::namespaced(env.client.clone(), &env.namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": "nobody"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let request = TokenRequest::default();
    let token = accounts.create_token_request("nobody", &PostParams::default(), &request).await.unwrap();
    env.cluster.kubeconfig_with_token("nobody", &token.status.unwrap().token).unwrap()
}

/// The result and the detail of a check.
pub fn found<'a>(printed: &'a CommandOutput, name: &str) -> &'a str {
    let row = printed.out.lines().find(|row| row.starts_with(name));
    row.unwrap_or_else(|| panic!("{name}: {printed:?}"))[name.len()..].trim_start()
}

#[tokio::test]
async fn check_finds_nothing_wrong_with_a_default_installation() {
    let mut release = Release::install(|_| json!({})).await;
    release.start_operator().await;
    eventually("the operator leads and has its keyring", || async {
        let printed = check(&release.env, &["--service-account", ACCOUNT]).await;
        if printed.code == Some(0) { Ok(()) } else { Err(format!("{printed:?}")) }
    })
    .await;
    let printed = check(&release.env, &["--service-account", ACCOUNT]).await;
    for (name, words) in [
        ("API server", "http"),
        ("CRDs", "graph-credentials.io/v1alpha1 is served"),
        ("other operators", "none outside namespace graph-credentials"),
        ("admission policies", "7 are active and bound"),
        ("leader", "renewed"),
        ("keyring", "is primary for"),
        ("rights", "complete"),
        ("Microsoft", "is reachable, and the clocks agree"),
        ("Woodpecker", "is reachable, and the clocks agree"),
    ] {
        let row = found(&printed, name);
        assert!(row.starts_with("ok") && row.contains(words), "{name}: {row}");
    }

    // With the operator's own token, as in its pod.
    let own = release.operators_kubeconfig().await;
    let own = check(&release.env, &["--kubeconfig", &own.display().to_string()]).await;
    assert_eq!(own.code, Some(0), "{own:?}");
    assert!(found(&own, "admission policies").starts_with("unknown"), "{own:?}");
    assert!(found(&own, "rights").contains("add --service-account"), "{own:?}");

    let watching = check(&release.env, &["--service-account", ACCOUNT, "--secret-access", "watch"]).await;
    assert_eq!(watching.code, Some(3), "{watching:?}");
    assert!(found(&watching, "rights").contains("missing: list secrets; watch secrets"), "{watching:?}");

    let graph = kit::graph::Graph::start().await;
    let identities = ["--service-account", ACCOUNT, "--entra-identities", "--microsoft-graph", &graph.url()];
    let identities = check(&release.env, &identities).await;
    assert_eq!(identities.code, Some(3), "{identities:?}");
    for right in ["get entraidentities", "patch entraidentities", "update entraidentities/status"] {
        assert!(found(&identities, "rights").contains(right), "{right}: {identities:?}");
    }
    assert!(found(&identities, "Microsoft Graph").starts_with("ok"), "{identities:?}");
}

#[tokio::test]
async fn check_names_what_is_wrong_and_what_to_do() {
    let mut release = Release::install(|_| json!({"admissionPolicies": {"enabled": false}})).await;
    let before =
        check(&release.env, &["--service-account", "default/default", "--watch-namespace", "mail"]).await;
    assert_eq!(before.code, Some(3), "{before:?}");
    for (name, result, words) in [
        ("admission policies", "warning", "admissionPolicies.enabled"),
        ("leader", "failed", "there is no Lease graph-credentials/graph-credential-operator"),
        ("keyring", "failed", "the operator creates it at its first start"),
        ("rights", "failed", "get secrets in namespace mail"),
    ] {
        let row = found(&before, name);
        assert!(row.starts_with(result) && row.contains(words), "{name}: {row}");
    }
    release.start_operator().await;
    let elsewhere = serde_json::from_value(json!({"metadata": {"name": "elsewhere"}})).unwrap();
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(release.env.client.clone());
    namespaces.create(&PostParams::default(), &elsewhere).await.unwrap();
    release.install_beside("second", "elsewhere", json!({"crds": {"enabled": false}, "admissionPolicies": {"enabled": false}, "preDeleteHook": {"enabled": false}})).await;
    let beside = check(&release.env, &[]).await;
    assert!(found(&beside, "other operators").starts_with("warning  elsewhere/"), "{beside:?}");
    let secrets: Api<Secret> = Api::namespaced(release.env.client.clone(), NAMESPACE);
    let damage = json!({"stringData": {"keyring.json": "{}"}});
    let patch = kube::api::Patch::Merge(damage);
    secrets
        .patch("graph-credential-operator-keyring", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
    let damaged = check(&release.env, &[]).await;
    let row = found(&damaged, "keyring");
    assert!(row.starts_with("failed") && row.contains("is damaged"), "{row}");
    let json = check(&release.env, &["-o", "json"]).await;
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        json["checks"][0],
        json!({"check": "API server", "result": "ok", "detail": json["checks"][0]["detail"], "whatToDo": null})
    );
}

#[tokio::test]
async fn check_before_an_installation_covers_rights_network_and_clock() {
    let env = TestEnv::bare().await;
    let ready = check(&env, &["--pre"]).await;
    assert_eq!(ready.code, Some(0), "{ready:?}");
    assert!(found(&ready, "rights to install").starts_with("ok"), "{ready:?}");

    let nobody = kubeconfig_of_nobody(&env).await;
    let denied = check(&env, &["--pre", "--kubeconfig", &nobody.display().to_string()]).await;
    assert_eq!(denied.code, Some(3), "{denied:?}");
    assert!(found(&denied, "rights to install").contains("create clusterroles"), "{denied:?}");

    let unreachable = check(&env, &["--pre", "--allowed-woodpecker-url", "http://127.0.0.1:9/rest"]).await;
    assert_eq!(unreachable.code, Some(3), "{unreachable:?}");
    let row = unreachable.out.lines().find(|row| row.contains("127.0.0.1:9/rest")).unwrap();
    assert!(row.contains("failed") && row.contains("HTTPS_PROXY"), "{row}");

    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::new(directory.path()).unwrap();
    clock.set_ahead(-600).unwrap();
    let flags = flags(&env);
    let args: Vec<&str> = ["check", "--pre"].into_iter().chain(flags.iter().map(String::as_str)).collect();
    let late = run_with(&env, &args, &clock.env()).await;
    assert_eq!(late.code, Some(3), "{late:?}");
    assert!(found(&late, "Woodpecker").contains("this machine's clock is"), "{late:?}");

    let nowhere = directory.path().join("kubeconfig");
    let text = std::fs::read_to_string(env.cluster.kubeconfig_path()).unwrap();
    let port = "https://127.0.0.1:";
    let start = text.find(port).unwrap() + port.len();
    let end = start + text[start..].find(|letter: char| !letter.is_ascii_digit()).unwrap();
    std::fs::write(&nowhere, format!("{}9{}", &text[..start], &text[end..])).unwrap();
    let down = check(&env, &["--kubeconfig", &nowhere.display().to_string()]).await;
    assert_eq!(down.code, Some(3), "{down:?}");
    assert!(found(&down, "API server").starts_with("failed"), "{down:?}");
    assert!(found(&down, "Woodpecker").starts_with("ok"), "{down:?}");
}
