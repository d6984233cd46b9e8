//! The cluster of the run: objects as JSON, waits with time-outs, and diagnostics of a failed wait.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, LogParams, Patch, PatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::settings::Settings;
use crate::demo::Difference;

/// How long a state may take to appear. The nodes have the images already, so this is far longer than it
/// takes.
pub(super) const TIMEOUT: Duration = Duration::from_mins(3);

/// The cluster of the settings.
pub(super) struct Cluster {
    pub(super) client: Client,
}

/// The kinds, by their short names here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Namespace,
    Credential,
    Account,
    Record,
    Identity,
    Mailboxes,
    Pod,
    Deployment,
    Lease,
    Job,
}

// === impl Kind ===

impl Kind {
    fn resource(self) -> ApiResource {
        let group_name = "graph-credentials.io";
        let (group, version, kind) = match self {
            Self::Namespace => ("", "v1", "Namespace"),
            Self::Credential => (group_name, "v1alpha1", "MicrosoftGraphCredential"),
            Self::Account => (group_name, "v1alpha1", "WoodpeckerAccount"),
            Self::Record => (group_name, "v1alpha1", "SealedGraphCredential"),
            Self::Identity => (group_name, "v1alpha1", "EntraIdentity"),
            Self::Mailboxes => (group_name, "v1alpha1", "WoodpeckerMailboxes"),
            Self::Pod => ("", "v1", "Pod"),
            Self::Deployment => ("apps", "v1", "Deployment"),
            Self::Lease => ("coordination.k8s.io", "v1", "Lease"),
            Self::Job => ("batch", "v1", "Job"),
        };
        api_resource(&GroupVersionKind::gvk(group, version, kind))
    }
}

fn api_resource(kind: &GroupVersionKind) -> ApiResource {
    match kind.kind.as_str() {
        // It is its own plural.
        "WoodpeckerMailboxes" => ApiResource::from_gvk_with_plural(kind, "woodpeckermailboxes"),
        _ => ApiResource::from_gvk(kind),
    }
}

// === impl Cluster ===

impl Cluster {
    pub(super) async fn connect(settings: &Settings) -> Result<Self, Difference> {
        // Fails only if one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(&settings.kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { client: Client::try_from(config)? })
    }

    /// `Kubernetes v1.37.2, 1 node`.
    pub(super) async fn about(&self) -> Result<String, Difference> {
        let version = self.client.apiserver_version().await?.git_version;
        let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(self.client.clone());
        let count = nodes.list(&ListParams::default()).await?.items.len();
        Ok(format!("Kubernetes {version} with {count} node{}", if count == 1 { "" } else { "s" }))
    }

    pub(super) fn api(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind.resource()),
            None => Api::all_with(self.client.clone(), &kind.resource()),
        }
    }

    /// Applies objects.
    pub(super) async fn apply(&self, objects: &[Value]) -> Result<(), Difference> {
        for object in objects {
            let (api, name) = self.api_and_name(object);
            api.patch(name, &PatchParams::apply("e2e").force(), &Patch::Apply(object)).await?;
        }
        Ok(())
    }

    /// Deletes an object, if it exists.
    pub(super) async fn delete_object(&self, object: &Value) -> Result<(), Difference> {
        let (api, name) = self.api_and_name(object);
        ignore_not_found(api.delete(name, &DeleteParams::default()).await)
    }

    /// The API and the name of an object.
    fn api_and_name<'a>(&self, object: &'a Value) -> (Api<DynamicObject>, &'a str) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
        let kind = api_resource(&GroupVersionKind::gvk(group, version, text("/kind")));
        let api = match text("/metadata/namespace") {
            "" => Api::all_with(self.client.clone(), &kind),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &kind),
        };
        (api, text("/metadata/name"))
    }

    pub(super) async fn get(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Value>, Difference> {
        let found = self.api(kind, namespace).get_opt(name).await?;
        Ok(found.map(|object| serde_json::to_value(object).unwrap_or_default()))
    }

    pub(super) async fn list(&self, kind: Kind, namespace: &str) -> Result<Vec<Value>, Difference> {
        let listed = self.api(kind, Some(namespace)).list(&ListParams::default()).await?;
        Ok(listed.items.into_iter().map(|object| serde_json::to_value(object).unwrap_or_default()).collect())
    }

    pub(super) async fn delete(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<(), Difference> {
        self.delete_with(kind, namespace, name, &DeleteParams::default()).await
    }

    /// Deletes a pod at once, like the crash of its node.
    pub(super) async fn kill_pod(&self, namespace: &str, name: &str) -> Result<(), Difference> {
        self.delete_with(Kind::Pod, Some(namespace), name, &DeleteParams::default().grace_period(0)).await
    }

    async fn delete_with(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
        params: &DeleteParams,
    ) -> Result<(), Difference> {
        ignore_not_found(self.api(kind, namespace).delete(name, params).await)
    }

    /// Waits until an object meets the condition; `None` is an object that does not exist.
    pub(super) async fn until(
        &self,
        what: &str,
        (kind, namespace, name): (Kind, Option<&str>, &str),
        is_so: impl Fn(Option<&Value>) -> bool,
    ) -> Result<Value, Difference> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let found = self.get(kind, namespace, name).await?;
            if is_so(found.as_ref()) {
                return Ok(found.unwrap_or_default());
            }
            if Instant::now() >= deadline {
                let found = found.unwrap_or_default();
                return Err(Difference::new(format!("{what}: not reached after {TIMEOUT:?}: {found:#}")));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// The API server's response for a path as JSON; null if it has no body.
    pub(super) async fn request(
        &self,
        request: http::request::Builder,
        body: &str,
    ) -> Result<Value, Difference> {
        let response = self.client.request_text(request.body(body.as_bytes().to_vec())?).await?;
        if response.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&response)?) }
    }

    /// The API server's response for a path, as text.
    pub(super) async fn read(&self, path: &str) -> Result<String, Difference> {
        Ok(self.client.request_text(http::Request::get(path).body(Vec::new())?).await?)
    }

    /// The end of each pod's log, and the events of a namespace, to diagnose a failure.
    pub(super) async fn diagnostics(&self, namespace: &str) -> String {
        let mut text = String::new();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        for pod in pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
            let name = pod.name_any();
            let params = LogParams { tail_lines: Some(15), ..LogParams::default() };
            let log = pods.logs(&name, &params).await.unwrap_or_else(|error| error.to_string());
            text += &format!("\n--- {name}\n{log}");
        }
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        for event in events.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
            let about = event.involved_object.name.unwrap_or_default();
            text += &format!("\nevent {about}: {}", event.message.unwrap_or_default());
        }
        text
    }
}

/// Accepts that the object to delete does not exist.
fn ignore_not_found<T>(deleted: Result<T, kube::Error>) -> Result<(), Difference> {
    match deleted {
        Err(kube::Error::Api(response)) if response.is_not_found() => Ok(()),
        deleted => Ok(deleted.map(drop)?),
    }
}
