//! A release of the chart on a cluster of its own. The test does what nodes and controllers would do for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, Namespace};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kit::cluster::Cluster;
use kit::helm::{Error, Helm};
use kit::process::Process;
use kit::shell::Shell;
use kit::tls::Authority;
use kube::Client;
use kube::api::{Patch, PatchParams};
use tokio::task::JoinHandle;

use super::*;
use crate::harness::merge;
use crate::rest_api::{KEY, KEYS};

pub const NAMESPACE: &str = "graph-credentials";
pub const NAME: &str = "graph-credential-operator";

/// The user who runs helm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installer {
    /// May do everything.
    OfTheCluster,
    /// May do everything in the operator's namespace and in the test's, and nothing elsewhere. Objects that
    /// such a user may not create exist already.
    OfTwoNamespaces,
}

pub struct Release {
    pub env: TestEnv,
    helm: std::sync::Arc<Helm>,
    values: Value,
    /// The kubeconfig of the user who runs helm.
    kubeconfig: PathBuf,
}

// === impl Release ===

impl Release {
    /// Installs the chart, with the CRDs, into a namespace that enforces the standard `restricted`. `values`
    /// gets the test's namespace.
    pub async fn install(values: impl FnOnce(&str) -> Value) -> Self {
        Self::install_by(Installer::OfTheCluster, values).await
    }

