//! The commands of an administrator, each as its own process with a kubeconfig of its user; here `orphans`: what is
//! left at Woodpecker.

use std::collections::BTreeMap;
use std::process::Command;

use kit::cluster::Cluster;
use kit::woodpecker::Credential;
use serde_json::{Value, json};

use crate::stage::{API_KEY, CLIENT, EXPIRY, Stage, TENANT, prepare};

/// Of no object of any other test, because they share the API server.
pub const OTHER_CLIENT: &str = "0dd0dd0d-0000-4000-8000-000000000001";
const MARKED: &str = "mail/long-gone [abcdefghjk29]";

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Printed {
    pub code: Option<i32>,
    pub out: String,
    pub error: String,
}

/// Runs a command on the stage's cluster. No key and no secret is ever in what it prints.
pub async fn run(stage: &Stage, args: &[&str]) -> Printed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graph-credential-operator"));
    command.args(args).env("KUBECONFIG", stage.cluster.kubeconfig_path());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let printed = Printed { code: ended.status.code(), out: text(ended.stdout), error: text(ended.stderr) };
    for secret in [API_KEY, "s3cret-one", "s3cret-two", "the-old-secret"] {
        assert!(!printed.out.contains(secret) && !printed.error.contains(secret), "{printed:?}");
    }
    printed
}

/// The same for a command that lists an account.
pub async fn look(stage: &Stage, command: &str, more: &[&str]) -> Printed {
    let base_url = stage.woodpecker.base_url();
    let args = [&[command, "--woodpecker-base-url", &base_url, "--dns-server", "127.0.0.1:9"], more].concat();
    run(stage, &args).await
}

/// A stage on a cluster of its own, for what works on all namespaces.
pub async fn alone() -> Stage {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.unwrap()));
    prepare(cluster).await;
    let mut stage = Stage::on(cluster).await;
    stage.start_operator().await;
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    stage
}

pub fn put(stage: &Stage, tenant: &str, client: &str, name: &str) -> i64 {
    stage.woodpecker.put("agency", Credential::new(tenant, client, "the-old-secret", EXPIRY, name))
}

/// The line of a table that holds all these words.
pub fn line<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    text.lines().find(|line| words.iter().all(|word| line.contains(word)))
}

/// Checks that `--help` of a command holds these words.
pub async fn helps(stage: &Stage, command: &str, words: &[&str]) {
    let printed = run(stage, &[command, "--help"]).await;
    let text = printed.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(text.contains(word), "{word}: {}", printed.out);
    }
}

