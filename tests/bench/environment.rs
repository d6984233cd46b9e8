//! The environment of one measurement: its own API server, doubles of Microsoft and Woodpecker, and the
//! measured process.

use std::cell::Cell;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use graph_credential_operator::api::WoodpeckerAccount;
use graph_credential_operator::api::conditions::{Condition, ConditionStatus, ConditionType, find};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kit::cluster::{Cluster, User};
use kit::entra::Entra;
use kit::process::Process;
use kit::woodpecker::Woodpecker;
use kube::api::PostParams;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::audit::Audit;
use crate::proc;

/// The namespace of all objects.
pub const NAMESPACE: &str = "load";

/// The namespace of the operator's own objects.
pub const HOME: &str = "home";

/// The account that objects are registered at, if there is one.
pub const ACCOUNT: &str = "agency";

pub const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
pub const EXPIRY: &str = "2027-11-28T23:59:59Z";

/// How long a process must be idle to count as settled.
const STILL: Duration = Duration::from_secs(3);

/// CPU time between two checks that still counts as idle, in milliseconds.
const NOTHING: f64 = 40.0;

/// Time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// How long a single step may take.
pub const TIMEOUT: Duration = Duration::from_mins(2);

pub struct Environment {
    pub cluster: Cluster,
    pub client: Client,
    pub entra: Entra,
    pub woodpecker: Woodpecker,
    /// The API server, if it was restarted.
    pub apiserver: Option<Process>,
    pub logs: Cell<usize>,
}

impl Environment {
    pub async fn start() -> Self {
        let cluster = Cluster::start_for_figures().await.expect("the cluster starts");
        let client = crate::client::of_kubeconfig(cluster.kubeconfig_path()).await;
        cluster.apply_crds(kit::workspace().join("crds")).await.expect("the CRDs are accepted");
        // The API server delays creates while a kind is younger. Source: apiextensions-apiserver,
        // `customresource_handler.go`.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (entra, woodpecker) = (Entra::start().await, Woodpecker::start().await);
        let it = Self { cluster, client, entra, woodpecker, apiserver: None, logs: Cell::new(0) };
        for namespace in [NAMESPACE, HOME] {
            it.create_for_all::<Namespace>(json!({"metadata": {"name": namespace}})).await;
        }
        it.create_for_all::<ClusterRoleBinding>(json!({
            "metadata": {"name": "operator"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": User::Operator.name()}]
        }))
        .await;
        it
    }

    pub async fn end(mut self) {
        if let Some(mut apiserver) = self.apiserver.take() {
            apiserver.kill().await.expect("the API server ends");
        }
        self.cluster.stop().await.expect("the cluster ends");
    }

    // --- waiting

    pub fn audit(&self) -> Audit {
        Audit::from_now(self.cluster.dir().join("audit.log"))
    }

    /// Waits until this number of events is stored and the process neither sends requests nor uses CPU.
    /// Returns how long that took, without the idle time at its end.
    pub async fn settle(&self, process: &Process, audit: &mut Audit, events: usize) -> Duration {
        let started = Instant::now();
        let patience = TIMEOUT + Duration::from_millis(100) * u32::try_from(events).unwrap();
        let (mut last, mut cpu) = (started, proc::cpu(process.pid()));
        while last.elapsed() < STILL || audit.events() < events {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let now = proc::cpu(process.pid());
            if audit.read() || now - cpu > NOTHING {
                last = Instant::now();
            }
            cpu = now;
            assert!(
                started.elapsed() < patience,
                "{} of {events} events after {patience:?}: {:#?}\n{}",
                audit.events(),
                audit.requests,
                tail(&process.log())
            );
        }
        last.duration_since(started)
    }

    // --- objects

    /// Creates an account with this name and its own API key, and waits until it is Ready.
    pub async fn account(&self, name: &str) {
        self.woodpecker.add_account(name, &api_key(name));
        self.secret(&format!("{name}-key"), &[("api_key", &api_key(name))]).await;
        let spec = json!({"apiKeySecretRef": {"name": format!("{name}-key")}, "baseUrl": self.woodpecker.base_url()});
        self.create::<WoodpeckerAccount>(json!({"metadata": {"name": name}, "spec": spec})).await;
        let is_ready = || async {
            let account = self.api::<WoodpeckerAccount>().get(name).await.unwrap();
            let conditions = account.status.map(|status| status.conditions).unwrap_or_default();
            is_true(find(&conditions, ConditionType::Ready)).then_some(())
        };
        wait_for("the account is ready", is_ready, String::new).await;
    }

    pub async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let values: serde_json::Map<String, Value> =
            values.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        self.create::<Secret>(json!({"metadata": {"name": name}, "stringData": values})).await;
    }

    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug,
    {
        self.create_in(NAMESPACE, object).await
    }

    pub async fn create_in<K>(&self, namespace: &str, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug,
    {
        create(&self.client, namespace, object).await
    }

    pub async fn create_for_all<K>(&self, object: Value)
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug,
    {
        let api: Api<K> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &typed(object)).await.unwrap();
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

/// Creates an object in a namespace.
pub async fn create<K>(client: &Client, namespace: &str, object: Value) -> K
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug,
{
    let object: K = typed(object);
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let created = api.create(&PostParams::default(), &object).await;
    created.unwrap_or_else(|error| panic!("{} is not created: {error}", object.name_any()))
}

/// The API key of an account.
pub fn api_key(account: &str) -> String {
    format!("1234.api-key-of-{account}")
}

/// An object of a kind, whose API version and kind come from the type.
pub fn typed<K: Resource<DynamicType = ()> + DeserializeOwned>(mut object: Value) -> K {
    object["apiVersion"] = json!(K::api_version(&()));
    object["kind"] = json!(K::kind(&()));
    serde_json::from_value(object).expect("it is of that kind")
}

pub fn is_true(condition: Option<&Condition>) -> bool {
    condition.is_some_and(|condition| condition.status == ConditionStatus::True)
}

/// The address in a line of the log.
pub fn address(log: &str, message: &str) -> Option<String> {
    log.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == message).then(|| line["address"].as_str().map(str::to_owned))?
    })
}

/// Retries until there is a result; fails with the log when the time is over.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
    log: impl Fn() -> String,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(started.elapsed() < TIMEOUT, "{what}: not reached after {TIMEOUT:?}\n{}", tail(&log()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
