//! `spec.allowedNamespaces.selector`: who may label namespaces decides which of them may use an account.

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType, find};
use graph_credential_operator::api::{MicrosoftGraphCredential, WoodpeckerAccount};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::{EXPIRY, TENANT, TestEnv, eventually, plain_spec};

/// An app that no other test registers.
const CLIENT: &str = "5e1ec700-0000-4000-8000-000000000001";

/// A client's namespace, and an operator that serves it too, as a ServiceAccount without the right to list namespaces.
struct Tenant {
    env: TestEnv,
    namespace: String,
    /// The name of what grants the operator its rights.
    role: String,
}

/// What the operator may do in all namespaces.
fn rules() -> Value {
    json!([
        {"apiGroups": ["graph-credentials.io", "events.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}
    ])
}

impl Tenant {
    async fn start() -> Self {
        let mut env = TestEnv::bare().await;
        env.entra.add_app(TENANT, CLIENT);
        env.entra.set_secrets(TENANT, CLIENT, &["s3cret-one", "s3cret-two"]);
        let namespace = env.cluster.create_namespace("tenant").await.unwrap();
        env.extra_args = vec![format!("--watch-namespace={namespace}")];
        env.apply::<ServiceAccount>("operator", json!({})).await.unwrap();
        let role = format!("operator-{}", env.namespace);
        let tenant = Self { env, namespace, role };
        tenant.grant(&tenant.role, rules()).await;
        let accounts = tenant.env.api::<ServiceAccount>();
        let token =
            accounts.create_token_request("operator", &PostParams::default(), &TokenRequest::default()).await;
        let token = token.unwrap().status.unwrap().token;
        let mut tenant = tenant;
        tenant.env.user = Some(tenant.env.cluster.kubeconfig_with_token(&tenant.role, &token).unwrap());
        tenant.secret("s3cret-one").await;
        tenant.env.start_operator().await;
        tenant
    }

    async fn grant(&self, name: &str, rules: Value) {
        let client = self.env.client.clone();
        let apply = PatchParams::apply("test").force();
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules
        });
        let api: Api<ClusterRole> = Api::all(client.clone());
        api.patch(name, &apply, &Patch::Apply(role)).await.unwrap();
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": self.env.namespace}]
        });
        let bindings: Api<ClusterRoleBinding> = Api::all(client);
        bindings.patch(name, &apply, &Patch::Apply(binding)).await.unwrap();
    }

    fn namespaces_role(&self) -> String {
        format!("{}-namespaces", self.role)
    }

    /// What the chart's `rbac.namespaceSelectors` grants.
    async fn allow_listing(&self) {
        let rule = json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]});
        self.grant(&self.namespaces_role(), json!([rule])).await;
    }

    async fn forbid_listing(&self) {
        let bindings: Api<ClusterRoleBinding> = Api::all(self.env.client.clone());
        bindings.delete(&self.namespaces_role(), &DeleteParams::default()).await.unwrap();
    }

    /// Labels the client's namespace; `None` takes the label away.
    async fn label(&self, value: Option<&str>) {
        let patch = json!({"metadata": {"labels": {"mail": value}}});
        let api: Api<Namespace> = Api::all(self.env.client.clone());
        api.patch(&self.namespace, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    async fn secret(&self, value: &str) {
        let data = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "graph"},
            "stringData": {"client_secret": value, "secret_expires_at": EXPIRY}
        });
        let api: Api<Secret> = Api::namespaced(self.env.client.clone(), &self.namespace);
        api.patch("graph", &PatchParams::apply("test").force(), &Patch::Apply(data)).await.unwrap();
    }

    fn credentials(&self) -> Api<MicrosoftGraphCredential> {
        Api::namespaced(self.env.client.clone(), &self.namespace)
    }

    /// The client's credential at the account of the agency's namespace.
    async fn credential(&self) {
        let account = json!({"name": "agency", "namespace": self.env.namespace});
        let spec = json!({
            "clientId": CLIENT, "secretRef": {"name": "graph"}, "destination": {"woodpecker": {"accountRef": account}}
        });
        let object = json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
            "metadata": {"name": "sales"}, "spec": plain_spec(spec)
        });
        let apply = PatchParams::apply("test").force();
        self.credentials().patch("sales", &apply, &Patch::Apply(object)).await.unwrap();
    }

    /// Waits for the reason of the client's condition Registered.
    async fn wait_for(&self, reason: &str) -> MicrosoftGraphCredential {
        eventually(reason, || async {
            let object = self.credentials().get("sales").await.unwrap();
            let conditions = object.status.map(|status| status.conditions).unwrap_or_default();
            let registered = find(&conditions, ConditionType::Registered);
            let is_it = registered.is_some_and(|it| it.reason == reason);
            if is_it { Ok(()) } else { Err(format!("{registered:?}\n{}", self.env.log())) }
        })
        .await;
        self.credentials().get("sales").await.unwrap()
    }
}