    pub async fn install_by(installer: Installer, values: impl FnOnce(&str) -> Value) -> Self {
        let cluster = crate::harness::own_cluster().await;
        let env = TestEnv::on(cluster).await;
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {
            "name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}
        }}))
        .unwrap();
        Api::all(env.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let mut all = json!({
            "allowedWoodpeckerUrls": [env.woodpecker.base_url()],
            "microsoftAuthority": env.entra.url(),
            "dnsServers": ["127.0.0.1:9"],
            "propagationWindow": "60s",
            "log": {"level": "info,graph_credential_operator=debug"},
            "extraArgs": [format!("--time-scale={}", env.time_scale)],
        });
        merge(&mut all, values(&env.namespace));
        let helm = tokio::task::spawn_blocking(Helm::locate).await.unwrap().expect("helm is available");
        let kubeconfig = match installer {
            Installer::OfTheCluster => env.cluster.kubeconfig_path(),
            Installer::OfTwoNamespaces => {
                prerequisites(cluster).await;
                owner_of_two_namespaces(&env).await
            }
        };
        let release = Self { env, helm: helm.into(), values: all, kubeconfig };
        release.helm(&["install", NAME, "--namespace", NAMESPACE]).await;
        release
    }

    /// Upgrades with the same values.
    pub async fn upgrade(&self) {
        self.helm(&["upgrade", NAME, "--namespace", NAMESPACE]).await;
    }

    /// Upgrades with these values added.
    pub async fn upgrade_with(&mut self, values: Value) {
        merge(&mut self.values, values);
        self.upgrade().await;
    }

    /// Installs another release, with these values added.
    pub async fn install_beside(&self, name: &str, namespace: &str, values: Value) {
        let mut all = self.values.clone();
        merge(&mut all, values);
        self.helm_with(&["install", name, "--namespace", namespace], all).await;
    }

    async fn helm(&self, args: &[&str]) {
        self.helm_with(args, self.values.clone()).await;
    }

    /// Runs helm with the chart and these values.
    async fn helm_with(&self, args: &[&str], values: Value) {
        let chart = kit::workspace().join("deploy/chart").display().to_string();
        let args: Vec<String> = args.iter().map(ToString::to_string).chain([chart]).collect();
        let (helm, kubeconfig) = (self.helm.clone(), self.kubeconfig.clone());
        let ended = tokio::task::spawn_blocking(move || {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            helm.run(&kubeconfig, &args, &values)
        });
        ended.await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Starts a command of helm that waits for a hook.
    pub fn begin(&self, command: &'static str) -> JoinHandle<Result<String, Error>> {
        let (helm, kubeconfig) = (self.helm.clone(), self.kubeconfig.clone());
        tokio::task::spawn_blocking(move || {
            helm.plain(&kubeconfig, &[command, NAME, "--namespace", NAMESPACE, "--timeout", "60s"])
        })
    }

    /// The objects that the chart renders for this release.
    pub async fn rendered(&self) -> Vec<Value> {
        let (helm, values) = (self.helm.clone(), self.values.clone());
        let chart = kit::workspace().join("deploy/chart");
        tokio::task::spawn_blocking(move || helm.objects(&chart, NAMESPACE, &values)).await.unwrap().unwrap()
    }

    pub async fn deployment(&self) -> Deployment {
        let api: Api<Deployment> = Api::namespaced(self.env.client.clone(), NAMESPACE);
        api.get(NAME).await.expect("the Deployment exists")
    }

    /// Creates an API key of the REST API for the test namespace.
    pub async fn allow_a_client(&self) {
        let key =
            json!({"metadata": {"name": KEYS}, "stringData": {format!("{}.ci", self.env.namespace): KEY}});
        let secrets: Api<Secret> = Api::namespaced(self.env.client.clone(), NAMESPACE);
        secrets.create(&PostParams::default(), &serde_json::from_value(key).unwrap()).await.unwrap();
    }

    /// Writes a certificate to the place where the pod has that of `metrics.tls`.
    pub fn mount_a_certificate(&self, authority: &Authority) {
        let folder = self.env.cluster.dir().join("metrics");
        std::fs::create_dir(&folder).expect("a folder");
        let (certificate, key) = authority.issue(&["localhost"]).unwrap();
        std::fs::write(folder.join("tls.crt"), certificate).expect("a certificate");
        std::fs::write(folder.join("tls.key"), key).expect("a key");
    }

    /// Starts the operator as a pod of the Deployment would.
    pub async fn start_operator(&mut self) {
        let spec = self.deployment().await.spec.unwrap().template.spec.unwrap();
        let kubeconfig = self.operators_kubeconfig().await;
        let log = self.env.cluster.dir().join("operator.log");
        let operator = start(&spec.containers[0], kubeconfig, log).await;
        self.env.operator = Some(operator);
        eventually("the operator is ready", || async {
            let (status, text) = self.env.get("/readyz").await;
            if status == 200 { Ok(()) } else { Err(format!("{text}\n{}", self.env.log())) }
        })
        .await;
    }

    /// The kubeconfig that replaces the files in a pod of the Deployment.
    pub async fn operators_kubeconfig(&self) -> PathBuf {
        let spec = self.deployment().await.spec.unwrap().template.spec.unwrap();
        self.token(&spec.service_account_name.unwrap()).await
    }

    /// A kubeconfig with a token of that ServiceAccount.
    async fn token(&self, account: &str) -> PathBuf {
        token(&self.env.client, self.env.cluster, account).await
    }

    /// Uninstalls a release without a hook: the process exits, and had exactly the rights that it used.
    pub async fn uninstall_without_a_hook(mut self) {
        self.env.stop_operator().await;
        self.used_exactly_its_rights(NAME, &[]).await;
        self.begin("uninstall").await.unwrap().unwrap_or_else(|error| panic!("{error}"));
        let accounts: Api<ServiceAccount> = Api::namespaced(self.env.client.clone(), NAMESPACE);
        assert!(accounts.get_opt(NAME).await.unwrap().is_none());
    }

    /// Uninstalls while the test acts as the controllers of Deployments and Jobs. Checks what is left, and
    /// that operator and hook had exactly the rights that they used. `refused` are the requests that the
    /// operator was refused on purpose.
    pub async fn uninstall(mut self, rejected: &[String]) {
        let name = "kept";
        self.env.credential(name, json!({"deletionPolicy": "Delete", "displayName": "kept"})).await;
        let id = self.env.wait_until_ready(name).await.status.unwrap().credential_id.unwrap();
        assert_eq!(self.env.read(name).await.finalizers().len(), 1);
        eventually("it has its name", || async {
            let named = self.env.remote().iter().any(|it| it.name == "kept");
            if named { Ok(()) } else { Err(format!("{:?}", self.env.remote())) }
        })
        .await;
        let writes = self.env.woodpecker.writes("agency");

        let uninstalled = self.begin("uninstall");
        let hook = self.run_hook(rejected).await;
        uninstalled.await.unwrap().unwrap_or_else(|error| panic!("{error}\n{hook}"));
        assert!(hook.contains(&id.to_string()), "the hook names what stays:\n{hook}");

        let left = self.env.read(name).await;
        assert_eq!(left.finalizers(), [""; 0], "the object can go without the operator");
        assert_eq!(self.env.woodpecker.writes("agency"), writes, "nothing changes at Woodpecker");
        let secrets: Api<Secret> = Api::namespaced(self.env.client.clone(), NAMESPACE);
        secrets.get("graph-credential-operator-keyring").await.expect("the keyring stays");
        let accounts: Api<ServiceAccount> = Api::namespaced(self.env.client.clone(), NAMESPACE);
        for account in [NAME, "graph-credential-operator-remove-finalizers"] {
            assert!(accounts.get_opt(account).await.unwrap().is_none(), "{account} is left");
        }
    }

    /// Runs the hook's Job, and stops the Deployment's pod when it is scaled to zero; returns the hook's
    /// output.
    async fn run_hook(&mut self, rejected: &[String]) -> String {
        let jobs: Api<Job> = Api::namespaced(self.env.client.clone(), NAMESPACE);
        let job = awaited_job(&jobs).await;
        let spec = job.spec.unwrap().template.spec.unwrap();
        let account = spec.service_account_name.unwrap();
        let kubeconfig = self.token(&account).await;
        let log = self.env.cluster.dir().join("hook.log");
        let hook = start(&spec.containers[0], kubeconfig, log).await;
        eventually("the hook scales the Deployment to zero", || async {
            let replicas = self.deployment().await.spec.unwrap().replicas;
            if replicas == Some(0) { Ok(()) } else { Err(format!("{replicas:?}\n{}", hook.log())) }
        })
        .await;
        self.env.stop_operator().await;
        let exit = hook.wait(Duration::from_mins(1)).await.unwrap();
        assert!(exit.success(), "{exit}\n{}", hook.log());
        // Checked now, because the roles are about to be deleted.
        self.used_exactly_its_rights(NAME, rejected).await;
        self.used_exactly_its_rights(&account, &[]).await;
        complete(&jobs, &job.metadata.name.unwrap()).await;
        hook.log()
    }
}

