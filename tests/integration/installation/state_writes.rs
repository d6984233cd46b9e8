//! Who may write status and records: the operator of every release, and users who may do so in all namespaces. A user
//! with every right in a namespace may not, because the operator deletes what a status says. And how large the metadata
//! may be that a user writes.

use graph_credential_operator::api::{
    MicrosoftGraphCredential, SealedGraphCredential, WoodpeckerAccount, WoodpeckerMailboxes,
};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource};

use super::*;
use crate::harness::{EXPIRY, plain_spec};

const ADMIN: (&str, &str) = ("ClusterRole", "cluster-admin");
const WRITERS: (&str, &str) = ("ClusterRole", "graph-credential-operator-state-writers");

/// A ServiceAccount that writes status and records in some namespace.
struct Writer {
    home: String,
    name: String,
    client: Client,
    namespace: String,
}

// === impl Writer ===

impl Writer {
    /// The ServiceAccount of that namespace, which is created if it does not exist.
    async fn new(env: &TestEnv, home: &str, name: &str) -> Self {
        let accounts: Api<ServiceAccount> = Api::namespaced(env.client.clone(), home);
        let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let _exists = accounts.create(&PostParams::default(), &account).await;
        let request = TokenRequest::default();
        let token = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
        let file = format!("{home}-{name}");
        let kubeconfig = env.cluster.kubeconfig_with_token(&file, &token.status.unwrap().token).unwrap();
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        Self { home: home.to_owned(), name: name.to_owned(), client, namespace: env.namespace.clone() }
    }

    /// The namespace's administrator, with every right in it.
    async fn owner(env: &TestEnv) -> Self {
        let owner = Self::new(env, &env.namespace, "owner").await;
        owner.bind(env, Some(&env.namespace), ADMIN).await;
        owner
    }

    /// Binds a role: in that namespace, or in all.
    async fn bind(&self, env: &TestEnv, place: Option<&str>, (kind, role): (&str, &str)) {
        let binding = json!({
            "metadata": {"name": format!("{}-{role}", self.name)},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": self.home}]
        });
        let params = PostParams::default();
        let client = env.client.clone();
        if let Some(namespace) = place {
            let api: Api<RoleBinding> = Api::namespaced(client, namespace);
            api.create(&params, &serde_json::from_value(binding).unwrap()).await.unwrap();
        } else {
            let api: Api<ClusterRoleBinding> = Api::all(client);
            api.create(&params, &serde_json::from_value(binding).unwrap()).await.unwrap();
        }
    }

    fn api<K: Resource<DynamicType = ()>>(&self) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<K>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
    }

    fn records(&self) -> Api<DynamicObject> {
        self.api::<SealedGraphCredential>()
    }

    /// Writes a status as the operator does.
    async fn write_status<K: Resource<DynamicType = ()>>(&self, name: &str) -> Result<(), String> {
        let api = self.api::<K>();
        loop {
            let mut object = api.get(name).await.map_err(|error| error.to_string())?;
            object.data["status"]["observedGeneration"] = json!(7);
            match api.replace_status(name, &PostParams::default(), &object).await {
                // The operator has written it too.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                ended => return text(ended),
            }
        }
    }

    /// Every kind of write; the last one deletes the record.
    async fn write(&self, record: &str) -> Vec<(&'static str, Result<(), String>)> {
        let records = self.records();
        let mut new = records.get(record).await.unwrap();
        new.metadata = ObjectMeta { name: Some(format!("{record}0")), ..ObjectMeta::default() };
        let label = Patch::Merge(json!({"metadata": {"labels": {"written-by": self.name}}}));
        vec![
            ("create of a record", text(records.create(&PostParams::default(), &new).await)),
            ("patch of a record", text(records.patch(record, &PatchParams::default(), &label).await)),
            ("status of a record", self.write_status::<SealedGraphCredential>(record).await),
            ("status of an account", self.write_status::<WoodpeckerAccount>("agency").await),
            ("status of mailboxes", self.write_status::<WoodpeckerMailboxes>("team").await),
            ("status of a credential", self.write_status::<MicrosoftGraphCredential>("sealed").await),
            ("delete of a record", text(records.delete(record, &DeleteParams::default()).await)),
        ]
    }
}

fn text<T>(response: Result<T, kube::Error>) -> Result<(), String> {
    response.map(drop).map_err(|error| error.to_string())
}

