//! The right to patch credentials and accounts: with the tokens of the operator and of the hook, only the operator's
//! finalizers can be changed.

use graph_credential_operator::api::MicrosoftGraphCredential;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::release::{NAMESPACE, Release, token};
use super::*;

const OPERATOR: &str = "graph-credential-operator";
const HOOK: &str = "graph-credential-operator-remove-finalizers";
const OWN: &str = "graph-credentials.io/registration";

/// Creates the hook's account, which exists only during an uninstall, with the operator's right to patch.
async fn create_hook_account(client: &Client) {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let account = serde_json::from_value(json!({"metadata": {"name": HOOK}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let binding = json!({
        "metadata": {"name": HOOK},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": OPERATOR},
        "subjects": [{"kind": "ServiceAccount", "name": HOOK, "namespace": NAMESPACE}]
    });
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
}

#[tokio::test]
async fn the_operator_and_its_hook_can_change_only_their_finalizers_on_an_object() {
    let release = Release::install(|_| json!({})).await;
    let env = &release.env;
    env.credential("sales-eu", json!({})).await;
    create_hook_account(&env.client).await;
    for account in [OPERATOR, HOOK] {
        let kubeconfig = Kubeconfig::read_from(token(&env.client, env.cluster, account).await).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let credentials: Api<MicrosoftGraphCredential> =
            Api::namespaced(Client::try_from(config).unwrap(), &env.namespace);
        let patch = async |metadata: Value, spec: Value| {
            let patch = Patch::Merge(json!({"metadata": metadata, "spec": spec}));
            let patched = credentials.patch("sales-eu", &PatchParams::default(), &patch).await;
            patched.map(drop).map_err(|error| error.to_string())
        };
        let is_denied = |response: Result<(), String>| match response {
            Err(error) if error.contains("may change its own finalizers on this object") => Ok(()),
            other => Err(format!("{account}: {other:?}")),
        };
        // The API server applies a policy a moment after it was created. Each attempt changes something.
        eventually("the policy is in force", || async {
            let name = format!("other-{}", jiff::Timestamp::now().as_nanosecond());
            is_denied(patch(json!({}), json!({"displayName": name})).await)
        })
        .await;
        for metadata in [
            json!({"annotations": {"graph-credentials.io/reconcile-requested-at": "now"}}),
            json!({"labels": {"team": "mail"}}),
            json!({"finalizers": ["example.com/other"]}),
        ] {
            is_denied(patch(metadata, json!({})).await).unwrap();
        }
        patch(json!({"finalizers": [OWN]}), json!({})).await.unwrap();
        let others = Patch::Merge(json!({"metadata": {"finalizers": [OWN, "example.com/other"]}}));
        let by_admin = env.api::<MicrosoftGraphCredential>();
        by_admin.patch("sales-eu", &PatchParams::default(), &others).await.unwrap();
        is_denied(patch(json!({"finalizers": []}), json!({})).await).unwrap();
        patch(json!({"finalizers": ["example.com/other"]}), json!({})).await.unwrap();
        let none = Patch::Merge(json!({"metadata": {"finalizers": []}}));
        by_admin.patch("sales-eu", &PatchParams::default(), &none).await.unwrap();
    }
}

#[tokio::test]
async fn admission_policies_are_stored_as_the_chart_renders_them() {
    let release = Release::install(|_| json!({})).await;
    let rendered = release.rendered().await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(release.env.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(release.env.client.clone());
    let mut found = 0;
    for object in rendered {
        let name = object["metadata"]["name"].as_str().unwrap();
        let stored = match object["kind"].as_str().unwrap() {
            "ValidatingAdmissionPolicy" => {
                serde_json::to_value(policies.get(name).await.unwrap().spec).unwrap()
            }
            "ValidatingAdmissionPolicyBinding" => {
                serde_json::to_value(bindings.get(name).await.unwrap().spec).unwrap()
            }
            _ => continue,
        };
        assert_eq!(stored, object["spec"], "the API server adds nothing to {name}");
        found += 1;
    }
    assert!(found >= 10, "{found}");
}
