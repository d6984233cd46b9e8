//! Applying a manifest again, with the real kubectl and the real helm, in each of their modes.

use std::path::Path;
use std::sync::Arc;

use graph_credential_operator::api::SealedGraphCredential;
use kit::shell::{CommandOutput, Shell};
use kube::api::ListParams;

use super::*;

/// Commands that apply a file `objects.yaml`, or a chart around it, and commands that delete the objects
/// again.
const WAYS: [(&str, &str); 4] = [
    ("kubectl apply -f objects.yaml", "kubectl delete -f objects.yaml"),
    ("kubectl apply --server-side -f objects.yaml", "kubectl delete -f objects.yaml"),
    ("helm upgrade --install objects ./objects --server-side=true", "helm uninstall objects"),
    ("helm upgrade --install objects ./objects --server-side=false", "helm uninstall objects"),
];

const CHART: &str = "apiVersion: v2\nname: objects\nversion: 1.0.0\n";

async fn run(shell: &Arc<Shell>, command: &str) -> CommandOutput {
    let (shell, command) = (shell.clone(), command.to_owned());
    let printed = tokio::task::spawn_blocking(move || shell.run(&command, "").unwrap()).await.unwrap();
    assert!(printed.is_success(), "{printed:?}");
    printed
}

/// An object of each kind, as people write it: ids in capitals, defaults spelled out, and durations in
/// another form.
fn manifest(env: &TestEnv, record: &SealedGraphCredential) -> Vec<Value> {
    let object = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "graph-credentials.io/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": env.namespace}, "spec": spec})
    };
    let account = json!({
        "apiKeySecretRef": {"name": "agency-key", "key": "api_key"}, "baseUrl": env.woodpecker.base_url(),
        "allowedNamespaces": {"names": []}
    });
    let credential = json!({
        "tenantId": TENANT.to_uppercase(), "clientId": CLIENT, "secretRef": {"name": "sales-eu-graph"},
        "destination": {"woodpecker": {"accountRef": {"name": "agency"}, "adoption": {"policy": "AdoptOrCreate"}}},
        "verification": {"policy": "Required", "interval": "24h0m", "requiredRoles": []},
        "expiryWarning": "720h", "deletionPolicy": "Delete", "suspend": false
    });
    vec![
        object("WoodpeckerAccount", "agency", account),
        object("MicrosoftGraphCredential", "sales-eu", credential),
        object("SealedGraphCredential", "r-4711", serde_json::to_value(&record.spec).unwrap()),
    ]
}

fn write(folder: &Path, objects: &[Value]) {
    let text = objects.iter().fold(String::new(), |text, object| text + &format!("---\n{object}\n"));
    let templates = folder.join("objects/templates");
    std::fs::create_dir_all(&templates).unwrap();
    std::fs::write(folder.join("objects/Chart.yaml"), CHART).unwrap();
    std::fs::write(folder.join("objects.yaml"), &text).unwrap();
    std::fs::write(templates.join("objects.yaml"), text).unwrap();
}

/// The versions of all three once the operator has nothing more to do for them.
async fn settled(env: &TestEnv) -> [Option<String>; 3] {
    let credential = env.wait_until_ready("sales-eu").await;
    let account = eventually("the account counts it", || async {
        let account: WoodpeckerAccount = env.api().get("agency").await.unwrap();
        let managed = account.status.as_ref().and_then(|status| status.managed);
        if managed == Some(1) { Ok(account) } else { Err(format!("{account:#?}")) }
    })
    .await;
    // What the record controller writes. The API server shows a status that nobody has written as never
    // observed, and stores that once, with the next write of any client.
    let seen = Patch::Merge(json!({"status": {"observedGeneration": 1}}));
    let records = env.api::<SealedGraphCredential>();
    let record = records.patch_status("r-4711", &PatchParams::default(), &seen).await.unwrap();
    [credential.resource_version(), account.resource_version(), record.resource_version()]
}

/// The writes to these kinds in this namespace, each with its user.
fn writes(env: &TestEnv) -> Vec<String> {
    let mut entries = env.cluster.audit().unwrap();
    entries.retain(|it| it.is_write() && it.namespace.as_deref() == Some(&env.namespace));
    entries.retain(|it| it.group == "graph-credentials.io");
    entries
        .iter()
        .map(|it| format!("{} {} {} {:?} {:?}", it.user, it.verb, it.resource, it.subresource, it.name))
        .collect()
}

#[tokio::test]
async fn re_applying_a_manifest_changes_nothing() {
    let mut env = TestEnv::bare().await;
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.secret("agency-key", &[("api_key", crate::harness::API_KEY)]).await;
    let store = json!({"destination": {"woodpecker": null, "store": {}}, "deletionPolicy": "Delete"});
    env.credential("sealed", store).await;
    env.wait_until_ready("sealed").await;
    let records = env.api::<SealedGraphCredential>();
    let record = records.list(&ListParams::default()).await.unwrap().items.remove(0);
    env.delete("sealed").await;
    env.wait_until_gone("sealed").await;

    let program = Path::new(env!("CARGO_BIN_EXE_graph-credential-operator"));
    let kubeconfig = env.cluster.kubeconfig_path();
    let shell = tokio::task::spawn_blocking(move || Shell::open(program, &kubeconfig)).await.unwrap();
    let shell = Arc::new(shell.unwrap_or_else(|error| panic!("{}", kit::chain(&error))));
    write(shell.folder(), &manifest(&env, &record));
    for (apply, delete) in WAYS {
        run(&shell, apply).await;
        let before = settled(&env).await;
        run(&shell, apply).await;
        let writes = writes(&env);
        assert_eq!(settled(&env).await, before, "{apply}\n{writes:#?}");
        run(&shell, delete).await;
        env.wait_until_gone("sales-eu").await;
        eventually("the account is deleted", || async {
            let found: Option<WoodpeckerAccount> = env.api().get_opt("agency").await.unwrap();
            found.map_or(Ok(()), |account| Err(format!("{account:#?}")))
        })
        .await;
    }
}