fn is_denied(response: Result<(), String>) -> Result<(), String> {
    match response {
        Err(error) if error.contains("only the operator may") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

async fn create_namespace(env: &TestEnv, name: &str) {
    let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::<Namespace>::all(env.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

fn record(name: &str, more: Value) -> SealedGraphCredential {
    let mut metadata = json!({"name": name});
    crate::harness::merge(&mut metadata, more);
    let object = json!({"metadata": metadata, "spec": {
        "recordId": "0123456789abcdef0123456789abcdef", "credentialId": 7, "tenantId": crate::harness::TENANT,
        "clientId": crate::harness::CLIENT, "secretExpiresAt": EXPIRY, "name": name, "envelope": "bm9uc2Vuc2U="
    }});
    serde_json::from_value(object).unwrap()
}

/// Adds a record, as an administrator of the cluster.
async fn add_record(env: &TestEnv, name: &str, metadata: Value) {
    let records = env.api::<SealedGraphCredential>();
    records.create(&PostParams::default(), &record(name, metadata)).await.expect("an administrator may");
}

/// A running release with the REST API, an account, and a credential for each destination.
async fn running() -> Release {
    let values = json!({"restApi": {"enabled": true, "insecureHttp": true}, "mailboxes": {"enabled": true}});
    let mut release = Release::install(|_| values).await;
    release.allow_a_client().await;
    release.start_operator().await;
    let env = &release.env;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({"allowedNamespaces": {"names": ["tenant"]}})).await;
    env.credential("sales-eu", json!({})).await;
    env.credential("sealed", json!({"destination": {"woodpecker": null, "store": {}}})).await;
    env.wait_until_ready("sales-eu").await;
    env.wait_until_ready("sealed").await;
    let plan = json!({"credentialRef": {"name": "sales-eu"}, "mailboxes": [{"email": "jim@example.com"}]});
    env.apply::<WoodpeckerMailboxes>("team", json!({"spec": plan})).await.unwrap();
    release
}

#[tokio::test]
async fn a_user_with_every_right_in_their_namespace_cannot_forge_a_registration() {
    let release = running().await;
    let env = &release.env;
    let victim = env.read("sales-eu").await.status.unwrap().registration.unwrap();
    create_namespace(env, "tenant").await;
    let mut attacker = Writer::new(env, "tenant", "attacker").await;
    "tenant".clone_into(&mut attacker.namespace);
    attacker.bind(env, Some("tenant"), ADMIN).await;
    let use_accounts = json!([{"apiGroups": ["graph-credentials.io"], "resources": ["woodpeckeraccounts"], "verbs": ["use"]}]);
    env.apply::<Role>("use", json!({"rules": use_accounts})).await.unwrap();
    attacker.bind(env, Some(&env.namespace), ("Role", "use")).await;

    let account = json!({"name": "agency", "namespace": env.namespace});
    let spec = json!({"deletionPolicy": "Delete", "destination": {"woodpecker": {"accountRef": account}}});
    let object = json!({
        "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
        "metadata": {"name": "forged", "finalizers": ["graph-credentials.io/registration"]}, "spec": plain_spec(spec),
        "status": {"observedGeneration": 1, "registration": victim}
    });
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let credentials = attacker.api::<MicrosoftGraphCredential>();
    eventually("the attacker may create credentials", || async {
        text(credentials.create(&PostParams::default(), &object).await)
    })
    .await;
    let created = credentials.get("forged").await.unwrap();
    assert!(created.data["status"].get("registration").is_none(), "a create has no status: {created:?}");
    let forged = Patch::Merge(json!({"status": {"registration": victim}}));
    let forge = async || text(credentials.patch_status("forged", &PatchParams::default(), &forged).await);
    eventually("the policy is in force", || async { is_denied(forge().await) }).await;
    let kept = json!({"metadata": {"finalizers": ["graph-credentials.io/registration", "example.com/hold"]}});
    let kept = Patch::Merge(kept);
    credentials.patch("forged", &PatchParams::default(), &kept).await.unwrap();
    credentials.delete("forged", &DeleteParams::default()).await.unwrap();
    is_denied(forge().await).expect("also while it is deleted");
    eventually("the operator has handled the deletion", || async {
        let finalizers = credentials.get("forged").await.unwrap().metadata.finalizers.unwrap_or_default();
        if finalizers == ["example.com/hold"] {
            Ok(())
        } else {
            Err(format!("{finalizers:?}\n{}", env.log()))
        }
    })
    .await;
    assert!(env.remote().iter().any(|it| it.credential_id == victim.credential_id), "{:?}", env.remote());
}

#[tokio::test]
async fn a_user_with_every_right_in_a_namespace_writes_no_status_and_no_record_there() {
    let release = running().await;
    let env = &release.env;
    let owner = Writer::owner(env).await;
    eventually("the policy is in force", || async {
        is_denied(owner.write_status::<MicrosoftGraphCredential>("sealed").await)
    })
    .await;
    add_record(env, "r-1", json!({})).await;
    for (what, response) in owner.write("r-1").await {
        is_denied(response).unwrap_or_else(|other| panic!("{what}: {other}"));
    }
    let records = owner.records();
    let all = ListParams::default();
    is_denied(text(records.delete_collection(&DeleteParams::default(), &all).await)).unwrap();
    assert_eq!(records.list(&all).await.unwrap().items.len(), 2, "nothing is deleted");
}

#[tokio::test]
async fn the_operator_of_every_release_writes_status_and_records() {
    let release = running().await;
    let env = &release.env;
    create_namespace(env, "support-system").await;
    release
        .install_beside(
            "support",
            "support-system",
            json!({"crds": {"enabled": false}, "mailboxes": {"enabled": true}}),
        )
        .await;
    // An operator or a `serve` with Roles only, or a user who restores into a namespace.
    let namespaced = Writer::new(env, "support-system", "namespaced").await;
    namespaced.bind(env, Some(&env.namespace), ADMIN).await;
    namespaced.bind(env, None, WRITERS).await;
    let first = Writer::new(env, release::NAMESPACE, "graph-credential-operator").await;
    let second = Writer::new(env, "support-system", "support-graph-credential-operator").await;
    let owner = Writer::owner(env).await;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(env.client.clone());
    let mut policies = vec!["graph-credential-operator-state", "support-graph-credential-operator-state"];
    while !policies.is_empty() {
        // The API server names any one of those that deny.
        let named = eventually("a policy is in force", || async {
            let denied = owner.write_status::<WoodpeckerAccount>("agency").await;
            let names = |error: &str| policies.iter().position(|it| error.contains(&format!("'{it}'")));
            denied.as_ref().err().and_then(|error| names(error)).ok_or(format!("{denied:?}"))
        })
        .await;
        let policy = policies.remove(named);
        for (number, writer) in [&first, &second, &namespaced].iter().enumerate() {
            let record = format!("r-{}{}", policies.len() + 1, number + 1);
            add_record(env, &record, json!({})).await;
            for (what, response) in writer.write(&record).await {
                assert_eq!(response, Ok(()), "{what} by {} with {policy}", writer.name);
            }
        }
        bindings.delete(policy, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn records_and_status_are_restored_before_the_operator_exists() {
    let cluster = crate::harness::own_cluster().await;
    release::kubectl(cluster, "kubectl apply --server-side -f deploy/crds.yaml").await;
    cluster.apply_crds(kit::workspace().join("crds")).await.unwrap();
    let env = TestEnv::on(cluster).await;
    let page = std::fs::read_to_string(kit::workspace().join("docs/tasks/restore-and-migrate.md")).unwrap();
    let blocks = crate::gitops::blocks(&page);
    let role = blocks.iter().find(|it| it["kind"] == "ClusterRole").expect("the page has the role");
    let roles: Api<ClusterRole> = Api::all(env.client.clone());
    roles.create(&PostParams::default(), &serde_json::from_value(role.clone()).unwrap()).await.unwrap();
    let restorer = Writer::new(&env, &env.namespace, "restorer").await;
    restorer.bind(&env, None, ("ClusterRole", role["metadata"]["name"].as_str().unwrap())).await;
    let owner = Writer::owner(&env).await;
    let create = async |writer: &Writer, name: &str| {
        let api: Api<SealedGraphCredential> = Api::namespaced(writer.client.clone(), &writer.namespace);
        text(api.create(&PostParams::default(), &record(name, json!({}))).await)
    };
    eventually("the policy is in force", || async {
        let denied = is_denied(create(&owner, "r-1").await);
        let _ = env.api::<SealedGraphCredential>().delete("r-1", &DeleteParams::default()).await;
        denied
    })
    .await;
    add_record(&env, "r-2", json!({})).await;
    eventually("the documented role is enough", || create(&restorer, "r-3")).await;
    let again = Patch::Merge(json!({"spec": {"name": "as in the backup"}}));
    restorer.records().patch("r-3", &PatchParams::default(), &again).await.unwrap();
    env.credential("sales-eu", json!({})).await;
    is_denied(owner.write_status::<MicrosoftGraphCredential>("sales-eu").await).unwrap();
    restorer.write_status::<MicrosoftGraphCredential>("sales-eu").await.unwrap();
}

#[tokio::test]
async fn large_metadata_is_rejected_and_a_large_object_can_still_be_changed_and_deleted() {
    let release = running().await;
    let env = &release.env;
    let credentials = Writer::owner(env).await.api::<MicrosoftGraphCredential>();
    let annotate = async |key: &str, length: usize| {
        let patch = json!({"metadata": {"annotations": {key: "x".repeat(length)}}});
        text(credentials.patch("sales-eu", &PatchParams::default(), &Patch::Merge(patch)).await)
    };
    let is_rejected = |response: Result<(), String>| match response {
        Err(error) if error.contains("at most 32768 are allowed: shorten or remove annotations") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually("the policy is in force", || async { is_rejected(annotate("large", 40_000).await) }).await;
    let finalizers: Vec<String> = (0..600).map(|number| format!("example.com/{number:060}")).collect();
    let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    let patched = credentials.patch("sales-eu", &PatchParams::default(), &patch).await;
    is_rejected(text(patched)).expect("finalizers count as well");
    let of_our_group: Vec<String> = (0..600).map(|it| format!("graph-credentials.io/{it:060}")).collect();
    let patch = Patch::Merge(json!({"metadata": {"finalizers": of_our_group}}));
    let patched = credentials.patch("sales-eu", &PatchParams::default(), &patch).await;
    is_rejected(text(patched)).expect("only the operator's own finalizers do not count");
    let owners: Vec<Value> = (0..3)
        .map(|it| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x".repeat(20_000), "uid": it.to_string()}))
        .collect();
    let patch = Patch::Merge(json!({"metadata": {"ownerReferences": owners}}));
    let patched = credentials.patch("sales-eu", &PatchParams::default(), &patch).await;
    is_rejected(text(patched)).expect("owner references count as well");
    annotate("small", 30_000).await.expect("most annotations are small");

    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(env.client.clone());
    let mut binding = bindings.get("graph-credential-operator-size").await.unwrap();
    bindings.delete("graph-credential-operator-size", &DeleteParams::default()).await.unwrap();
    eventually("without the policy it is accepted", || annotate("large", 200_000)).await;
    binding.metadata.resource_version = None;
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    let added = std::sync::atomic::AtomicUsize::new(0);
    eventually("the policy is in force again", || async {
        let more = added.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        is_rejected(annotate("more", more).await)
    })
    .await;
    annotate("large", 150_000).await.expect("a change that makes it smaller");
    let spec = Patch::Merge(json!({"spec": plain_spec(json!({"deletionPolicy": "Delete"}))}));
    credentials.patch("sales-eu", &PatchParams::default(), &spec).await.expect("a change of the spec");
    env.wait_until("sales-eu", "it has the finalizer", |object| !object.finalizers().is_empty()).await;
    credentials.delete("sales-eu", &DeleteParams::default()).await.unwrap();
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 0, "its credential is deleted");

    let finalizers = |all: Value| Patch::Merge(json!({"metadata": {"finalizers": all}}));
    let params = PatchParams::default();
    credentials.patch("sealed", &params, &finalizers(json!(["example.com/hold"]))).await.unwrap();
    credentials.delete("sealed", &DeleteParams::default()).await.unwrap();
    let large = json!({"metadata": {"annotations": {"large": "x".repeat(40_000)}}});
    let patched = credentials.patch("sealed", &params, &Patch::Merge(large)).await;
    is_rejected(text(patched)).expect("also of a deleted object");
    credentials.patch("sealed", &params, &finalizers(Value::Null)).await.unwrap();
    env.wait_until_gone("sealed").await;
}

#[tokio::test]
async fn namespaces_are_deleted_and_garbage_is_collected() {
    let release = running().await;
    let env = &release.env;
    let _controllers = env.cluster.start_controller_manager().await.unwrap();
    let owner = Writer::owner(env).await;
    eventually("the policy is in force", || async {
        is_denied(owner.write_status::<MicrosoftGraphCredential>("sealed").await)
    })
    .await;
    let absent = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "absent", "uid": "5e5e5e5e-0000-4000-8000-000000000000"});
    add_record(env, "r-1", json!({"ownerReferences": [absent]})).await;
    let is_gone = async |name: &str| match env.api::<SealedGraphCredential>().get_opt(name).await.unwrap() {
        None => Ok(()),
        Some(record) => Err(format!("{record:?}")),
    };
    eventually("a record of an absent owner is collected", || is_gone("r-1")).await;

    let namespaces: Api<Namespace> = Api::all(owner.client.clone());
    namespaces.delete(&env.namespace, &DeleteParams::default()).await.expect("its owner may delete it");
    let namespaces: Api<Namespace> = Api::all(env.client.clone());
    eventually("the namespace is deleted with its record", || async {
        match namespaces.get_opt(&env.namespace).await.unwrap() {
            None => Ok(()),
            Some(namespace) => Err(format!("{:#?}\n{}", namespace.status, env.log())),
        }
    })
    .await;
    let entries = env.cluster.audit().unwrap();
    let by_controller = entries.iter().any(|entry| {
        entry.user == "system:serviceaccount:kube-system:namespace-controller"
            && (&*entry.verb, &*entry.resource) == ("deletecollection", "sealedgraphcredentials")
    });
    assert!(by_controller, "with the rights of the controller alone");
}
