//! A user who owns some namespaces and has no other rights, for installations without cluster-wide rights.

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use super::cluster::Cluster;
use crate::demo::Difference;

const NAME: &str = "owner-of-some-namespaces";

/// The text of a kubeconfig for a user who may do everything in these namespaces, including `home`, and
/// nothing elsewhere.
pub(super) async fn kubeconfig_for_namespaces(
    cluster: &Cluster,
    kubeconfig: &Kubeconfig,
    home: &str,
    namespaces: &[&str],
) -> Result<String, Difference> {
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": home}
    })];
    for namespace in namespaces {
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": NAME, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": home}]
        }));
    }
    cluster.apply(&objects).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), home);
    let request = TokenRequest::default();
    let response = accounts.create_token_request(NAME, &PostParams::default(), &request).await?;
    let token = response.status.map(|status| status.token).unwrap_or_default();
    Ok(with_token(serde_json::to_value(kubeconfig)?, &token).to_string())
}

/// The same clusters, with this token in every context.
fn with_token(mut kubeconfig: Value, token: &str) -> Value {
    for user in kubeconfig["users"].as_array_mut().into_iter().flatten() {
        user["user"] = json!({"token": token});
    }
    kubeconfig
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_other_users_are_removed() {
        let kubeconfig = json!({
            "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
            "users": [{"name": "admin", "user": {"client-key-data": "all-powerful"}}]
        });
        let result = with_token(kubeconfig.clone(), "the-token");
        assert_eq!(result["clusters"], kubeconfig["clusters"]);
        assert_eq!(result["users"], json!([{"name": "admin", "user": {"token": "the-token"}}]));
    }
}
