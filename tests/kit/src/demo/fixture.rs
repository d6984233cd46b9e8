//! The parts of the demo: a cluster with the CRDs, doubles of Entra and Microsoft Graph, the REST API of the
//! operator's program as Woodpecker, and the operator.

use std::io::{Read as _, pipe};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::Difference;
use super::http::send_request;
use super::screen::Screen;
use super::woodpecker::{self, Woodpecker};
use crate::cluster::Cluster;
use crate::entra::Entra;
use crate::graph::Graph;
use crate::process::Process;

pub(super) const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
pub(super) const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";
pub(super) const OTHER_CLIENT: &str = "5c1f0a4e-8f4b-4f0e-9d43-2b6a1e7d9a10";
/// The app whose client secret rotates, and the app with which the operator changes it.
pub(super) const ROTATING_CLIENT: &str = "93d5a1f7-64b2-4c3e-8d1a-0e2b7c9f4a55";
const IDENTITY: &str = "7d0f3a86-5a53-4a76-a4b0-5f8f6a1c9e02";
pub(super) const IDENTITY_SECRET: &str = "identity-value";
pub(super) const NAMESPACE: &str = "mail";

/// The namespace of the operator's own objects.
const OPERATOR_NAMESPACE: &str = "default";

/// Secrets that the double of Entra accepts for the first app.
pub(super) const GOOD_SECRETS: [&str; 3] = ["first-value", "second-value", "third-value"];

/// How many times shorter the operator's waits are; a wrong secret is final after three seconds.
const TIME_SCALE: u32 = 20;
const PROPAGATION_WINDOW: &str = "60s";

/// How long a step may take. A client secret is removed only after five minutes of readings, which are 15 s here.
const TIMEOUT: Duration = Duration::from_secs(45);

pub(super) struct Fixture {
    pub(super) cluster: Cluster,
    pub(super) entra: Entra,
    pub(super) graph: Graph,
    pub(super) woodpecker: Woodpecker,
    pub(super) program: PathBuf,
    client: Client,
    operator: Process,
}

/// Applies a manifest as `kubectl apply --server-side` does, with the values in place of `(…)`.
async fn apply(client: &Client, manifest: &str, values: &[(&str, &str)]) -> Result<(), Difference> {
    let text = values.iter().fold(manifest.to_owned(), |text, (word, value)| text.replace(word, value));
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    for object in objects {
        let text =
            |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (group, version) = match text("/apiVersion").split_once('/') {
            Some((group, version)) => (group.to_owned(), version.to_owned()),
            None => (String::new(), text("/apiVersion")),
        };
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(&group, &version, &text("/kind")));
        let api: Api<DynamicObject> = match object.pointer("/metadata/namespace").and_then(Value::as_str) {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
            None => Api::all_with(client.clone(), &kind),
        };
        let name = text("/metadata/name");
        api.patch(&name, &PatchParams::apply("kubectl").force(), &Patch::Apply(object)).await?;
    }
    Ok(())
}

/// A double of Microsoft Graph, with an app that has no client secrets and whose owner is the identity.
async fn start_graph(entra: &Entra) -> Graph {
    let graph = Graph::start().await;
    graph.time_scale(TIME_SCALE);
    graph.connect(entra);
    entra.add_app(TENANT, ROTATING_CLIENT);
    graph.set_application(TENANT, ROTATING_CLIENT, &[]);
    graph.add_owner(TENANT, ROTATING_CLIENT, IDENTITY);
    entra.set_roles(TENANT, IDENTITY, &["Application.ReadWrite.OwnedBy"]);
    entra.set_secrets(TENANT, IDENTITY, &[IDENTITY_SECRET]);
    graph
}

// === impl Fixture ===

impl Fixture {
    /// Starts everything on free loopback ports, in a directory of its own.
    pub(super) async fn start(operator: &Path, screen: &Screen) -> Result<Self, Difference> {
        screen.line("starting etcd and kube-apiserver on 127.0.0.1 …");
        let cluster = Cluster::start().await?;
        let crds = cluster.apply_crds(crate::workspace().join("crds")).await?;
        screen.line(&format!("applied {}", crds.join(", ")));
        let entra = Entra::start().await;
        for client in [CLIENT, OTHER_CLIENT] {
            entra.add_app(TENANT, client);
            entra.set_secrets(TENANT, client, &GOOD_SECRETS);
        }
        let graph = start_graph(&entra).await;
        screen.line("doubles of Microsoft Entra and Microsoft Graph listen on 127.0.0.1");
        let client = cluster.client()?;
        apply(&client, woodpecker::SETUP_YAML, &[("(the API key)", woodpecker::API_KEY)]).await?;
        let woodpecker = Woodpecker::start(operator, &cluster, &entra).await?;
        screen.line("as Woodpecker: graph-credential-operator serve, in the namespace woodpecker");
        let process = Process::builder(operator)
            .env("KUBECONFIG", cluster.kubeconfig_path())
            .args(["run", "--health-probe-bind-address", "127.0.0.1:0", "--dns-server", "127.0.0.1:9"])
            // It is the only replica, and continues to work after the machine was suspended.
            .args(["--leader-elect=false"])
            .args(["--operator-namespace", OPERATOR_NAMESPACE, "--watch-namespace", NAMESPACE])
            .args(["--microsoft-authority", &entra.url()])
            .args(["--allowed-woodpecker-url", &woodpecker.base_url()])
            .args(["--entra-identities", "--microsoft-graph", &graph.url()])
            .args(["--time-scale", &TIME_SCALE.to_string(), "--propagation-window", PROPAGATION_WINDOW])
            .log(cluster.dir().join("operator.log"))
            .spawn()
            .await?;
        screen.line(&format!("the operator runs as process {}", process.pid()));
        let program = operator.to_owned();
        Ok(Self { cluster, entra, graph, woodpecker, program, client, operator: process })
    }