#[tokio::test]
async fn orphans_tells_apart_whose_a_credential_is_and_lists_once() {
    let mut stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    let status = stage.wait_until_ready("sales-eu").await.status.unwrap();
    let registered = status.credential_id.unwrap();
    let token = status.registration.unwrap().token.unwrap();
    stage.stop_operator().await;
    let account = format!("{}/agency", stage.namespace);
    let object = format!("{}/sales-eu", stage.namespace);
    let none = look(&stage, "orphans", &["--account", &account]).await;
    assert_eq!(none.code, Some(0), "{none:?}");
    let help = [
        "one listing to each account",
        "beside a running operator",
        "Exit codes",
        "GCO_WOODPECKER_BASE_URLS",
    ];
    helps(&stage, "orphans", &help).await;

    let duplicate = format!("mail/sales-eu [{token}]");
    let orphaned = put(&stage, TENANT, CLIENT, &duplicate);
    let other_operator = put(&stage, TENANT, OTHER_CLIENT, MARKED);
    let unclaimed = put(&stage, &TENANT.to_uppercase(), CLIENT, "by hand");
    let foreign = put(&stage, TENANT, OTHER_CLIENT, "\u{1b}[31mstranger\n");
    let echoed = put(&stage, TENANT, OTHER_CLIENT, &format!("key {API_KEY}"));
    let (lists, writes) = (stage.woodpecker.lists("agency"), stage.woodpecker.writes("agency"));
    let text = look(&stage, "orphans", &["--account", &account]).await;
    assert_eq!(text.code, Some(3), "{text:?}");
    assert_eq!(stage.woodpecker.lists("agency"), lists + 1);
    let counts = line(&text.out, &[&account]).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(counts, [&account, "1", "1", "1", "1", "2"], "{}", text.out);
    let expected: [(&str, i64, &[&str]); 4] = [
        ("orphaned: made for the object", orphaned, &[&duplicate, CLIENT, &object]),
        ("other-operator: made by an operator", other_operator, &[MARKED, OTHER_CLIENT, EXPIRY]),
        ("unclaimed: for the tenant and client", unclaimed, &["by hand", CLIENT, &object]),
        ("foreign: for an app that no object names", foreign, &["stranger", OTHER_CLIENT]),
    ];
    for (head, id, words) in expected {
        let section = text.out.split("\n\n").find(|section| section.starts_with(head)).unwrap();
        assert!(section.contains("what to do: "), "{section}");
        assert!(line(section, &[words, &[&id.to_string()]].concat()).is_some(), "{words:?}: {section}");
    }
    assert!(!text.out.contains('\u{1b}') && !text.out.contains(&registered.to_string()), "{}", text.out);

    let json = look(&stage, "orphans", &["--account", &account, "-o", "json"]).await;
    let value: Value = serde_json::from_str(&json.out).unwrap();
    let sorts: BTreeMap<i64, &str> = value["credentials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["id"].as_i64().unwrap(), it["sort"].as_str().unwrap()))
        .collect();
    let expected = [
        (orphaned, "orphaned"),
        (other_operator, "other-operator"),
        (unclaimed, "unclaimed"),
        (foreign, "foreign"),
        (echoed, "foreign"),
    ];
    assert_eq!((json.code, sorts), (Some(3), expected.into()), "{value}");
    assert_eq!(value["accounts"], json!([{"account": account, "registered": 1, "problem": null}]));
    assert_eq!(stage.woodpecker.writes("agency"), writes);

    stage.woodpecker.remove("agency", orphaned);
    let none = look(&stage, "orphans", &["--account", &account]).await;
    assert_eq!(none.code, Some(0), "what another operator made is no orphan: {none:?}");
}

#[tokio::test]
async fn orphans_names_every_account_that_it_could_not_list_and_why() {
    let mut stage = alone().await;
    stage.stop_operator().await;
    put(&stage, TENANT, OTHER_CLIENT, MARKED);
    stage.account("elsewhere", json!({"baseUrl": "https://elsewhere.example/rest"})).await;
    stage.apply_account("keyless", json!({})).await;
    stage.account("refused", json!({"apiKeySecretRef": {"name": "refused-key"}})).await;
    stage.secret("refused-key", &[("api_key", "another.key")]).await;
    stage.account("odd", json!({})).await;
    stage.secret("odd-key", &[("api_key", &format!("{API_KEY}\n"))]).await;
    let printed = look(&stage, "orphans", &[]).await;
    assert_eq!(printed.code, Some(1), "{printed:?}");
    for (account, why) in [
        ("elsewhere", "--woodpecker-base-url https://elsewhere.example/rest"),
        ("keyless", "there is no Secret keyless-key"),
        ("refused", "Woodpecker refuses the API key"),
        ("odd", "line break"),
    ] {
        let words = [&format!("{}/{account} ", stage.namespace), "could not be listed", why];
        assert!(line(&printed.out, &words).is_some(), "{words:?}: {}", printed.out);
    }
    assert!(line(&printed.out, &["/agency ", MARKED]).is_some(), "{}", printed.out);
    let without = format!("{}/nobody", stage.namespace);
    let missing = look(&stage, "orphans", &["--account", &without]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.error.contains(&without) && missing.error.contains("--account"), "{missing:?}");
    let odd = look(&stage, "orphans", &["--account", "agency"]).await;
    assert_eq!((odd.code, odd.error.contains("NAMESPACE/NAME")), (Some(2), true), "{odd:?}");
}
