//! A stage for one test: a namespace of its own, doubles of its own, and an operator that serves that
//! namespace alone.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use graph_credential_operator::resources::conditions::{Condition, ConditionStatus, ConditionType, find};
use graph_credential_operator::resources::{
    MicrosoftGraphCredential, RECONCILE_REQUESTED_AT, WoodpeckerAccount,
};
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

pub const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
pub const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";
pub const EXPIRY: &str = "2027-11-28T23:59:59Z";
pub const API_KEY: &str = "1234.api-key-of-the-agency";

/// How many times faster the operator's clock runs.
pub const TIME_SCALE: u32 = 20;

/// How long a state may take to come: far beyond what it takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Stages set so far.
static STAGES: AtomicI64 = AtomicI64::new(0);

/// How long a state must last to count as lasting: several times every wait of the operator that could
/// change it.
pub const A_WHILE: Duration = Duration::from_secs(5);

pub struct Stage {
    pub cluster: &'static Cluster,
    pub client: Client,
    pub namespace: String,
    pub entra: Entra,
    pub woodpecker: Woodpecker,
    pub operator: Option<Process>,
    pub extra_args: Vec<String>,
    /// The operator's own namespace, where it is not the stage's.
    pub home: Option<String>,
    /// The kubeconfig of the operator, where it is not that of the user who may do everything.
    pub user: Option<PathBuf>,
    /// More environment of the operator.
    pub extra_env: Vec<(&'static str, String)>,
    /// Where secrets are proved, in place of the double's own address.
    pub authority: Option<String>,
    /// How many times faster the operator's clock runs.
    pub time_scale: u32,
    /// Whether it serves all namespaces, in a cluster of its own.
    pub serves_all: bool,
    /// What the operator logs.
    pub log_filter: &'static str,
    logs: AtomicUsize,
}

/// The cluster of all tests, with the CRDs and the rights of the user `operator`.
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
    // The API server holds creates up for so long while a kind is younger than that, in case another replica of it does
    // not know the kind yet. Source: apiextensions-apiserver, `customresource_handler.go`.
    tokio::time::sleep(Duration::from_secs(2)).await;
    grant_everything(cluster).await;
}

pub async fn grant_everything(cluster: &Cluster) {
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": User::Operator.name()}]
    }))
    .unwrap();
    let api: Api<ClusterRoleBinding> = Api::all(cluster.client().unwrap());
    api.create(&PostParams::default(), &binding).await.expect("the binding can be made");
}