#[tokio::test]
async fn a_label_lets_a_namespace_in_only_while_the_operator_may_read_it() {
    let tenant = Tenant::start().await;
    let selector = json!({"allowedNamespaces": {"selector": {"matchLabels": {"mail": "yes"}}}});
    tenant.env.account("agency", selector).await;
    tenant.label(Some("yes")).await;
    tenant.credential().await;
    let refused = tenant.wait_for("AccountNotAllowed").await;
    let conditions = refused.status.unwrap().conditions;
    let message = &find(&conditions, ConditionType::Registered).unwrap().message;
    assert!(message.contains("spec.allowedNamespaces.selector"), "{message}");
    let account = tenant.env.wait_for_account("agency", ConditionStatus::False, "NamespacesForbidden").await;
    let conditions = account.status.unwrap().conditions;
    let message = &find(&conditions, ConditionType::Ready).unwrap().message;
    assert!(message.contains("lets nobody in") && message.contains("rbac.namespaceSelectors"), "{message}");
    // Credentials of the account's own namespace do not depend on it.
    let secret = [("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)];
    tenant.env.secret("sales-eu-graph", &secret).await;
    tenant.env.credential("own", json!({})).await;
    tenant.env.wait_until_ready("own").await;
    assert_eq!(tenant.env.remote().len(), 1);

    tenant.allow_listing().await;
    tenant.env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    tenant.wait_for("Registered").await;
    assert_eq!(tenant.env.remote().len(), 2);

    tenant.forbid_listing().await;
    tenant.wait_for("AccountNotAllowed").await;
    tenant.env.wait_for_account("agency", ConditionStatus::False, "NamespacesForbidden").await;
    tenant.env.wait_until_ready("own").await;
    assert_eq!(tenant.env.remote().len(), 2, "what is registered stays");
}

#[tokio::test]
async fn a_label_taken_away_acts_like_a_name_taken_away() {
    let mut tenant = Tenant::start().await;
    tenant.allow_listing().await;
    tenant.env.account("agency", json!({})).await;
    tenant.credential().await;
    tenant.wait_for("AccountNotAllowed").await;
    // The selector is new while the operator runs.
    let expressions = json!([{"key": "mail", "operator": "In", "values": ["yes", "sure"]}]);
    let selector = json!({"allowedNamespaces": {"selector": {"matchExpressions": expressions}}});
    tenant.env.apply_account("agency", selector).await;
    tenant.label(Some("no")).await;
    tenant.env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    tenant.wait_for("AccountNotAllowed").await;
    tenant.label(Some("sure")).await;
    let before = tenant.wait_for("Registered").await.status.unwrap();

    tenant.label(None).await;
    tenant.wait_for("AccountNotAllowed").await;
    let writes = tenant.env.woodpecker.writes("agency");
    tenant.secret("s3cret-two").await;
    tokio::time::sleep(crate::harness::QUIET_TIME / 2).await;
    let refused = tenant.wait_for("AccountNotAllowed").await.status.unwrap();
    assert_eq!((refused.registration, tenant.env.woodpecker.writes("agency")), (before.registration, writes));
    tenant.label(Some("yes")).await;
    let after = tenant.wait_for("Registered").await.status.unwrap();
    assert_eq!(after.credential_id, before.credential_id);
    eventually("the new secret is registered", || async {
        let is_there =
            tenant.env.woodpecker.secret_matches("agency", before.credential_id.unwrap(), "s3cret-two");
        if is_there { Ok(()) } else { Err(tenant.env.log()) }
    })
    .await;

    // After a restart the labels are unknown for a moment, in which nobody is refused.
    let registered = |object: &MicrosoftGraphCredential| {
        let conditions = &object.status.as_ref().unwrap().conditions;
        find(conditions, ConditionType::Registered).cloned().unwrap()
    };
    let before = registered(&tenant.credentials().get("sales").await.unwrap());
    tenant.env.stop_operator().await;
    tenant.env.start_operator().await;
    tokio::time::sleep(crate::harness::QUIET_TIME / 2).await;
    let account: WoodpeckerAccount = tenant.env.api().get("agency").await.unwrap();
    assert!(account.status.unwrap().conditions.iter().any(|it| it.reason == "Authenticated"));
    let after = registered(&tenant.credentials().get("sales").await.unwrap());
    assert_eq!((after.reason, after.last_transition_time), (before.reason, before.last_transition_time));
    assert!(!tenant.env.log().contains("AccountNotAllowed"), "{}", tenant.env.log());
}