/// A kubeconfig with a token of that ServiceAccount in the operator's namespace.
pub async fn token(client: &Client, cluster: &Cluster, account: &str) -> PathBuf {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let request = TokenRequest::default();
    let token = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    cluster.kubeconfig_with_token(account, &token.status.unwrap().token).unwrap()
}

/// The hook's Job, once helm has created it.
async fn awaited_job(jobs: &Api<Job>) -> Job {
    eventually("the hook's Job exists", || async {
        let job =
            jobs.get_opt(&format!("{NAME}-remove-finalizers")).await.map_err(|error| error.to_string())?;
        job.ok_or_else(|| "not yet".to_owned())
    })
    .await
}

/// Runs the hook's Job as nodes and controllers would, for a release whose operator does not run; returns its output.
pub async fn run_a_hook(client: Client, cluster: &'static Cluster) -> String {
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    let spec = awaited_job(&jobs).await.spec.unwrap().template.spec.unwrap();
    let kubeconfig = token(&client, cluster, &spec.service_account_name.unwrap()).await;
    let hook = start(&spec.containers[0], kubeconfig, cluster.dir().join("hook.log")).await;
    let exit = hook.wait(Duration::from_mins(1)).await.unwrap();
    assert!(exit.success(), "{exit}\n{}", hook.log());
    complete(&jobs, &format!("{NAME}-remove-finalizers")).await;
    hook.log()
}

/// Runs a command as the cluster's administrator.
pub async fn kubectl(cluster: &'static Cluster, command: &'static str) {
    let program = Path::new(env!("CARGO_BIN_EXE_graph-credential-operator"));
    let applied = tokio::task::spawn_blocking(move || {
        Shell::open(program, &cluster.kubeconfig_path())?.run(command, "")
    });
    let applied = applied.await.unwrap().unwrap();
    assert!(applied.is_success(), "{applied:?}");
}

/// What a cluster administrator applies for users who may not.
async fn prerequisites(cluster: &'static Cluster) {
    kubectl(cluster, "kubectl apply --server-side -f deploy/prerequisites.yaml").await;
    kubectl(
        cluster,
        "kubectl create clusterrolebinding graph-credential-operator-state-writers \
         --clusterrole graph-credential-operator-state-writers \
         --serviceaccount graph-credentials:graph-credential-operator",
    )
    .await;
    // Waits until the API server serves the kinds.
    cluster.apply_crds(kit::workspace().join("crds")).await.unwrap();
}