impl Stage {
    /// A stage on which the app, the account and their Secrets are set up, and the operator runs.
    pub async fn set() -> Self {
        let mut stage = Self::bare().await;
        stage.start_operator().await;
        stage
            .secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)])
            .await;
        stage.account("agency", json!({})).await;
        stage
    }

    /// A stage with doubles that know the app and the account, and nothing in the namespace.
    pub async fn bare() -> Self {
        Self::on(cluster().await).await
    }

    /// The same on another cluster than the shared one.
    pub async fn on(cluster: &'static Cluster) -> Self {
        let client = cluster.client().expect("a client can be made");
        let namespace = cluster.create_namespace("stage").await.expect("a namespace can be made");
        let entra = Entra::start().await;
        entra.add_app(TENANT, CLIENT);
        entra.set_secrets(TENANT, CLIENT, &["s3cret-one"]);
        let woodpecker = Woodpecker::start().await;
        // Objects of other stages stay at the API server, and must not look as if they held this one's ids.
        woodpecker.skip_ids(1000 * STAGES.fetch_add(1, Ordering::Relaxed));
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
            home: None,
            user: None,
            extra_env: Vec::new(),
            authority: None,
            time_scale: TIME_SCALE,
            serves_all: false,
            log_filter: "info,graph_credential_operator=debug",
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

    /// Starts one more operator, and waits for nothing.
    pub async fn launch(&self) -> Process {
        let mut args = vec!["run", "--propagation-window", "60s"];
        let woodpecker = self.woodpecker.base_url();
        args.extend(["--woodpecker-base-url", &woodpecker]);
        args.extend(self.extra_args.iter().map(String::as_str));
        self.launch_with(&args).await
    }

    /// Starts the program with these arguments and those that every command has which goes on running.
    pub async fn launch_with(&self, args: &[&str]) -> Process {
        let number = self.logs.fetch_add(1, Ordering::Relaxed);
        let log = self.cluster.dir().join(format!("{}-{number}.log", self.namespace));
        let kubeconfig = self.user.clone().unwrap_or_else(|| self.cluster.kubeconfig_for(User::Operator));
        let authority = self.authority.clone().unwrap_or_else(|| self.entra.url());
        let builder = Process::builder(env!("CARGO_BIN_EXE_graph-credential-operator"));
        let builder = self.extra_env.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
        builder
            .env("KUBECONFIG", kubeconfig)
            .args(args)
            .args(["--listen", "127.0.0.1:0", "--dns-server", "127.0.0.1:9"])
            .args(["--log", self.log_filter])
            .args(["--operator-namespace", self.home.as_ref().unwrap_or(&self.namespace)])
            .args((!self.serves_all).then(|| format!("--watch-namespace={}", self.namespace)))
            .args(["--microsoft-authority", &authority, "--time-scale", &self.time_scale.to_string()])
            .log(log)
            .spawn()
            .await
            .expect("the operator can be started")
    }

    /// Ends the operator as Kubernetes does, and checks that it ends well.
    pub async fn stop_operator(&mut self) {
        let mut operator = self.operator.take().expect("the operator runs");
        let exit = operator.stop().await.expect("the operator can be stopped");
        assert!(exit.success(), "{exit}\n{}", operator.log());
    }

    pub fn log(&self) -> String {
        self.operator.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Asks the operator's own HTTP server.
    pub async fn get(&self, path: &str) -> (u16, String) {
        match &self.operator {
            Some(operator) => ask(operator, path).await,
            None => (0, "no operator runs".into()),
        }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies an object as `kubectl apply --server-side` does.
    pub async fn apply<K>(&self, name: &str, body: Value) -> Result<K, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let mut whole = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {"name": name, "namespace": self.namespace}
        });
        merge(&mut whole, body);
        self.api::<K>().patch(name, &PatchParams::apply("kubectl").force(), &Patch::Apply(whole)).await
    }

    pub async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let values: serde_json::Map<String, Value> = values
            .iter()
            .map(|(key, value)| {
                ((*key).to_owned(), json!(k8s_openapi::ByteString(value.as_bytes().to_vec())))
            })
            .collect();
        self.apply::<Secret>(name, json!({"data": values})).await.expect("the Secret can be applied");
    }

    /// The same, and keys that are not given go.
    pub async fn secret_exactly(&self, name: &str, values: &[(&str, &str)]) {
        self.api::<Secret>().delete(name, &DeleteParams::default()).await.expect("the Secret can be deleted");
        self.secret(name, values).await;
    }

    /// Makes the operator a ServiceAccount that may do everything in the namespace, and with Secrets other
    /// than the keyring only this.
    pub async fn limit_operator(&mut self, secret_verbs: &[&str]) {
        self.apply::<ServiceAccount>("limited", json!({})).await.expect("a ServiceAccount can be made");
        self.grant(secret_verbs).await;
        let binding = json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "limited"},
            "subjects": [{"kind": "ServiceAccount", "name": "limited", "namespace": self.namespace}]
        });
        self.apply::<RoleBinding>("limited", binding).await.expect("a RoleBinding can be made");
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

    /// Changes what the limited ServiceAccount may do with Secrets.
    pub async fn grant(&self, secret_verbs: &[&str]) {
        let all = json!(["*"]);
        let keyring = "graph-credential-operator-keyring";
        let mut rules = json!([
            {"apiGroups": ["graph-credentials.io", "events.k8s.io"], "resources": all, "verbs": all},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update", "list", "patch", "delete"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [keyring], "verbs": ["get", "patch"]}
        ]);
        if let (Some(rules), false) = (rules.as_array_mut(), secret_verbs.is_empty()) {
            rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": secret_verbs}));
        }
        self.apply::<Role>("limited", json!({"rules": rules})).await.expect("a Role can be made");
    }

    pub async fn delete_secret(&self, name: &str) {
        self.api::<Secret>().delete(name, &DeleteParams::default()).await.expect("the Secret can be deleted");
    }

    /// Applies a WoodpeckerAccount with `spec` laid over a working one, and its Secret.
    pub async fn account(&self, name: &str, spec: Value) {
        self.secret(&format!("{name}-key"), &[("api_key", API_KEY)]).await;
        self.apply_account(name, spec).await;
    }

    pub async fn apply_account(&self, name: &str, spec: Value) {
        let mut whole = json!({"apiKeySecretRef": {"name": format!("{name}-key")}, "baseUrl": self.woodpecker.base_url()});
        merge(&mut whole, spec);
        self.apply::<WoodpeckerAccount>(name, json!({"spec": whole}))
            .await
            .expect("the account can be applied");
    }

    /// Applies a MicrosoftGraphCredential with `spec` laid over a plain one.
    pub async fn credential(&self, name: &str, spec: Value) -> MicrosoftGraphCredential {
        self.try_credential(name, spec).await.expect("the credential can be applied")
    }

    pub async fn try_credential(
        &self,
        name: &str,
        spec: Value,
    ) -> Result<MicrosoftGraphCredential, kube::Error> {
        self.apply(name, json!({"spec": plain_spec(spec)})).await
    }

    pub async fn read(&self, name: &str) -> MicrosoftGraphCredential {
        self.api().get(name).await.expect("the credential exists")
    }

    /// Waits until the credential has a condition of that status and reason.
    pub async fn wait_for(
        &self,
        name: &str,
        type_: ConditionType,
        status: ConditionStatus,
        reason: &str,
    ) -> MicrosoftGraphCredential {
        self.wait_until(name, &format!("{type_:?} {status:?} {reason}"), |object| {
            condition(object, type_).is_some_and(|found| found.status == status && found.reason == reason)
        })
        .await
    }

    /// Asks for a pass over the credential by annotation.
    pub async fn request_pass(&self, name: &str) {
        let annotations = json!({RECONCILE_REQUESTED_AT: jiff::Timestamp::now().to_string()});
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        self.api::<MicrosoftGraphCredential>()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .expect("the credential can be annotated");
    }

    pub async fn wait_until_ready(&self, name: &str) -> MicrosoftGraphCredential {
        self.wait_for(name, ConditionType::Ready, ConditionStatus::True, "Ready").await
    }

    pub async fn wait_until(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&MicrosoftGraphCredential) -> bool,
    ) -> MicrosoftGraphCredential {
        eventually(what, || async {
            let object: MicrosoftGraphCredential =
                self.api().get(name).await.map_err(|error| error.to_string())?;
            if is_so(&object) {
                return Ok(object);
            }
            Err(format!("status {:#?}\n{}", object.status, self.log()))
        })
        .await
    }

    pub async fn wait_for_account(
        &self,
        name: &str,
        status: ConditionStatus,
        reason: &str,
    ) -> WoodpeckerAccount {
        eventually(&format!("account {name}: Ready {status:?} {reason}"), || async {
            let object: WoodpeckerAccount = self.api().get(name).await.map_err(|error| error.to_string())?;
            let conditions =
                object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            match find(conditions, ConditionType::Ready) {
                Some(ready) if ready.status == status && ready.reason == reason => Ok(object),
                _ => Err(format!("status {:#?}\n{}", object.status, self.log())),
            }
        })
        .await
    }

    pub async fn delete(&self, name: &str) {
        self.api::<MicrosoftGraphCredential>()
            .delete(name, &DeleteParams::default())
            .await
            .expect("it can be deleted");
    }

    pub async fn wait_until_gone(&self, name: &str) {
        eventually(&format!("{name} is gone"), || async {
            match self.api::<MicrosoftGraphCredential>().get_opt(name).await {
                Ok(None) => Ok(()),
                found => Err(format!("{found:#?}\n{}", self.log())),
            }
        })
        .await;
    }

    /// What Woodpecker holds.
    pub fn remote(&self) -> Vec<Credential> {
        self.woodpecker.credentials("agency")
    }

    /// Every write of the operator in this namespace since the mark, its lease aside.
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

    pub async fn delete_namespace(&self) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.delete(&self.namespace, &DeleteParams::default()).await.expect("the namespace can be deleted");
    }
}