    /// Stops the operator as Kubernetes would, and then the cluster.
    pub(super) async fn stop(mut self) -> Result<(), Difference> {
        let exit = self.operator.stop().await?;
        if !exit.success() {
            return Err(Difference::new(format!("the operator failed at its exit: {exit}\n{}", self.tail())));
        }
        self.woodpecker.stop().await?;
        Ok(self.cluster.stop().await?)
    }

    /// Applies a manifest as `kubectl apply --server-side` does, with the values in place of `(…)`.
    pub(super) async fn apply(&self, manifest: &str, values: &[(&str, &str)]) -> Result<(), Difference> {
        apply(&self.client, manifest, values).await
    }

    /// The credential of that name; none if it does not exist.
    pub(super) async fn credential(&self, name: &str) -> Result<Option<Value>, Difference> {
        Ok(self.credentials().get_opt(name).await?.map(|object| object.data))
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), Difference> {
        self.credentials().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until the credential meets the condition, and returns it.
    pub(super) async fn until(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(Option<&Value>) -> bool,
    ) -> Result<Value, Difference> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let found = self.credential(name).await?;
            if is_so(found.as_ref()) {
                return Ok(found.unwrap_or_default());
            }
            if Instant::now() >= deadline {
                let status = found.map(|object| object["status"].to_string()).unwrap_or_default();
                let tail = self.tail();
                return Err(Difference::new(format!(
                    "{what}: not reached after {TIMEOUT:?}; status {status}\n{tail}"
                )));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The table of `kubectl get mgc -o wide`.
    pub(super) async fn table(&self) -> Result<String, Difference> {
        let path =
            format!("/apis/graph-credentials.io/v1alpha1/namespaces/{NAMESPACE}/microsoftgraphcredentials");
        Ok(self.cluster.table(&path, true).await?)
    }

    /// Creates the Secret that the manifests name, so that none of them contains its value.
    pub(super) async fn secret(&self, name: &str, secret: &str, expires_at: &str) -> Result<(), Difference> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let body = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE},
            "stringData": {"client_secret": secret, "secret_expires_at": expires_at}
        });
        api.patch(name, &PatchParams::apply("kubectl").force(), &Patch::Apply(body)).await?;
        Ok(())
    }

    /// Runs a command of the operator's program on its own store; returns the output.
    pub(super) async fn command(&self, args: &[&str]) -> Result<String, Difference> {
        let common = ["--operator-namespace", OPERATOR_NAMESPACE, "--watch-namespace", NAMESPACE];
        self.run(&[args, &common].concat()).await
    }

    /// Runs a command of the operator's program; returns the output.
    pub(super) async fn run(&self, args: &[&str]) -> Result<String, Difference> {
        let mut command = Command::new(&self.program);
        command.args(args).env("KUBECONFIG", self.cluster.kubeconfig_path());
        command.env("GCO_TIME_SCALE", TIME_SCALE.to_string());
        // Standard output and standard error, in order.
        let (mut reader, writer) = pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let ended = spawn_blocking(move || {
            let mut child = command.spawn()?;
            // Closes its ends of the pipe.
            drop(command);
            let mut output = String::new();
            reader.read_to_string(&mut output)?;
            Ok::<_, std::io::Error>((child.wait()?, output))
        });
        let (status, output) = ended.await??;
        if status.success() {
            return Ok(output);
        }
        Err(Difference::new(format!("{} failed:\n{output}", args.join(" "))))
    }

    /// The records of the store as etcd stores them on disk, and the table of `kubectl get sgc`.
    pub(super) async fn records(&self) -> Result<(Vec<String>, String), Difference> {
        let from = format!("/registry/graph-credentials.io/sealedgraphcredentials/{NAMESPACE}/");
        let to = format!("{}0", from.trim_end_matches('/'));
        let range = serde_json::json!({"key": STANDARD.encode(from), "range_end": STANDARD.encode(to)});
        let etcd = self.cluster.etcd_url().trim_start_matches("http://");
        let json = [("content-type", "application/json")];
        let (_, response) = send_request(etcd, "POST /v3/kv/range", &json, &range.to_string()).await?;
        let response: Value = serde_json::from_str(&response)?;
        let entries = response["kvs"].as_array().cloned().unwrap_or_default();
        let value = |entry: &Value| STANDARD.decode(entry["value"].as_str().unwrap_or_default());
        let values = entries.iter().map(value).collect::<Result<Vec<_>, _>>()?;
        let texts = values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        let path =
            format!("/apis/graph-credentials.io/v1alpha1/namespaces/{NAMESPACE}/sealedgraphcredentials");
        Ok((texts, self.cluster.table(&path, false).await?))
    }

    /// The messages of the events with that reason in the operator's namespace.
    pub(super) async fn events(&self, reason: &str) -> Result<String, Difference> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let mut events = api.list(&ListParams::default()).await?.items;
        events.retain(|event| event.reason.as_deref().is_some_and(|it| it.starts_with(reason)));
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let line = |event: &Event| {
            let [reason, note] = [&event.reason, &event.note].map(|it| it.clone().unwrap_or_default());
            format!("{reason}: {note}")
        };
        Ok(events.iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    fn credentials(&self) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("graph-credentials.io", "v1alpha1", "MicrosoftGraphCredential");
        Api::namespaced_with(self.client.clone(), NAMESPACE, &ApiResource::from_gvk(&gvk))
    }

    /// The operator's log.
    pub(super) fn log(&self) -> String {
        self.operator.log()
    }

    /// The end of the operator's log.
    fn tail(&self) -> String {
        let log = self.operator.log();
        let lines: Vec<&str> = log.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}
