//! `import`: existing credentials of an account get manifests, and the operator adopts them.

use std::collections::BTreeMap;

use graph_credential_operator::api::MicrosoftGraphCredential;
use kit::woodpecker::Op;
use serde_json::json;

use crate::admin_cli::{OTHER_CLIENT, assert_help, look, put};
use crate::harness::{API_KEY, CLIENT, TENANT, TestEnv, eventually};

/// Applies YAML as it is, document by document; returns the names of the objects.
async fn apply_yaml(env: &TestEnv, text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for document in text.split("\n---\n").filter(|document| document.contains("\nkind: ")) {
        let start = document.find("name: \"").unwrap() + 7;
        let name = document[start..].split('"').next().unwrap().to_owned();
        let path = format!(
            "/apis/graph-credentials.io/v1alpha1/namespaces/{}/microsoftgraphcredentials/{name}?fieldManager=kubectl&fieldValidation=Strict",
            env.namespace
        );
        let request = http::Request::patch(path)
            .header("content-type", "application/apply-patch+yaml")
            .body(document.as_bytes().to_vec())
            .unwrap();
        let applied: Result<MicrosoftGraphCredential, _> = env.client.request(request).await;
        applied.unwrap_or_else(|error| panic!("{error}\n{document}"));
        names.push(name);
    }
    names
}

/// Fills in the Secrets of the manifests.
async fn fill_in_secrets(env: &TestEnv, text: &str) -> usize {
    let mut filled = 0;
    for skeleton in text.split("# kind: Secret\n").skip(1) {
        let name = skeleton.split('"').nth(1).unwrap();
        let expiry = skeleton.split("secret_expires_at: \"").nth(1).unwrap().split('"').next().unwrap();
        assert!(skeleton.contains("client_secret: \"<the Value of"), "{skeleton}");
        env.secret(name, &[("client_secret", "s3cret-two"), ("secret_expires_at", expiry)]).await;
        filled += 1;
    }
    filled
}

#[tokio::test]
async fn import_prints_manifests_that_adopt_every_credential() {
    let env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let clients: Vec<String> = (10..16).map(|n| format!("00000000-0000-4000-8000-0000000000{n}")).collect();
    let names = ["MS Graph app", "ms graph APP", "yes", "a: b # c \"d\" {e}", "", "two\nlines \u{1f600}"];
    let mut wanted = BTreeMap::new();
    for (client, name) in clients.iter().zip(names) {
        env.entra.add_app(TENANT, client);
        env.entra.set_secrets(TENANT, client, &["s3cret-two"]);
        wanted.insert(put(&env, TENANT, &client.to_uppercase(), name), name);
    }
    let no_guid = put(&env, "contoso.onmicrosoft.com", CLIENT, "no guid");
    let several = [0, 1].map(|_| put(&env, TENANT, OTHER_CLIENT, "twice"));
    let duplicate = put(&env, TENANT, CLIENT, "by hand");
    let writes = env.woodpecker.writes("agency");
    let account = format!("{}/agency", env.namespace);
    let printed = look(&env, "import", &["--account", &account]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_eq!(env.woodpecker.writes("agency"), writes);
    for (id, why) in [
        (no_guid, "tenant id \"contoso.onmicrosoft.com\" is not a GUID"),
        (duplicate, "/sales-eu is for the same app at this account"),
        (several[0], "one object can manage it: uncomment"),
        (several[1], "one object can manage it: uncomment"),
    ] {
        let (_, after) = printed.out.split_once(&format!("# Credential {id} ")).unwrap();
        assert!(after.lines().nth(1).is_some_and(|line| line.contains(why)), "{why}: {after}");
    }

    let applied = apply_yaml(&env, &printed.out).await;
    assert_eq!(applied.len(), names.len(), "{}", printed.out);
    assert_eq!(fill_in_secrets(&env, &printed.out).await, names.len() + several.len());
    let mut adopted = BTreeMap::new();
    for name in &applied {
        let object = env.wait_until_ready(name).await;
        let wanted = object.spec.woodpecker().unwrap().adoption.as_ref().unwrap().credential_id;
        let id = object.status.unwrap().credential_id;
        assert_eq!(id, wanted);
        adopted.insert(id.unwrap(), name.clone());
    }
    assert_eq!(adopted.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for credential in env.remote().iter().filter(|it| wanted.contains_key(&it.credential_id)) {
        assert_eq!(credential.name, wanted[&credential.credential_id], "the names stay");
        let id = credential.credential_id;
        eventually("the new secret follows", || async {
            let is_there = env.woodpecker.secret_matches("agency", id, "s3cret-two");
            if is_there { Ok(()) } else { Err(env.log()) }
        })
        .await;
    }
    let again = look(&env, "import", &["--account", &account]).await;
    assert!(again.code == Some(0) && !again.out.contains("\nkind: "), "{}", again.out);
    assert!(env.woodpecker.requests("agency").iter().filter(|it| it.op == Op::Create).count() == 1);
}

#[tokio::test]
async fn import_supports_another_namespace_and_reports_if_it_is_not_allowed() {
    let env = TestEnv::start().await;
    put(&env, TENANT, OTHER_CLIENT, "MS Graph app");
    let account = format!("{}/agency", env.namespace);
    let args = ["--account", &account, "--namespace", "sales", "--secret-name-template", "graph.{name}"];
    let printed = look(&env, "import", &args).await;
    for words in [
        "does not allow namespace sales",
        "metadata: {name: \"ms-graph-app\", namespace: \"sales\"}",
        "secretRef: {name: \"graph.ms-graph-app\"}",
        &format!("accountRef: {{name: \"agency\", namespace: \"{}\"}}", env.namespace),
    ] {
        assert!(printed.out.contains(words), "{words}: {}", printed.out);
    }
    assert_help(&env, "import", &["AdoptOnly", "beside a running operator", "Exit codes"]).await;
    let odd = look(&env, "import", &["--account", &account, "--secret-name-template", "x"]).await;
    assert_eq!((odd.code, odd.error.contains("{name}-graph")), (Some(2), true), "{odd:?}");
    env.woodpecker.revoke_key(API_KEY);
    let rejected = look(&env, "import", &["--account", &account]).await;
    assert_eq!((rejected.code, rejected.out.as_str()), (Some(1), ""), "{rejected:?}");
    assert!(rejected.error.contains("rejects the API key"), "{rejected:?}");
}