/// Asks the HTTP server of an operator.
pub async fn ask(operator: &Process, path: &str) -> (u16, String) {
    // With metrics at an address of their own the probes are alone.
    let address = ["serving probes and metrics", "serving probes"];
    let address = address.into_iter().find_map(|message| self::address(operator, message));
    let Some(address) = address else { return (0, "not serving yet".into()) };
    http_get(&address, path).await.unwrap_or_else(|error| (0, error.to_string()))
}

/// The address that a line of the log names.
pub fn address(process: &Process, message: &str) -> Option<String> {
    process.log().lines().find_map(|line| {
        // For people: `--log-format text`.
        if let Some((_, rest)) = line.split_once(&format!("{message} address=")) {
            return Some(rest.to_owned());
        }
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == message).then(|| line["address"].as_str().map(str::to_owned))?
    })
}

async fn http_get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    Ok((status, body.to_owned()))
}

/// A plain spec with `spec` laid over it; a null takes a field away.
pub fn plain_spec(spec: Value) -> Value {
    let mut whole = json!({
        "tenantId": TENANT, "clientId": CLIENT, "secretRef": {"name": "sales-eu-graph"},
        "destination": {"woodpecker": {"accountRef": {"name": "agency"}}}
    });
    merge(&mut whole, spec);
    whole
}

pub fn condition(object: &MicrosoftGraphCredential, type_: ConditionType) -> Option<&Condition> {
    find(&object.status.as_ref()?.conditions, type_)
}

pub fn message(object: &MicrosoftGraphCredential, type_: ConditionType) -> &str {
    condition(object, type_).map(|condition| condition.message.as_str()).unwrap_or_default()
}

/// Lays `over` over `base`, key by key; a null takes a key away.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(&key);
                } else {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, over) => *base = over,
    }
}

/// Tries until it succeeds; fails with its last answer when patience ends.
pub async fn eventually<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(last) if tokio::time::Instant::now() >= deadline => {
                panic!("{what}: not so after {PATIENCE:?}: {last}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
