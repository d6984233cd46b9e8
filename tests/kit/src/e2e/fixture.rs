//! The parts of the run: the doubles as pods, helm, and two versions of the chart.

use std::path::{Path, PathBuf};

use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::cluster::{Cluster, Kind};
use super::installer;
use super::profile::Profile;
use super::report::Report;
use super::settings::{Image, Settings};
use crate::demo::Difference;
use crate::doubles::{CONTROL, GRAPH, MICROSOFT, WOODPECKER};
use crate::helm::Helm;
use crate::tls::Authority;

/// How many times shorter the operator's waits are.
pub(super) const TIME_SCALE: u32 = 5;
/// The operator's namespace.
pub(super) const OPERATOR: &str = "e2e-graph-credentials";
/// The release, and the name of its objects.
pub(super) const RELEASE: &str = "graph-credential-operator";
/// The API key of the REST API.
const REST_KEY: &str = "4711.a-key-of-the-tenant";
/// The ServiceAccount with whose tokens the identity signs in, that of the profile which sets every value.
const FEDERATED: &str = "operator-of-mail";
/// The doubles' namespace.
pub(super) const DOUBLES: &str = "e2e-doubles";

/// Everything that a scenario needs.
pub(super) struct Fixture {
    pub(super) cluster: Cluster,
    helm: std::sync::Arc<Helm>,
    /// Charts as archives, and kubeconfigs of other users.
    folder: TempDir,
    authority: Authority,
}

/// A release of the product, and the user who runs helm.
pub(super) struct Release<'a> {
    pub(super) image: &'a Image,
    pub(super) profile: Profile,
    /// The namespaces that it serves.
    pub(super) tenants: &'a [&'a str],
    /// The kubeconfig of the user who runs helm.
    pub(super) kubeconfig: &'a Path,
}

// === impl Fixture ===

impl Fixture {
    pub(super) async fn start(settings: &Settings, report: &mut Report) -> Result<Self, Difference> {
        report.profile("setup");
        let cluster = Cluster::connect(settings).await?;
        report.cluster = cluster.about().await?;
        let helm = spawn_blocking(Helm::locate).await??;
        let fixture =
            Self { cluster, helm: helm.into(), folder: tempfile::tempdir()?, authority: Authority::new()? };
        let own = crate::workspace().join("deploy/chart");
        let first = settings.chart.as_ref().unwrap_or(&own);
        for (chart, image) in [(first, &settings.image), (&own, &settings.next_image)] {
            let (chart, folder) = (chart.display().to_string(), fixture.folder.path().display().to_string());
            let number = &image.version;
            let args =
                ["package", &chart, "--version", number, "--app-version", number, "--destination", &folder];
            fixture.plain(&settings.kubeconfig, &args).await?;
        }
        fixture.start_doubles(settings).await?;
        report.step("the doubles run as a pod and serve TLS");
        Ok(fixture)
    }

    /// Removes what the run created, and what the operator leaves on purpose: CRDs and keyring.
    pub(super) async fn stop(self) -> Result<(), Difference> {
        for namespace in [DOUBLES, OPERATOR] {
            self.cluster.delete(Kind::Namespace, None, namespace).await?;
        }
        for object in prerequisites()?.into_iter().chain([state_writers()]) {
            self.cluster.delete_object(&object).await?;
        }
        Ok(())
    }

