//! The command `plan`: what would happen to the objects of a file, without any change.

use graph_credential_operator::api::{MicrosoftGraphCredential, WoodpeckerAccount};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::admin_cli::{CommandOutput, OTHER_CLIENT, assert_help, run};
use crate::harness::{EXPIRY, TestEnv, merge, plain_spec};

/// An environment with an account and a ready credential `sales-eu`.
async fn env() -> TestEnv {
    let env = TestEnv::start().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    env
}

fn credential(name: &str, spec: Value) -> Value {
    object("MicrosoftGraphCredential", name, &plain_spec(spec))
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "graph-credentials.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn secret(name: &str, values: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values})
}

/// Plans the documents.
async fn plan(env: &TestEnv, documents: &[Value], more: &[&str]) -> CommandOutput {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("objects.yaml");
    let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
    std::fs::write(&file, text.join("\n---\n")).unwrap();
    plan_file(env, file.to_str().unwrap(), more).await
}

async fn plan_file(env: &TestEnv, file: &str, more: &[&str]) -> CommandOutput {
    let base_url = env.woodpecker.base_url();
    let network = ["--allowed-woodpecker-url", &base_url, "--dns-server", "127.0.0.1:9"];
    run(env, &[&["plan", "-f", file, "--namespace", &env.namespace], &network[..], more].concat()).await
}

/// The plan of one object as JSON.
async fn plan_of(env: &TestEnv, documents: &[Value]) -> (Option<i32>, Value) {
    let printed = plan(env, documents, &["-o", "json"]).await;
    let json: Value =
        serde_json::from_str(&printed.out).unwrap_or_else(|error| panic!("{error}: {printed:?}"));
    (printed.code, json["objects"].as_array().and_then(|objects| objects.last()).cloned().unwrap_or_default())
}

/// All steps in one text.
fn steps(plan: &Value) -> String {
    let steps = plan["steps"].as_array().cloned().unwrap_or_default();
    steps.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
}

