//! `import`: what an account holds already comes into the cluster, and the operator takes it over.

use std::collections::BTreeMap;

use graph_credential_operator::resources::MicrosoftGraphCredential;
use kit::woodpecker::Op;
use serde_json::json;

use crate::administers::{OTHER_CLIENT, helps, look, put};
use crate::stage::{API_KEY, CLIENT, Stage, TENANT, eventually};

/// Applies YAML as it is, document by document, and says the names of the objects.
async fn apply_yaml(stage: &Stage, text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for document in text.split("\n---\n").filter(|document| document.contains("\nkind: ")) {
        let start = document.find("name: \"").unwrap() + 7;
        let name = document[start..].split('"').next().unwrap().to_owned();
        let path = format!(
            "/apis/graph-credentials.io/v1alpha1/namespaces/{}/microsoftgraphcredentials/{name}?fieldManager=kubectl&fieldValidation=Strict",
            stage.namespace
        );
        let request = http::Request::patch(path)
            .header("content-type", "application/apply-patch+yaml")
            .body(document.as_bytes().to_vec())
            .unwrap();
        let applied: Result<MicrosoftGraphCredential, _> = stage.client.request(request).await;
        applied.unwrap_or_else(|error| panic!("{error}\n{document}"));
        names.push(name);
    }
    names
}

/// The Secrets of the skeletons, filled in.
async fn fill_in_secrets(stage: &Stage, text: &str) -> usize {
    let mut filled = 0;
    for skeleton in text.split("# kind: Secret\n").skip(1) {
        let name = skeleton.split('"').nth(1).unwrap();
        let expiry = skeleton.split("secret_expires_at: \"").nth(1).unwrap().split('"').next().unwrap();
        assert!(skeleton.contains("client_secret: \"<the Value of"), "{skeleton}");
        stage.secret(name, &[("client_secret", "s3cret-two"), ("secret_expires_at", expiry)]).await;
        filled += 1;
    }
    filled
}

#[tokio::test]
async fn import_prints_manifests_by_which_the_operator_takes_everything_over() {
    let stage = Stage::set().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    let clients: Vec<String> = (10..16).map(|n| format!("00000000-0000-4000-8000-0000000000{n}")).collect();
    let names = ["MS Graph app", "ms graph APP", "yes", "a: b # c \"d\" {e}", "", "two\nlines \u{1f600}"];
    let mut wanted = BTreeMap::new();
    for (client, name) in clients.iter().zip(names) {
        stage.entra.add_app(TENANT, client);
        stage.entra.set_secrets(TENANT, client, &["s3cret-two"]);
        wanted.insert(put(&stage, TENANT, &client.to_uppercase(), name), name);
    }
    let no_guid = put(&stage, "contoso.onmicrosoft.com", CLIENT, "no guid");
    let several = [0, 1].map(|_| put(&stage, TENANT, OTHER_CLIENT, "twice"));
    let rival = put(&stage, TENANT, CLIENT, "by hand");
    let writes = stage.woodpecker.writes("agency");
    let account = format!("{}/agency", stage.namespace);
    let printed = look(&stage, "import", &["--account", &account]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_eq!(stage.woodpecker.writes("agency"), writes);
    for (id, why) in [
        (no_guid, "tenant id \"contoso.onmicrosoft.com\" is no GUID"),
        (rival, "/sales-eu is for the same app at this account"),
        (several[0], "one object can have it: uncomment"),
        (several[1], "one object can have it: uncomment"),
    ] {
        let (_, after) = printed.out.split_once(&format!("# Credential {id} ")).unwrap();
        assert!(after.lines().nth(1).is_some_and(|line| line.contains(why)), "{why}: {after}");
    }

    let applied = apply_yaml(&stage, &printed.out).await;
    assert_eq!(applied.len(), names.len(), "{}", printed.out);
    assert_eq!(fill_in_secrets(&stage, &printed.out).await, names.len() + several.len());
    let mut adopted = BTreeMap::new();
    for name in &applied {
        let object = stage.wait_until_ready(name).await;
        let wanted = object.spec.woodpecker().unwrap().adoption.as_ref().unwrap().credential_id;
        let id = object.status.unwrap().credential_id;
        assert_eq!(id, wanted);
        adopted.insert(id.unwrap(), name.clone());
    }
    assert_eq!(adopted.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for credential in stage.remote().iter().filter(|it| wanted.contains_key(&it.credential_id)) {
        assert_eq!(credential.name, wanted[&credential.credential_id], "the names stay");
        let id = credential.credential_id;
        eventually("the new secret follows", || async {
            let is_there = stage.woodpecker.secret_matches("agency", id, "s3cret-two");
            if is_there { Ok(()) } else { Err(stage.log()) }
        })
        .await;
    }
    let again = look(&stage, "import", &["--account", &account]).await;
    assert!(again.code == Some(0) && !again.out.contains("\nkind: "), "{}", again.out);
    assert!(stage.woodpecker.requests("agency").iter().filter(|it| it.op == Op::Create).count() == 1);
}

#[tokio::test]
async fn import_goes_to_another_namespace_and_says_where_that_is_not_allowed() {
    let stage = Stage::set().await;
    put(&stage, TENANT, OTHER_CLIENT, "MS Graph app");
    let account = format!("{}/agency", stage.namespace);
    let args = ["--account", &account, "--namespace", "sales", "--secret-name-template", "graph.{name}"];
    let printed = look(&stage, "import", &args).await;
    for words in [
        "does not allow namespace sales",
        "metadata: {name: \"ms-graph-app\", namespace: \"sales\"}",
        "secretRef: {name: \"graph.ms-graph-app\"}",
        &format!("accountRef: {{name: \"agency\", namespace: \"{}\"}}", stage.namespace),
    ] {
        assert!(printed.out.contains(words), "{words}: {}", printed.out);
    }
    helps(&stage, "import", &["AdoptOnly", "beside a running operator", "Exit codes"]).await;
    let odd = look(&stage, "import", &["--account", &account, "--secret-name-template", "x"]).await;
    assert_eq!((odd.code, odd.error.contains("{name}-graph")), (Some(2), true), "{odd:?}");
    stage.woodpecker.revoke_key(API_KEY);
    let refused = look(&stage, "import", &["--account", &account]).await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.error.contains("refuses the API key"), "{refused:?}");
}
