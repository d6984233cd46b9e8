//! The administrator's commands, each run as its own process with a kubeconfig. Here: `orphans` and `access`.

use std::collections::BTreeMap;
use std::process::Command;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kit::woodpecker::Credential;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::harness::{API_KEY, CLIENT, EXPIRY, TENANT, TestEnv, prepare};

/// An app that no other test registers, because all tests share the API server.
pub const OTHER_CLIENT: &str = "0dd0dd0d-0000-4000-8000-000000000001";
const MARKED: &str = "mail/long-gone [abcdefghjk29]";

/// Output and exit code of a command.
#[derive(Debug)]
pub struct CommandOutput {
    pub code: Option<i32>,
    pub out: String,
    pub error: String,
}

/// Runs a command on the test cluster, and checks that its output contains no key and no secret.
pub async fn run(env: &TestEnv, args: &[&str]) -> CommandOutput {
    run_with(env, args, &[]).await
}

/// The same with these environment variables.
pub async fn run_with(env: &TestEnv, args: &[&str], variables: &[(&str, String)]) -> CommandOutput {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graph-credential-operator"));
    command.args(args).env("KUBECONFIG", env.cluster.kubeconfig_path());
    command.envs(variables.iter().map(|(name, value)| (*name, value)));
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let printed =
        CommandOutput { code: ended.status.code(), out: text(ended.stdout), error: text(ended.stderr) };
    for secret in [API_KEY, "s3cret-one", "s3cret-two", "the-old-secret"] {
        assert!(!printed.out.contains(secret) && !printed.error.contains(secret), "{printed:?}");
    }
    printed
}

/// Runs a command that lists an account.
pub async fn look(env: &TestEnv, command: &str, more: &[&str]) -> CommandOutput {
    let base_url = env.woodpecker.base_url();
    let args =
        [&[command, "--allowed-woodpecker-url", &base_url, "--dns-server", "127.0.0.1:9"], more].concat();
    run(env, &args).await
}

/// A test environment on a cluster of its own, for commands that work on all namespaces.
pub async fn start_alone() -> TestEnv {
    let cluster = crate::harness::own_cluster().await;
    prepare(cluster).await;
    let mut env = TestEnv::on(cluster).await;
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env
}

pub fn put(env: &TestEnv, tenant: &str, client: &str, name: &str) -> i64 {
    env.woodpecker.put("agency", Credential::new(tenant, client, "the-old-secret", EXPIRY, name))
}

/// The line of a table that contains all these words.
pub fn line<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    text.lines().find(|line| words.iter().all(|word| line.contains(word)))
}

/// Checks that `--help` of a command contains these words.
pub async fn assert_help(env: &TestEnv, command: &str, words: &[&str]) {
    let printed = run(env, &[command, "--help"]).await;
    let text = printed.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(text.contains(word), "{word}: {}", printed.out);
    }
}