fn outcome(plan: &Value) -> (&str, &str) {
    (plan["outcome"].as_str().unwrap_or_default(), plan["reason"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_new_credential_is_planned_with_its_secret_and_nothing_is_changed() {
    let env = env().await;
    let values = json!({"client_secret": "s3cret-two", "secret_expires_at": EXPIRY});
    let spec =
        json!({"clientId": OTHER_CLIENT, "secretRef": {"name": "new-graph"}, "deletionPolicy": "Delete"});
    let documents = [secret("new-graph", &values), credential("new", spec)];
    let (tokens, remote) = (env.entra.requests().len(), env.remote());
    let printed = plan(&env, &documents, &[]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let account = format!("{}/agency", env.namespace);
    let expected = [
        format!("MicrosoftGraphCredential {}/new: would be created", env.namespace),
        format!("1. request a token from Microsoft for app {OTHER_CLIENT} in tenant"),
        format!("2. list the credentials of account {account}"),
        "3. add the finalizer, so that a deletion waits for the operator".to_owned(),
        format!("create a credential with the name \"{}/new [token]\" at account {account}", env.namespace),
        "then: it is Ready, with the new credential".to_owned(),
    ];
    for text in &expected {
        assert!(printed.out.contains(text), "{text}: {}", printed.out);
    }
    assert_eq!(env.entra.requests().len(), tokens, "nothing is sent to Microsoft");
    assert_eq!(env.remote(), remote, "nothing is changed at Woodpecker");
    let objects = env.api::<MicrosoftGraphCredential>().list(&ListParams::default()).await.unwrap();
    assert_eq!(objects.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["sales-eu"]);
}

#[tokio::test]
async fn changes_of_an_existing_credential_are_planned_and_its_state_is_kept() {
    let env = env().await;
    let version = env.read("sales-eu").await.resource_version();
    let (code, same) = plan_of(&env, &[credential("sales-eu", json!({}))]).await;
    assert_eq!(
        (code, &same["change"], steps(&same).as_str()),
        (Some(0), &json!("Unchanged"), ""),
        "{same:#}"
    );
    assert!(same["message"].as_str().unwrap().starts_with("it is Ready: credential "), "{same:#}");

    let (code, renamed) = plan_of(&env, &[credential("sales-eu", json!({"displayName": "Sales EU"}))]).await;
    assert_eq!((code, &renamed["changedFields"]), (Some(0), &json!(["spec.displayName"])), "{renamed:#}");
    assert!(steps(&renamed).ends_with("to \"Sales EU\""), "{renamed:#}");

    let values = json!({"client_secret": "s3cret-two", "secret_expires_at": EXPIRY});
    let documents = [secret("sales-eu-graph", &values), credential("sales-eu", json!({}))];
    let (code, rotated) = plan_of(&env, &documents).await;
    assert_eq!((code, outcome(&rotated)), (Some(0), ("Ready", "")), "{rotated:#}");
    assert!(steps(&rotated).contains("request a token from Microsoft"), "{rotated:#}");
    assert!(steps(&rotated).contains("replace secret and expiry of credential"), "{rotated:#}");

    let same = json!({"client_secret": "s3cret-one", "secret_expires_at": EXPIRY});
    let documents = [secret("sales-eu-graph", &same), credential("sales-eu", json!({}))];
    let (code, unchanged) = plan_of(&env, &documents).await;
    assert_eq!(
        (code, steps(&unchanged).as_str()),
        (Some(0), ""),
        "the same values are no new secret: {unchanged:#}"
    );

    let (code, suspended) = plan_of(&env, &[credential("sales-eu", json!({"suspend": true}))]).await;
    assert_eq!(
        (code, outcome(&suspended), steps(&suspended).as_str()),
        (Some(0), ("Ready", ""), ""),
        "{suspended:#}"
    );
    let (_, stopped) =
        plan_of(&env, &[credential("new", json!({"clientId": OTHER_CLIENT, "suspend": true}))]).await;
    assert_eq!(outcome(&stopped), ("Open", ""), "{stopped:#}");
    assert_eq!(env.read("sales-eu").await.resource_version(), version, "nothing was written");
}

#[tokio::test]
async fn a_move_updates_the_old_account_and_deletes_there_last() {
    let env = env().await;
    env.woodpecker.add_account("other", "1234.key-of-another-account");
    env.secret("other-key", &[("api_key", "1234.key-of-another-account")]).await;
    let account = json!({"apiKeySecretRef": {"name": "other-key"}, "baseUrl": env.woodpecker.base_url()});
    let moved =
        json!({"destination": {"woodpecker": {"accountRef": {"name": "other"}}}, "deletionPolicy": "Delete"});
    let values = json!({"client_secret": "s3cret-two", "secret_expires_at": EXPIRY});
    let documents = [
        object("WoodpeckerAccount", "other", &account),
        secret("sales-eu-graph", &values),
        credential("sales-eu", moved),
    ];
    let (code, planned) = plan_of(&env, &documents).await;
    assert_eq!((code, outcome(&planned)), (Some(0), ("Ready", "")), "{planned:#}");
    let steps = steps(&planned);
    let place = |text: &str| steps.find(text).unwrap_or_else(|| panic!("{text}: {steps}"));
    let account = |name: &str| format!("{}/{name}", env.namespace);
    assert!(place("replace secret and expiry") < place("go on at the account of the spec"), "{steps}");
    assert!(
        place(&format!("list the credentials of account {}", account("other")))
            < place("create a credential")
    );
    assert!(place("create a credential") < place(&format!("at account {}", account("agency"))), "{steps}");
}

#[tokio::test]
async fn the_api_servers_rejection_is_the_plan() {
    let env = env().await;
    let limited = plan_as_viewer(&env).await;
    let mut unknown = credential("sales-eu", json!({}));
    merge(&mut unknown, json!({"spec": {"secretName": "x"}}));
    let mut elsewhere = credential("new", json!({"clientId": OTHER_CLIENT}));
    merge(&mut elsewhere, json!({"metadata": {"namespace": "no-such-namespace"}}));
    for (document, words) in [
        (credential("sales-eu", json!({"clientId": OTHER_CLIENT})), "spec.clientId is immutable"),
        (credential("new", json!({"tenantId": "contoso.com"})), "spec.tenantId must be a GUID"),
        (unknown, ".spec.secretName: field not declared in schema"),
        (elsewhere, "no-such-namespace"),
    ] {
        let (code, plan) = plan_of(&env, std::slice::from_ref(&document)).await;
        assert_eq!((code, outcome(&plan)), (Some(3), ("Rejected", "")), "{plan:#}");
        assert!(plan["message"].as_str().is_some_and(|message| message.contains(words)), "{words}: {plan:#}");
    }
    assert_eq!(limited.code, Some(3), "{limited:?}");
    assert!(
        limited.out.contains("the API server rejects it: ") && limited.out.contains("is forbidden"),
        "{limited:?}"
    );
}

/// Plans as a user who may only read the operator's objects.
async fn plan_as_viewer(env: &TestEnv) -> CommandOutput {
    let rights = [("microsoftgraphcredentials", vec!["get", "list"])];
    let kubeconfig = env.limited_user("viewer", &rights).await;
    let spec = json!({"clientId": OTHER_CLIENT});
    plan(env, &[credential("new", spec)], &["--kubeconfig", kubeconfig.to_str().unwrap()]).await
}

#[tokio::test]
async fn what_would_stop_the_operator_is_named() {
    let env = env().await;
    let account = |name: &str| json!({"woodpecker": {"accountRef": {"name": name}}});
    let other = |spec: Value| {
        let mut whole = json!({"clientId": OTHER_CLIENT});
        merge(&mut whole, spec);
        credential("new", whole)
    };
    let expired = secret("old", &json!({"client_secret": "s3cret-one", "secret_expires_at": "2020-01-01"}));
    for (documents, reason) in [
        (vec![other(json!({"secretRef": {"name": "missing"}}))], "SecretNotFound"),
        (vec![other(json!({"secretRef": {"name": "sales-eu-graph", "clientSecretKey": "x"}}))], "KeyMissing"),
        (vec![expired, other(json!({"secretRef": {"name": "old"}}))], "ExpiryInPast"),
        (vec![other(json!({"destination": account("missing")}))], "AccountNotFound"),
        (vec![credential("twin", json!({}))], "AlreadyManaged"),
    ] {
        let (code, plan) = plan_of(&env, &documents).await;
        assert_eq!((code, outcome(&plan)), (Some(3), ("NotReady", reason)), "{plan:#}");
    }
    let wrong_key = secret("wrong", &json!({"api_key": "no-such-key"}));
    let spec = json!({"apiKeySecretRef": {"name": "wrong"}, "baseUrl": env.woodpecker.base_url()});
    let documents = [
        wrong_key,
        object("WoodpeckerAccount", "wrong", &spec),
        other(json!({"destination": account("wrong")})),
    ];
    let (code, plan) = plan_of(&env, &documents).await;
    assert_eq!((code, outcome(&plan)), (Some(3), ("NotReady", "AccountNotReady")), "{plan:#}");
    let accounts = env.api::<WoodpeckerAccount>().list(&ListParams::default()).await.unwrap();
    assert_eq!(accounts.iter().count(), 1, "no account was created");
}

#[tokio::test]
async fn a_store_destination_is_planned() {
    let env = env().await;
    let spec = json!({"clientId": OTHER_CLIENT, "destination": {"woodpecker": null, "store": {}}});
    let (code, planned) = plan_of(&env, &[credential("new", spec)]).await;
    assert_eq!((code, outcome(&planned)), (Some(0), ("Ready", "")), "{planned:#}");
    assert!(steps(&planned).ends_with("encrypt the secret into a new record in the store"), "{planned:#}");
}

#[tokio::test]
async fn without_the_right_to_read_secrets_the_plan_says_what_it_assumes() {
    let env = env().await;
    let store = json!({"destination": {"woodpecker": null, "store": {}}});
    env.credential("sealed", store.clone()).await;
    env.wait_until_ready("sealed").await;
    // As the chart's role for users grants it: no Secrets, no records, and here no accounts either.
    let rights = [("microsoftgraphcredentials", vec!["get", "list", "create", "update", "patch"])];
    let kubeconfig = env.limited_user("developer", &rights).await;
    let (new, sealed) = (credential("new", json!({"clientId": OTHER_CLIENT})), credential("sealed", store));
    let printed = plan(&env, &[new, sealed], &["--kubeconfig", kubeconfig.to_str().unwrap()]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    for text in [
        "assumed: Secret sales-eu-graph holds a usable client secret and its expiry: you may not read it",
        "is Ready and allows this namespace: you may not read it",
        "assumed: no object in another namespace has this app: you may not list them",
        "then: what follows depends on the result of this step",
        "is unchanged: you may not read it",
        "no steps: it is Ready: credential ",
    ] {
        assert!(printed.out.contains(text), "{text}: {printed:?}");
    }
}

#[tokio::test]
async fn fields_of_other_tools_are_kept_as_by_kubectl_apply() {
    let env = env().await;
    let api = env.api::<MicrosoftGraphCredential>();
    let suspend = json!({"spec": {"suspend": true}});
    api.patch("sales-eu", &PatchParams::default(), &Patch::Merge(&suspend)).await.unwrap();
    let (_, kept) = plan_of(&env, &[credential("sales-eu", json!({"displayName": "Sales EU"}))]).await;
    assert_eq!(kept["changedFields"], json!(["spec.displayName"]), "{kept:#}");
    // The harness applies server-side: what its manager no longer sends is removed.
    env.credential("sales-eu", json!({"displayName": "Sales EU"})).await;
    let (_, removed) = plan_of(&env, &[credential("sales-eu", json!({}))]).await;
    assert_eq!(removed["changedFields"], json!(["spec.displayName"]), "{removed:#}");
}

#[tokio::test]
async fn objects_of_one_file_are_planned_together() {
    let env = env().await;
    let other = |spec: Value| {
        let mut whole = json!({"clientId": OTHER_CLIENT, "secretRef": {"name": "later"}});
        merge(&mut whole, spec);
        whole
    };
    let external = json!({"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": "later"}, "spec": {}});
    let documents = [external, credential("one", other(json!({}))), credential("two", other(json!({})))];
    let printed = plan(&env, &documents, &[]).await;
    assert_eq!(printed.code, Some(3), "{printed:?}");
    assert!(printed.out.contains("ExternalSecret later may create it"), "{printed:?}");
    let conflict =
        format!("MicrosoftGraphCredential {}/one already manages this tenant and client", env.namespace);
    assert!(printed.out.contains(&conflict), "{printed:?}");

    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "not-yet-there"}});
    let mut early = credential(
        "early",
        json!({"destination": {"woodpecker": null, "store": {}}, "clientId": OTHER_CLIENT}),
    );
    early["metadata"]["namespace"] = json!("not-yet-there");
    let values = json!({"client_secret": "s3cret-one", "secret_expires_at": EXPIRY});
    let mut its_secret = secret("sales-eu-graph", &values);
    its_secret["metadata"]["namespace"] = json!("not-yet-there");
    let printed = plan(&env, &[namespace, its_secret, early], &[]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.error.contains("because namespace not-yet-there does not exist yet"), "{printed:?}");
    assert!(printed.out.contains("encrypt the secret into a new record in the store"), "{printed:?}");
}

#[tokio::test]
async fn the_flags_of_the_operator_change_the_plan() {
    let env = env().await;
    let spec = json!({"clientId": OTHER_CLIENT, "deletionPolicy": "Delete"});
    let printed = plan(&env, &[credential("new", spec.clone())], &["--enable-finalizers=false"]).await;
    assert!(!printed.out.contains("finalizer"), "{printed:?}");
    let printed = plan(&env, &[credential("new", spec)], &["--watch-namespace", "elsewhere"]).await;
    assert_eq!(printed.code, Some(3), "{printed:?}");
    assert!(printed.out.contains("the operator does not serve this namespace"), "{printed:?}");
}

#[tokio::test]
async fn an_unusable_file_is_named() {
    let env = env().await;
    for (file, words) in [
        ("/no/such/file", "failed to read /no/such/file"),
        ("/dev/null", "/dev/null has no MicrosoftGraphCredential"),
    ] {
        let printed = plan_file(&env, file, &[]).await;
        assert_eq!(printed.code, Some(1), "{printed:?}");
        assert!(printed.error.contains(words), "{words}: {printed:?}");
    }
    let printed =
        plan(&env, &[json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}})], &[]).await;
    assert_eq!(printed.code, Some(1), "{printed:?}");
    assert_help(&env, "plan", &["Exit codes", "--filename", "--kubeconfig", "--allow-unverified"]).await;
}