/// The kubeconfig of a user with two namespaces.
async fn owner_of_two_namespaces(env: &TestEnv) -> PathBuf {
    let name = "owner-of-two-namespaces";
    let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(env.client.clone(), NAMESPACE);
    accounts.create(&PostParams::default(), &account).await.unwrap();
    for namespace in [NAMESPACE, &env.namespace] {
        let binding = serde_json::from_value(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]
        }))
        .unwrap();
        let bindings: Api<RoleBinding> = Api::namespaced(env.client.clone(), namespace);
        bindings.create(&PostParams::default(), &binding).await.unwrap();
    }
    token(&env.client, env.cluster, name).await
}

/// Runs the program as the container specifies, except for what a test needs: its own port, and a kubeconfig
/// in place of the files in a pod.
pub async fn start(container: &Container, kubeconfig: PathBuf, log: PathBuf) -> Process {
    let args = container.args.clone().unwrap_or_default();
    let local = |argument: String| match argument.split_once('=') {
        Some((
            flag @ ("--health-probe-bind-address" | "--rest-bind-address" | "--metrics-bind-address"),
            _,
        )) => {
            format!("{flag}=127.0.0.1:0")
        }
        Some((flag @ ("--metrics-tls-cert" | "--metrics-tls-key"), path)) => {
            let mounted = path.strip_prefix("/etc/graph-credential-operator").expect("a mounted file");
            format!("{flag}={}{mounted}", log.parent().expect("the cluster's folder").display())
        }
        _ => argument,
    };
    let variables = variables(container);
    // As Kubernetes does.
    let expanded = |argument: String| {
        variables
            .iter()
            .fold(argument, |argument, (name, value)| argument.replace(&format!("$({name})"), value))
    };
    let args: Vec<String> = args.into_iter().map(local).map(expanded).collect();
    let builder = Process::builder(env!("CARGO_BIN_EXE_graph-credential-operator"))
        .clear_env()
        .env("KUBECONFIG", kubeconfig)
        .args(args)
        .log(log);
    let builder = variables.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
    builder.spawn().await.expect("the program can be started")
}

/// The environment variables of a container in a pod.
fn variables(container: &Container) -> Vec<(String, String)> {
    let value = |variable: &EnvVar| {
        let from_pod = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
        match from_pod {
            Some(field) if field.field_path == "metadata.name" => format!("{}-0", container.name),
            Some(field) if field.field_path == "metadata.namespace" => NAMESPACE.to_owned(),
            Some(field) => panic!("{} comes from {}", variable.name, field.field_path),
            None => variable.value.clone().unwrap_or_default(),
        }
    };
    container.env.iter().flatten().map(|variable| (variable.name.clone(), value(variable))).collect()
}

/// Marks the hook's Job as failed, once helm has created it.
pub async fn fail_a_hook(client: &Client) {
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    let job = awaited_job(&jobs).await;
    let now = jiff::Timestamp::now().to_string();
    let ended = json!({"failed": 1});
    end(&jobs, &job.metadata.name.unwrap(), &now, ended, ["FailureTarget", "Failed"]).await;
}

/// Marks a Job as complete, as its controller does once its pod has succeeded.
async fn complete(jobs: &Api<Job>, name: &str) {
    let now = jiff::Timestamp::now().to_string();
    let ended = json!({"succeeded": 1, "completionTime": now});
    end(jobs, name, &now, ended, ["SuccessCriteriaMet", "Complete"]).await;
}

async fn end(jobs: &Api<Job>, name: &str, now: &str, ended: Value, conditions: [&str; 2]) {
    let conditions = conditions.map(|type_| {
        json!({"type": type_, "status": "True", "reason": "Ended", "message": "done",
            "lastProbeTime": now, "lastTransitionTime": now})
    });
    let mut status =
        json!({"status": {"startTime": now, "uncountedTerminatedPods": {}, "conditions": conditions}});
    merge(&mut status, json!({"status": ended}));
    jobs.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.expect("the Job can end");
}
