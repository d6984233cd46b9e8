//! The environment of one test: a namespace of its own, doubles of its own, and an operator that serves only
//! that namespace.

mod objects;
mod requests;
mod rights;
mod waits;

use std::cell::RefCell;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use graph_credential_operator::api::conditions::{Condition, ConditionStatus, ConditionType, find};
use graph_credential_operator::api::{MicrosoftGraphCredential, RECONCILE_REQUESTED_AT, WoodpeckerAccount};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use kit::cluster::{Cluster, User};
use kit::entra::Entra;
use kit::process::Process;
use kit::woodpecker::{Credential, Woodpecker};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

pub use self::objects::{merge, plain_spec};
pub use self::requests::{address, send_get};
pub use self::waits::{condition, eventually, message};

pub const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
pub const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";
pub const EXPIRY: &str = "2027-11-28T23:59:59Z";
pub const API_KEY: &str = "1234.api-key-of-the-agency";

/// How many times faster the operator's clock runs.
pub const TIME_SCALE: u32 = 20;

/// How long a state may take to appear: far longer than it takes, even on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Test environments created so far.
static ENVIRONMENTS: AtomicI64 = AtomicI64::new(0);

/// How long a state must hold to count as lasting: several times longer than every wait of the operator that
/// could change it.
pub const QUIET_TIME: Duration = Duration::from_secs(5);

pub struct TestEnv {
    pub cluster: &'static Cluster,
    pub client: Client,
    pub namespace: String,
    pub entra: Entra,
    pub woodpecker: Woodpecker,
    pub operator: Option<Process>,
    pub extra_args: Vec<String>,
    /// The operator's own namespace, if it is not the test's.
    pub operator_namespace: Option<String>,
    /// The kubeconfig of the operator, if it is not that of the user who may do everything.
    pub user: Option<PathBuf>,
    /// Additional environment variables of the operator.
    pub extra_env: Vec<(&'static str, String)>,
    /// The authority that verifies secrets, in place of the double's own address.
    pub authority: Option<String>,
    /// How many times faster the operator's clock runs.
    pub time_scale: u32,
    /// Whether it serves all namespaces, in a cluster of its own.
    pub serves_all: bool,
    /// The operator's log filter.
    pub log_filter: &'static str,
    /// The file that the operator sees as `/etc/resolv.conf`, in place of a name server that never answers.
    pub resolv_conf: Option<PathBuf>,
    logs: AtomicUsize,
}

/// The cluster that all tests share, with the CRDs and the rights of the user `operator`.
async fn cluster() -> &'static Cluster {
    static READY: OnceCell<&'static Cluster> = OnceCell::const_new();
    READY
        .get_or_init(|| async {
            let cluster = Cluster::shared().await.expect("the cluster starts");
            prepare(cluster).await;
            cluster
        })
        .await
}

/// Applies the CRDs and gives the operator's user its rights.
pub async fn prepare(cluster: &Cluster) {
    cluster.apply_crds(kit::workspace().join("crds")).await.expect("the CRDs are accepted");
    // The API server delays creates while a kind is younger than this, in case another replica of it does not
    // know the kind yet. Source: apiextensions-apiserver, `customresource_handler.go`.
    tokio::time::sleep(Duration::from_secs(2)).await;
    grant_everything(cluster).await;
}

/// A cluster of the test's own. Its programs end with the test: many idle API servers would slow the other tests down.
pub async fn own_cluster() -> &'static Cluster {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.expect("the cluster starts")));
    OWN_CLUSTERS.with_borrow_mut(|own| own.push(OwnCluster(cluster)));
    cluster
}

thread_local! {
    /// Each test has a thread of its own, so they are dropped with it.
    static OWN_CLUSTERS: RefCell<Vec<OwnCluster>> = const { RefCell::new(Vec::new()) };
}

struct OwnCluster(&'static Cluster);

impl Drop for OwnCluster {
    fn drop(&mut self) {
        self.0.kill();
    }
}

pub async fn grant_everything(cluster: &Cluster) {
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": User::Operator.name()}]
    }))
    .unwrap();
    let api: Api<ClusterRoleBinding> = Api::all(cluster.client().unwrap());
    api.create(&PostParams::default(), &binding).await.expect("the binding can be created");
}

impl TestEnv {
    /// A test environment with app, account and their Secrets, and a running operator.
    pub async fn start() -> Self {
        Self::start_after(|_| ()).await.0
    }

    /// The same, with what `prepare` does to the doubles before the operator lists the account. What is put into the
    /// account later may be missing in the listing that a credential is registered by.
    pub async fn start_after<T>(prepare: impl FnOnce(&Self) -> T) -> (Self, T) {
        let mut env = Self::bare().await;
        let prepared = prepare(&env);
        env.start_operator().await;
        env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
        env.account("agency", json!({})).await;
        (env, prepared)
    }

    /// A test environment whose doubles know the app and the account. The namespace is empty.
    pub async fn bare() -> Self {
        Self::on(cluster().await).await
    }

    /// The same on another cluster than the shared one.
    pub async fn on(cluster: &'static Cluster) -> Self {
        let client = cluster.client().expect("a client can be created");
        let namespace = cluster.create_namespace("env").await.expect("a namespace can be created");
        let entra = Entra::start().await;
        entra.add_app(TENANT, CLIENT);
        entra.set_secrets(TENANT, CLIENT, &["s3cret-one"]);
        let woodpecker = Woodpecker::start().await;
        // Objects of other tests stay at the API server. They must not seem to hold ids of this one.
        woodpecker.skip_ids(1000 * ENVIRONMENTS.fetch_add(1, Ordering::Relaxed));
        woodpecker.verify_with(&entra);
        woodpecker.add_account("agency", API_KEY);
        Self {
            cluster,
            client,
            namespace,
            entra,
            woodpecker,
            operator: None,
            extra_args: Vec::new(),
            operator_namespace: None,
            user: None,
            // Most tests have one process that verifies secrets.
            extra_env: vec![("GCO_PROCESSES", "1".to_owned())],
            authority: None,
            time_scale: TIME_SCALE,
            serves_all: false,
            log_filter: "info,graph_credential_operator=debug",
            resolv_conf: None,
            logs: AtomicUsize::new(0),
        }
    }

