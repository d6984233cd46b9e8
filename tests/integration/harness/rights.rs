//! An operator with limited rights.

use super::*;

impl TestEnv {
    /// Runs the operator as a ServiceAccount that may do everything in the namespace, except that it has only
    /// these verbs for Secrets other than the keyring.
    pub async fn limit_operator(&mut self, secret_verbs: &[&str]) {
        self.apply::<ServiceAccount>("limited", json!({})).await.expect("a ServiceAccount can be created");
        self.grant(secret_verbs).await;
        let binding = json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "limited"},
            "subjects": [{"kind": "ServiceAccount", "name": "limited", "namespace": self.namespace}]
        });
        self.apply::<RoleBinding>("limited", binding).await.expect("a RoleBinding can be created");
        let request = TokenRequest::default();
        let accounts = self.api::<ServiceAccount>();
        let token = accounts
            .create_token_request("limited", &PostParams::default(), &request)
            .await
            .expect("a token");
        let token = token.status.expect("a token").token;
        let kubeconfig = self.cluster.kubeconfig_with_token(&self.namespace, &token);
        self.user = Some(kubeconfig.expect("a kubeconfig can be written"));
    }

    /// A kubeconfig of a ServiceAccount with these verbs on the operator's resources in the namespace.
    pub async fn limited_user(&self, name: &str, rights: &[(&str, Vec<&str>)]) -> PathBuf {
        self.apply::<ServiceAccount>(name, json!({})).await.expect("a ServiceAccount can be created");
        let rule = |(resource, verbs): &(&str, Vec<&str>)| json!({"apiGroups": ["graph-credentials.io"], "resources": [resource], "verbs": verbs});
        let rules: Vec<Value> = rights.iter().map(rule).collect();
        self.apply::<Role>(name, json!({"rules": rules})).await.expect("a Role can be created");
        let binding = json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self.namespace}]
        });
        self.apply::<RoleBinding>(name, binding).await.expect("a RoleBinding can be created");
        let request = TokenRequest::default();
        let accounts = self.api::<ServiceAccount>();
        let token = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let token = token.expect("a token").status.expect("a token").token;
        let file = format!("{}-{name}", self.namespace);
        self.cluster.kubeconfig_with_token(&file, &token).expect("a kubeconfig can be written")
    }

    /// Changes the limited ServiceAccount's rights to Secrets.
    pub async fn grant(&self, secret_verbs: &[&str]) {
        let all = json!(["*"]);
        let keyring = "graph-credential-operator-keyring";
        let mut rules = json!([
            {"apiGroups": ["graph-credentials.io", "events.k8s.io"], "resources": all, "verbs": all},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [keyring], "verbs": ["get", "patch"]}
        ]);
        if let (Some(rules), false) = (rules.as_array_mut(), secret_verbs.is_empty()) {
            rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": secret_verbs}));
        }
        self.apply::<Role>("limited", json!({"rules": rules})).await.expect("a Role can be created");
    }
}