    async fn start_doubles(&self, settings: &Settings) -> Result<(), Difference> {
        let names =
            ["microsoft", "graph", "woodpecker"].map(|name| format!("{name}.{DOUBLES}.svc.cluster.local"));
        let (certificate, key) = self.authority.issue(&names.each_ref().map(String::as_str))?;
        let labels = json!({"app": "doubles"});
        let subject = format!("system:serviceaccount:{OPERATOR}:{FEDERATED}");
        let service = |name: &str, port: u16, target: u16| {
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": DOUBLES},
                "spec": {"selector": labels, "ports": [{"port": port, "targetPort": target}]}
            })
        };
        let container = json!({
            "name": "doubles", "image": settings.doubles_image, "imagePullPolicy": "IfNotPresent",
            "args": ["doubles", "/tls/tls.crt", "/tls/tls.key", self.issuer().await?, subject],
            "readinessProbe": {"httpGet": {"path": "/", "port": CONTROL}, "periodSeconds": 1},
            "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}
        });
        let pod = json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container], "volumes": [{"name": "tls", "secret": {"secretName": "tls"}}]
        });
        self.cluster
            .apply(&[
                namespace(DOUBLES),
                json!({
                    "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                    "metadata": {"name": "tls", "namespace": DOUBLES},
                    "stringData": {"tls.crt": certificate, "tls.key": key}
                }),
                service("microsoft", 443, MICROSOFT),
                service("graph", 443, GRAPH),
                service("woodpecker", 443, WOODPECKER),
                service("control", CONTROL, CONTROL),
                json!({
                    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "doubles", "namespace": DOUBLES},
                    "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
                }),
            ])
            .await?;
        self.until_available(DOUBLES, "doubles", 1).await
    }

    /// The issuer of the cluster's ServiceAccount tokens.
    async fn issuer(&self) -> Result<Value, Difference> {
        let path = "/.well-known/openid-configuration";
        let found: Value = self.cluster.request(http::Request::get(path), "").await?;
        Ok(found["issuer"].clone())
    }

    /// Waits until that number of pods of a Deployment is available, and no others exist.
    pub(super) async fn until_available(
        &self,
        namespace: &str,
        name: &str,
        pods: u64,
    ) -> Result<(), Difference> {
        let what = format!("{namespace}/{name} has {pods} available pods");
        let object_ref = (Kind::Deployment, Some(namespace), name);
        let waited = self.cluster.until(&what, object_ref, |found| {
            let status = |field: &str| found.and_then(|it| it["status"][field].as_u64()).unwrap_or_default();
            let generation = found.and_then(|it| it["metadata"]["generation"].as_u64());
            let is_seen = generation == Some(status("observedGeneration"));
            is_seen
                && ["availableReplicas", "updatedReplicas", "replicas"].iter().all(|it| status(it) == pods)
        });
        match waited.await {
            Ok(_) => Ok(()),
            Err(difference) => {
                Err(Difference::new(format!("{difference}{}", self.cluster.diagnostics(namespace).await)))
            }
        }
    }

    /// Creates the namespace and what a release needs: the authority and, for the REST API, a certificate and
    /// an API key for that namespace.
    pub(super) async fn prepare(&self, rest_namespace: &str) -> Result<(), Difference> {
        let authority = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "doubles-ca", "namespace": OPERATOR},
            "data": {"ca.crt": self.authority.pem()}
        });
        let (certificate, key) = self.authority.issue(&[&format!("{RELEASE}-rest.{OPERATOR}.svc")])?;
        let tls = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "rest-tls", "namespace": OPERATOR},
            "stringData": {"tls.crt": certificate, "tls.key": key}
        });
        let keys = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "graph-credential-operator-api-keys", "namespace": OPERATOR},
            "stringData": {format!("{rest_namespace}.ci"): REST_KEY}
        });
        self.cluster.apply(&[namespace(OPERATOR), authority, tls, keys]).await
    }

    /// Applies what a cluster administrator provides if the user who installs the product may not; returns
    /// the kubeconfig of a user who owns only the operator's namespace and these.
    pub(super) async fn delegate(
        &self,
        settings: &Settings,
        tenants: &[&str],
    ) -> Result<PathBuf, Difference> {
        self.cluster.apply(&prerequisites()?).await?;
        self.cluster.apply(&[state_writers()]).await?;
        let own = Kubeconfig::read_from(&settings.kubeconfig)?;
        let namespaces = [&[OPERATOR], tenants].concat();
        let text = installer::kubeconfig_for_namespaces(&self.cluster, &own, OPERATOR, &namespaces).await?;
        let path = self.folder.path().join("kubeconfig");
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// `helm install` or `helm upgrade`, until all pods are ready; `more` are additional values.
    pub(super) async fn helm(
        &self,
        command: &str,
        release: &Release<'_>,
        more: Value,
    ) -> Result<(), Difference> {
        let chart = format!("graph-credential-operator-{}.tgz", release.image.version);
        let chart = self.folder.path().join(chart).display().to_string();
        let profile = release.profile.values(release.tenants)?;
        let values = merged(merged(values(release.image), profile), more);
        let args = [command, RELEASE, &chart, "--namespace", OPERATOR, "--wait", "--timeout", "180s"];
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let (helm, kubeconfig) = (self.helm.clone(), release.kubeconfig.to_owned());
        let ran = spawn_blocking(move || {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            helm.run(&kubeconfig, &args, &values)
        });
        match ran.await? {
            Ok(_) => Ok(()),
            Err(error) => {
                let diagnostics = self.cluster.diagnostics(OPERATOR).await;
                Err(Difference::new(format!("{}{diagnostics}", crate::chain(&error))))
            }
        }
    }

    /// Another command of helm.
    pub(super) async fn plain(&self, kubeconfig: &Path, args: &[&str]) -> Result<String, Difference> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let (helm, kubeconfig) = (self.helm.clone(), kubeconfig.to_owned());
        let ran = spawn_blocking(move || {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            helm.plain(&kubeconfig, &args)
        });
        Ok(ran.await??)
    }

    /// The state of the double of Woodpecker, through the API server.
    pub(super) async fn woodpecker(&self) -> Result<Value, Difference> {
        let path = format!("/api/v1/namespaces/{DOUBLES}/services/control:{CONTROL}/proxy/");
        self.cluster.request(http::Request::get(path), "").await
    }

    /// A request to the operator's REST API with TLS, through the API server; `path` begins after
    /// `credentials`.
    pub(super) async fn rest(&self, method: &str, path: &str, body: Value) -> Result<Value, Difference> {
        let service = format!("https:{RELEASE}-rest:443");
        let path = format!(
            "/api/v1/namespaces/{OPERATOR}/services/{service}/proxy/rest/v2/mailboxes/microsoft/credentials{path}"
        );
        let request = http::Request::builder().method(method).uri(path).header("x-api-key", REST_KEY);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.cluster.request(request.header("content-type", "application/json"), &body).await
    }
}