    /// Starts the operator and waits until it is ready.
    pub async fn start_operator(&mut self) {
        self.spawn_operator().await;
        let operator = self.operator.as_ref().unwrap();
        eventually("the operator is ready", || async {
            let (status, text) = self.get("/readyz").await;
            if operator.is_running() && status == 200 {
                Ok(())
            } else {
                Err(format!("{text}\n{}", operator.log()))
            }
        })
        .await;
    }

    pub async fn spawn_operator(&mut self) {
        self.operator = Some(self.launch().await);
    }

    /// Starts another operator without waiting for it.
    pub async fn launch(&self) -> Process {
        self.launch_through(None).await
    }

    /// The same with another kubeconfig.
    pub async fn launch_through(&self, kubeconfig: Option<&Path>) -> Process {
        let mut args = vec!["run", "--propagation-window", "60s"];
        let woodpecker = self.woodpecker.base_url();
        args.extend(["--allowed-woodpecker-url", &woodpecker]);
        args.extend(self.extra_args.iter().map(String::as_str));
        self.launch_by(&args, kubeconfig).await
    }

    /// Starts the program with these arguments and those that all long-running commands have.
    pub async fn launch_with(&self, args: &[&str]) -> Process {
        self.launch_by(args, None).await
    }

    async fn launch_by(&self, args: &[&str], kubeconfig: Option<&Path>) -> Process {
        let number = self.logs.fetch_add(1, Ordering::Relaxed);
        let log = self.cluster.dir().join(format!("{}-{number}.log", self.namespace));
        let kubeconfig = kubeconfig.map(Path::to_owned).or_else(|| self.user.clone());
        let kubeconfig = kubeconfig.unwrap_or_else(|| self.cluster.kubeconfig_for(User::Operator));
        let authority = self.authority.clone().unwrap_or_else(|| self.entra.url());
        let builder = self.builder();
        let builder = self.extra_env.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
        builder
            .env("KUBECONFIG", kubeconfig)
            .args(args)
            .args(["--health-probe-bind-address", "127.0.0.1:0"])
            .args(self.resolv_conf.is_none().then_some(["--dns-server", "127.0.0.1:9"]).into_iter().flatten())
            .args(["--log-level", self.log_filter])
            .args(["--operator-namespace", self.operator_namespace.as_ref().unwrap_or(&self.namespace)])
            .args((!self.serves_all).then(|| format!("--watch-namespace={}", self.namespace)))
            .args(["--microsoft-authority", &authority, "--time-scale", &self.time_scale.to_string()])
            .log(log)
            .spawn()
            .await
            .expect("the operator can be started")
    }

    /// The operator, with its own `/etc/resolv.conf` if there is one, in a mount namespace of its own.
    fn builder(&self) -> kit::process::Builder {
        const OPERATOR: &str = env!("CARGO_BIN_EXE_graph-credential-operator");
        let Some(file) = &self.resolv_conf else { return Process::builder(OPERATOR) };
        let mount = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        let builder = Process::builder("unshare").args(["--map-root-user", "--mount", "sh", "-c", mount]);
        builder.args([file.as_os_str()]).args([OPERATOR])
    }

    /// Stops the operator as Kubernetes does, and checks that it exits successfully.
    pub async fn stop_operator(&mut self) {
        let mut operator = self.operator.take().expect("the operator runs");
        let exit = operator.stop().await.expect("the operator can be stopped");
        assert!(exit.success(), "{exit}\n{}", operator.log());
    }

    pub fn log(&self) -> String {
        self.operator.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Sends a GET to the operator's own HTTP server.
    pub async fn get(&self, path: &str) -> (u16, String) {
        match &self.operator {
            Some(operator) => send_get(operator, path).await,
            None => (0, "no operator runs".into()),
        }
    }

    /// Number of reconciliations of credentials so far.
    pub async fn reconciles(&self) -> u64 {
        let (_, metrics) = self.get("/metrics").await;
        let start = "controller_runtime_reconcile_total{controller=\"microsoftgraphcredential\"";
        let counts = metrics.lines().filter(|line| line.starts_with(start));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The credentials at Woodpecker.
    pub fn remote(&self) -> Vec<Credential> {
        self.woodpecker.credentials("agency")
    }

    /// Every write of the operator in this namespace since the mark, except for its Lease.
    pub fn status_writes(&self, mark: kit::cluster::AuditMark) -> Vec<String> {
        let entries = self.cluster.audit_since(mark).expect("the audit log can be read");
        entries
            .into_iter()
            .filter(|entry| entry.user == User::Operator.name() && entry.is_write())
            .filter(|entry| entry.namespace.as_deref() == Some(&self.namespace))
            .filter(|entry| entry.resource != "leases")
            .map(|entry| {
                format!("{} {} {:?} {:?}", entry.verb, entry.resource, entry.subresource, entry.name)
            })
            .collect()
    }

    /// The notes of the events about an object.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let api: Api<k8s_openapi::api::events::v1::Event> = self.api();
        let events = api.list(&kube::api::ListParams::default()).await.expect("events can be listed");
        events
            .items
            .into_iter()
            .filter(|event| {
                event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name)
            })
            .map(|event| format!("{}: {}", event.reason.unwrap_or_default(), event.note.unwrap_or_default()))
            .collect()
    }
}
