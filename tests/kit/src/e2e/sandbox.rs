//! The sandbox as a pod: the command of its page, with the image alone.

use http::request::Builder;
use serde_json::{Value, json};

use super::cluster::{Cluster, Kind};
use super::settings::Image;
use crate::demo::Difference;

const POD: &str = "sandbox";
const PORT: u16 = 8445;
const API_KEY: &str = "1000001.sandboxsandboxsandbox";

/// Starts the sandbox in that namespace, saves a credential in it, and removes the pod.
pub(super) async fn run(cluster: &Cluster, namespace: &str, image: &Image) -> Result<(), Difference> {
    cluster.apply(&[pod(namespace, image)]).await?;
    let is_ready = |pod: Option<&Value>| {
        let conditions = pod.and_then(|pod| pod["status"]["conditions"].as_array());
        conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
    };
    cluster.until("the sandbox is ready", (Kind::Pod, Some(namespace), POD), is_ready).await?;

    let path = |path: &str| format!("/api/v1/namespaces/{namespace}/pods/http:{POD}:{PORT}/proxy{path}");
    let page = cluster.read(&path("/")).await?;
    if !page.contains(API_KEY) {
        return Err(Difference::new(format!("the page does not show the API key: {page}")));
    }
    let credentials = path("/rest/v2/mailboxes/microsoft/credentials");
    let with_key = |request: Builder| request.header("x-api-key", API_KEY);
    let app = json!({
        "tenant_id": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32", "client_id": "e1c6ac69-480e-4a17-9b85-3467967bd179",
        "client_secret": "any secret", "secret_expires_at": "2099-11-28T23:59:59Z"
    });
    let post =
        with_key(Builder::new().method("POST").uri(&credentials)).header("content-type", "application/json");
    let created = cluster.request(post, &app.to_string()).await?;
    let listed = cluster.request(with_key(Builder::new().uri(&credentials)), "").await?;
    let ids: Vec<&Value> =
        listed["credentials"].as_array().into_iter().flatten().map(|it| &it["credential_id"]).collect();
    if !created["credential_id"].is_number() || ids != [&created["credential_id"]] {
        return Err(Difference::new(format!("created {created}, listed {listed}")));
    }
    cluster.delete(Kind::Pod, Some(namespace), POD).await
}

fn pod(namespace: &str, image: &Image) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "namespace": namespace},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": POD, "image": format!("{}:{}", image.repository, image.version), "imagePullPolicy": "IfNotPresent",
                "args": ["sandbox", "--address", format!("0.0.0.0:{PORT}")],
                "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
                "resources": {"limits": {"memory": "32Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}
                }
            }]
        }
    })
}