/// A namespace that enforces the Pod Security Standard `restricted`.
pub(super) fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    })
}

/// The base URL of the doubles for the operator.
pub(super) fn base_url() -> String {
    format!("https://woodpecker.{DOUBLES}.svc.cluster.local/rest")
}

/// What must exist in a cluster before a user installs the product who may not create it.
fn prerequisites() -> Result<Vec<Value>, Difference> {
    let text = std::fs::read_to_string(crate::workspace().join("deploy/prerequisites.yaml"))?;
    Ok(crate::helm::parse(&text)?)
}

/// The right to write status and records, for an operator without a `ClusterRole`.
fn state_writers() -> Value {
    let name = format!("{RELEASE}-state-writers");
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": RELEASE, "namespace": OPERATOR}]
    })
}

fn values(image: &Image) -> Value {
    json!({
        "image": {"repository": image.repository, "tag": image.version},
        "allowedWoodpeckerUrls": [base_url()],
        "microsoftAuthority": format!("https://microsoft.{DOUBLES}.svc.cluster.local"),
        "microsoftGraph": format!("https://graph.{DOUBLES}.svc.cluster.local"),
        "caBundle": {"configMapName": "doubles-ca"},
        "extraArgs": [format!("--time-scale={TIME_SCALE}")],
        "propagationWindow": "60s",
        "restApi": {"enabled": true, "tlsSecretName": "rest-tls"},
    })
}

/// Merged values; on conflict the latter win.
fn merged(mut values: Value, more: Value) -> Value {
    if let (Some(values), Value::Object(more)) = (values.as_object_mut(), more) {
        values.extend(more);
    }
    values
}