#[tokio::test]
async fn orphans_classifies_credentials_and_lists_each_account_once() {
    let mut env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    let status = env.wait_until_ready("sales-eu").await.status.unwrap();
    let registered = status.credential_id.unwrap();
    let token = status.registration.unwrap().idempotency_token.unwrap();
    env.stop_operator().await;
    let account = format!("{}/agency", env.namespace);
    let object = format!("{}/sales-eu", env.namespace);
    let none = look(&env, "orphans", &["--account", &account]).await;
    assert_eq!(none.code, Some(0), "{none:?}");
    let help = [
        "one list request to each account",
        "beside a running operator",
        "Exit codes",
        "GCO_ALLOWED_WOODPECKER_URLS",
    ];
    assert_help(&env, "orphans", &help).await;

    let duplicate = format!("mail/sales-eu [{token}]");
    let orphaned = put(&env, TENANT, CLIENT, &duplicate);
    let other_operator = put(&env, TENANT, OTHER_CLIENT, MARKED);
    let adoptable = put(&env, &TENANT.to_uppercase(), CLIENT, "by hand");
    let unmanaged = put(&env, TENANT, OTHER_CLIENT, "\u{1b}[31munknown-app\n");
    let echoed = put(&env, TENANT, OTHER_CLIENT, &format!("key {API_KEY}"));
    let (lists, writes) = (env.woodpecker.lists("agency"), env.woodpecker.writes("agency"));
    let text = look(&env, "orphans", &["--account", &account]).await;
    assert_eq!(text.code, Some(3), "{text:?}");
    assert_eq!(env.woodpecker.lists("agency"), lists + 1);
    let counts = line(&text.out, &[&account]).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(counts, [&account, "1", "1", "1", "1", "2"], "{}", text.out);
    let expected: [(&str, i64, &[&str]); 4] = [
        ("orphaned: created for the named object", orphaned, &[&duplicate, CLIENT, &object]),
        ("other-operator: created by an operator", other_operator, &[MARKED, OTHER_CLIENT, EXPIRY]),
        ("adoptable: for the tenant and client", adoptable, &["by hand", CLIENT, &object]),
        ("unmanaged: for an app that no object names", unmanaged, &["unknown-app", OTHER_CLIENT]),
    ];
    for (head, id, words) in expected {
        let section = text.out.split("\n\n").find(|section| section.starts_with(head)).unwrap();
        assert!(section.contains("what to do: "), "{section}");
        assert!(line(section, &[words, &[&id.to_string()]].concat()).is_some(), "{words:?}: {section}");
    }
    assert!(!text.out.contains('\u{1b}') && !text.out.contains(&registered.to_string()), "{}", text.out);

    let json = look(&env, "orphans", &["--account", &account, "-o", "json"]).await;
    let value: Value = serde_json::from_str(&json.out).unwrap();
    let sorts: BTreeMap<i64, &str> = value["credentials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["id"].as_i64().unwrap(), it["class"].as_str().unwrap()))
        .collect();
    let expected = [
        (orphaned, "orphaned"),
        (other_operator, "other-operator"),
        (adoptable, "adoptable"),
        (unmanaged, "unmanaged"),
        (echoed, "unmanaged"),
    ];
    assert_eq!((json.code, sorts), (Some(3), expected.into()), "{value}");
    assert_eq!(value["accounts"], json!([{"account": account, "registered": 1, "problem": null}]));
    assert_eq!(env.woodpecker.writes("agency"), writes);

    env.woodpecker.remove("agency", orphaned);
    let none = look(&env, "orphans", &["--account", &account]).await;
    assert_eq!(none.code, Some(0), "a credential of another operator is not orphaned: {none:?}");
}

#[tokio::test]
async fn orphans_reports_each_account_that_could_not_be_listed() {
    let mut env = start_alone().await;
    env.stop_operator().await;
    put(&env, TENANT, OTHER_CLIENT, MARKED);
    env.account("elsewhere", json!({"baseUrl": "https://elsewhere.example/rest"})).await;
    env.apply_account("keyless", json!({})).await;
    env.account("refused", json!({"apiKeySecretRef": {"name": "refused-key"}})).await;
    env.secret("refused-key", &[("api_key", "another.key")]).await;
    env.account("odd", json!({})).await;
    env.secret("odd-key", &[("api_key", &format!("{API_KEY}\n"))]).await;
    let printed = look(&env, "orphans", &[]).await;
    assert_eq!(printed.code, Some(1), "{printed:?}");
    for (account, why) in [
        ("elsewhere", "--allowed-woodpecker-url https://elsewhere.example/rest"),
        ("keyless", "Secret keyless-key does not exist"),
        ("refused", "Woodpecker rejects the API key"),
        ("odd", "line feed"),
    ] {
        let words = [&format!("{}/{account} ", env.namespace), "could not be listed", why];
        assert!(line(&printed.out, &words).is_some(), "{words:?}: {}", printed.out);
    }
    assert!(line(&printed.out, &["/agency ", MARKED]).is_some(), "{}", printed.out);
    let without = format!("{}/nobody", env.namespace);
    let missing = look(&env, "orphans", &["--account", &without]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.error.contains(&without) && missing.error.contains("--account"), "{missing:?}");
    let odd = look(&env, "orphans", &["--account", "agency"]).await;
    assert_eq!((odd.code, odd.error.contains("NAMESPACE/NAME")), (Some(2), true), "{odd:?}");
}

async fn create_namespace(env: &TestEnv, name: &str) {
    let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::<Namespace>::all(env.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

/// The findings of `access` for these arguments, without their details.
async fn findings(env: &TestEnv, args: &[&str]) -> Vec<[String; 3]> {
    let printed = run(env, &[&["access", "--output", "json"], args].concat()).await;
    let value: Value = serde_json::from_str(&printed.out).unwrap_or_else(|_| panic!("{printed:?}"));
    let text = |it: &Value, field: &str| it[field].as_str().unwrap().to_owned();
    let found = value["findings"].as_array().unwrap().iter();
    let found: Vec<[String; 3]> =
        found.map(|it| ["problem", "object", "detail"].map(|field| text(it, field))).collect();
    assert_eq!(printed.code, Some(if found.is_empty() { 0 } else { 3 }), "{printed:?}");
    found
}

#[tokio::test]
async fn access_lists_what_was_withdrawn_or_is_for_another_namespace() {
    let mut env = TestEnv::bare().await;
    let [early, late, missing] = ["early", "late", "missing"].map(|end| format!("{}-{end}", env.namespace));
    create_namespace(&env, &early).await;
    env.account("agency", json!({"allowedNamespaces": {"names": [early, late, missing]}})).await;
    // The API server counts in seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    create_namespace(&env, &late).await;
    let own = std::mem::replace(&mut env.namespace, late.clone());
    let account = json!({"name": "agency", "namespace": own});
    env.credential("sales-eu", json!({"destination": {"woodpecker": {"accountRef": account}}})).await;

    let all = [&*early, &*late, &*missing].join(",");
    let found = findings(&env, &["--namespace", &all]).await;
    let expected = [
        ("namespace-newer", format!("Namespace {late}")),
        ("namespace-missing", format!("Namespace {missing}")),
    ];
    assert_eq!(
        found.iter().map(|[problem, object, _]| (&**problem, object.clone())).collect::<Vec<_>>(),
        expected
    );
    assert!(found[0][2].contains(", last allowed "), "{found:?}");
    assert_eq!(findings(&env, &["--namespace", &early]).await, [[""; 3]; 0]);

    let user = format!("system:serviceaccount:{late}:deployer");
    let args = ["--namespace", &late, "--user", &user];
    let denied = async |env: &TestEnv| {
        let found = findings(env, &args).await.into_iter().skip(1);
        found.map(|[problem, object, detail]| format!("{problem} {object}: {detail}")).collect::<Vec<_>>()
    };
    let head = format!("user-denied MicrosoftGraphCredential {late}/sales-eu: the user may not");
    let use_account = format!("{head} use woodpeckeraccounts {own}/agency");
    assert_eq!(
        denied(&env).await,
        [format!("{head} get secrets {late}/sales-eu-graph"), use_account.clone()]
    );
    // A right of a group of the ServiceAccount.
    env.apply::<Role>(
        "read",
        json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}),
    )
    .await
    .unwrap();
    let binding = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "read"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": format!("system:serviceaccounts:{late}")}]
    });
    env.apply::<RoleBinding>("read", binding).await.unwrap();
    crate::harness::eventually("the right is in force", || async {
        let denied = denied(&env).await;
        if denied == [use_account.clone()] { Ok(()) } else { Err(format!("{denied:?}")) }
    })
    .await;

    let text = run(&env, &["access", "--namespace", &late]).await;
    assert!(line(&text.out, &["namespace-newer", &late, &format!("{own}/agency")]).is_some(), "{text:?}");
    let everywhere = run(&env, &["access", "--user", &user]).await;
    assert_eq!(
        (everywhere.code, everywhere.error.contains("--namespace")),
        (Some(2), true),
        "{everywhere:?}"
    );
    assert_help(&env, "access", &["Kubernetes does not record who did", "user-denied", "Exit codes"]).await;
}
