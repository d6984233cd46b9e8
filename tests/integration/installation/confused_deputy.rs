//! Confused deputy: a user can only make the operator read and send what the user may read and use.

use graph_credential_operator::api::{MicrosoftGraphCredential, WoodpeckerAccount};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::*;
use crate::harness::{API_KEY, EXPIRY, plain_spec};

/// A user, in the form of a ServiceAccount of the test namespace, because the bare API server has no other
/// users.
struct Person {
    namespace: String,
    client: Client,
}

/// What a person may do, besides editing objects of the operator's kinds.
struct May<'a> {
    /// The Secrets that they may get.
    get: &'a [&'a str],
    /// The accounts that they may use.
    use_: &'a [&'a str],
}

// === impl Person ===

impl Person {
    /// Creates a user who may edit the operator's kinds in the test namespace, and has these rights.
    async fn new(env: &TestEnv, name: &str, may: May<'_>) -> Self {
        let resources = json!(["microsoftgraphcredentials", "woodpeckeraccounts"]);
        let group = json!(["graph-credentials.io"]);
        let mut rules = vec![
            json!({"apiGroups": group, "resources": resources, "verbs": ["get", "create", "update", "patch", "delete"]}),
        ];
        if !may.get.is_empty() {
            rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": may.get, "verbs": ["get"]}));
        }
        if !may.use_.is_empty() {
            let accounts = json!(["woodpeckeraccounts"]);
            rules.push(json!({"apiGroups": group, "resources": accounts, "resourceNames": may.use_, "verbs": ["use"]}));
        }
        env.apply::<ServiceAccount>(name, json!({})).await.unwrap();
        env.apply::<Role>(name, json!({"rules": rules})).await.unwrap();
        let binding = json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": env.namespace}]
        });
        env.apply::<RoleBinding>(name, binding).await.unwrap();
        let request = TokenRequest::default();
        let token =
            env.api::<ServiceAccount>().create_token_request(name, &PostParams::default(), &request).await;
        let token = token.unwrap().status.unwrap().token;
        let kubeconfig = env.cluster.kubeconfig_with_token(name, &token).unwrap();
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Self { namespace: env.namespace.clone(), client: Client::try_from(config).unwrap() }
    }

    fn credentials(&self) -> Api<MicrosoftGraphCredential> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn accounts(&self) -> Api<WoodpeckerAccount> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a credential whose spec is a plain one with `over` merged into it.
    async fn create(&self, name: &str, over: Value) -> Result<(), String> {
        let object = json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
            "metadata": {"name": name}, "spec": plain_spec(over)
        });
        let object = serde_json::from_value(object).unwrap();
        message_of(self.credentials().create(&PostParams::default(), &object).await)
    }

    /// Changes a credential.
    async fn change(&self, name: &str, change: Value) -> Result<(), String> {
        message_of(self.credentials().patch(name, &PatchParams::default(), &Patch::Merge(change)).await)
    }

    async fn create_account(&self, name: &str, secret: &str, base_url: &str) -> Result<(), String> {
        let object = json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "WoodpeckerAccount",
            "metadata": {"name": name}, "spec": {"apiKeySecretRef": {"name": secret}, "baseUrl": base_url}
        });
        let object = serde_json::from_value(object).unwrap();
        message_of(self.accounts().create(&PostParams::default(), &object).await)
    }

    async fn change_account(&self, name: &str, change: Value) -> Result<(), String> {
        message_of(self.accounts().patch(name, &PatchParams::default(), &Patch::Merge(change)).await)
    }
}

fn message_of<T>(response: Result<T, kube::Error>) -> Result<(), String> {
    response.map(drop).map_err(|error| error.to_string())
}

/// Checks that the request was denied because this right is missing.
fn denied(response: Result<(), String>, want: &str) {
    let error = response.expect_err(want);
    assert!(error.contains(want) && error.contains("let a user who has that right apply this"), "{error}");
}

/// A release with a running operator, and the objects of an owner who may do everything with them.
async fn with_an_owner() -> (Release, Person) {
    let mut release = Release::install(|_| json!({})).await;
    release.start_operator().await;
    let env = &release.env;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.secret("agency-key", &[("api_key", API_KEY)]).await;
    let may = May { get: &["sales-eu-graph", "agency-key"], use_: &["agency"] };
    let owner = Person::new(env, "owner", may).await;
    // The API server applies a policy a moment after it was created.
    let outsider = Person::new(env, "outsider", May { get: &[], use_: &[] }).await;
    eventually("the policies are in force", || async {
        let response = outsider.create_account("early", "agency-key", &env.woodpecker.base_url()).await;
        let _ = env.api::<WoodpeckerAccount>().delete("early", &kube::api::DeleteParams::default()).await;
        match response {
            Err(error) if error.contains("may not use WoodpeckerAccount") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    owner.create_account("agency", "agency-key", &env.woodpecker.base_url()).await.unwrap();
    owner.create("sales-eu", json!({})).await.unwrap();
    env.wait_until_ready("sales-eu").await;
    (release, owner)
}

#[tokio::test]
async fn a_user_cannot_use_the_operator_to_read_a_forbidden_secret() {
    let (release, owner) = with_an_owner().await;
    let env = &release.env;
    let secret = "you may not get Secret";
    let other = json!({"secretRef": {"name": "agency-key"}});

    // May use the account, and get no Secret.
    let editor = Person::new(env, "editor", May { get: &[], use_: &["agency"] }).await;
    denied(editor.create("mine", json!({})).await, secret);
    denied(editor.change("sales-eu", json!({"spec": other})).await, secret);
    let without_verification = json!({"spec": {"verification": {"policy": "Disabled"}}});
    denied(editor.change("sales-eu", without_verification).await, secret);
    let removed = json!({"spec": {"deletionPolicy": "Delete"}});
    denied(editor.change("sales-eu", removed).await, secret);
    let ownership = json!({"spec": {"destination": {"woodpecker": {"adoption": {"takeOwnership": true}}}}});
    denied(editor.change("sales-eu", ownership).await, secret);
    let base_url = env.woodpecker.base_url();
    let account = "you may not use WoodpeckerAccount";
    denied(editor.create_account("mine", "agency-key", &base_url).await, account);
    let keeper = Person::new(env, "keeper", May { get: &[], use_: &["mine"] }).await;
    denied(keeper.create_account("mine", "agency-key", &base_url).await, secret);
    let key = json!({"spec": {"apiKeySecretRef": {"name": "sales-eu-graph"}}});
    denied(editor.change_account("agency", key).await, secret);
    let more_namespaces = json!({"spec": {"allowedNamespaces": {"names": ["elsewhere"]}}});
    denied(editor.change_account("agency", more_namespaces).await, secret);
    let connecting = json!({"spec": {"mailboxes": {"connect": "Allowed"}}});
    denied(editor.change_account("agency", connecting).await, secret);
    let gone = json!({"metadata": {"annotations": {"graph-credentials.io/confirm-deleted": "now"}}});
    denied(editor.change_account("agency", gone).await, secret);

    // An unchanged field needs no right.
    let other_cloud = editor.change("sales-eu", json!({"spec": {"cloud": "China"}})).await;
    let address = json!({"spec": {"baseUrl": "https://elsewhere.example/rest"}});
    let company = json!({"spec": {"companyId": 7}});
    for response in [
        other_cloud,
        editor.change_account("agency", address).await,
        editor.change_account("agency", company).await,
    ] {
        let error = response.expect_err("it is immutable");
        assert!(error.contains("immutable"), "{error}");
    }

    // Changes that make the operator read or send nothing else need only ordinary rights.
    editor.change("sales-eu", json!({"metadata": {"annotations": {"team": "mail"}}})).await.unwrap();
    editor.change("sales-eu", json!({"spec": {"displayName": "Sales", "suspend": true}})).await.unwrap();
    editor.change("sales-eu", json!({"spec": {"suspend": null}})).await.unwrap();
    editor.change_account("agency", json!({"metadata": {"labels": {"team": "mail"}}})).await.unwrap();

    // A person may read their own Secret if that is the only one that they may get.
    env.secret("tenant-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    let tenant = Person::new(env, "tenant", May { get: &["tenant-graph"], use_: &["agency"] }).await;
    denied(tenant.create("tenant-graph", json!({})).await, secret);
    tenant.create("tenant-graph", json!({"secretRef": {"name": "tenant-graph"}})).await.unwrap();
    denied(
        tenant.change("tenant-graph", json!({"spec": {"secretRef": {"name": "sales-eu-graph"}}})).await,
        secret,
    );
    owner.change("sales-eu", json!({"spec": {"secretRef": {"name": "sales-eu-graph"}}})).await.unwrap();
}

#[tokio::test]
async fn a_shared_account_cannot_be_switched_to_another_key() {
    let (release, owner) = with_an_owner().await;
    let env = &release.env;
    env.woodpecker.add_account("attacker", "666.key-of-the-attacker");
    env.secret("attacker-key", &[("api_key", "666.key-of-the-attacker")]).await;
    let base_url = env.woodpecker.base_url();
    let to_own_key = json!({"spec": {"apiKeySecretRef": {"name": "attacker-key"}}});

    // Another key under the account name that others use.
    let attacker = Person::new(env, "attacker", May { get: &["attacker-key"], use_: &["attacker"] }).await;
    denied(attacker.change_account("agency", to_own_key.clone()).await, "you may not use WoodpeckerAccount");
    // A tenant may use the account, but does not have its key.
    let tenant = Person::new(env, "tenant", May { get: &["attacker-key"], use_: &["agency"] }).await;
    denied(tenant.change_account("agency", to_own_key.clone()).await, "you may not get Secret agency-key");
    // A person who may read the account's key cannot point the account at a Secret that they may not read.
    let may = May { get: &["agency-key"], use_: &["agency"] };
    let holder = Person::new(env, "holder", may).await;
    denied(holder.change_account("agency", to_own_key.clone()).await, "you may not get Secret attacker-key");
    // Deleted, and re-created under the same name.
    let accounts = env.api::<WoodpeckerAccount>();
    attacker.accounts().delete("agency", &kube::api::DeleteParams::default()).await.unwrap();
    eventually("the account is deleted", || async {
        match accounts.get_opt("agency").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    denied(
        attacker.create_account("agency", "attacker-key", &base_url).await,
        "you may not use WoodpeckerAccount",
    );

    assert_eq!(env.woodpecker.credentials("attacker"), []);
    owner.create_account("agency", "agency-key", &base_url).await.unwrap();
    let rotated =
        Person::new(env, "administrator", May { get: &["agency-key", "attacker-key"], use_: &["agency"] });
    rotated.await.change_account("agency", to_own_key).await.unwrap();
}

#[tokio::test]
async fn a_credential_cannot_be_moved_to_an_account_of_another_user() {
    let (release, owner) = with_an_owner().await;
    let env = &release.env;
    let account = "you may not use WoodpeckerAccount";
    let move_to =
        |name: &str| json!({"spec": {"destination": {"woodpecker": {"accountRef": {"name": name}}}}});

    // Has an API key and an account of their own.
    env.woodpecker.add_account("attacker", "666.key-of-the-attacker");
    env.secret("attacker-key", &[("api_key", "666.key-of-the-attacker")]).await;
    let attacker = Person::new(env, "attacker", May { get: &["attacker-key"], use_: &["attacker"] }).await;
    attacker.create_account("attacker", "attacker-key", &env.woodpecker.base_url()).await.unwrap();
    denied(attacker.change("sales-eu", move_to("attacker")).await, "you may not get Secret sales-eu-graph");
    // May read the secret but not use the account, so they cannot register anything there.
    let reader = Person::new(env, "reader", May { get: &["sales-eu-graph"], use_: &["attacker"] }).await;
    denied(reader.create("mine", json!({})).await, account);
    let elsewhere =
        json!({"destination": {"woodpecker": {"accountRef": {"name": "agency", "namespace": "agencies"}}}});
    denied(owner.create("elsewhere", elsewhere).await, "you may not use WoodpeckerAccount agencies/agency");
    // If no account is used, no right to use one is needed.
    reader.create("sealed", json!({"destination": {"woodpecker": null, "store": {}}})).await.unwrap();

    assert_eq!(env.woodpecker.credentials("attacker"), []);
    assert_eq!(env.remote().len(), 1);
    denied(owner.change("sales-eu", move_to("attacker")).await, account);
}

/// Applies the objects of the docs page about multi-tenancy, as the cluster's administrator.
async fn apply_as_administrator<K>(env: &TestEnv, objects: &[Value])
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + serde::Serialize
        + std::fmt::Debug,
{
    for object in objects.iter().filter(|object| object["kind"] == *K::kind(&())) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap();
        let api: Api<K> = Api::namespaced(env.client.clone(), namespace);
        let created =
            api.create(&PostParams::default(), &serde_json::from_value(object.clone()).unwrap()).await;
        created.unwrap_or_else(|error| panic!("{error}: {object}"));
    }
}

#[tokio::test]
async fn the_documented_role_lets_a_team_use_the_account_of_the_agency() {
    let mut release = Release::install(|_| json!({})).await;
    release.start_operator().await;
    let page = std::fs::read_to_string(kit::workspace().join("docs/tasks/multi-tenancy.md")).unwrap();
    let mut objects = crate::gitops::blocks(&page);
    let env = &mut release.env;
    for object in objects.iter_mut().filter(|object| object["kind"] == "WoodpeckerAccount") {
        object["spec"]["baseUrl"] = json!(env.woodpecker.base_url());
        env.woodpecker.add_company("agency", &object["spec"]["companyId"].to_string());
    }
    for namespace in ["agency", "client-contoso"] {
        let namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(env.client.clone());
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    }
    "agency".clone_into(&mut env.namespace);
    env.secret("agency-key", &[("api_key", API_KEY)]).await;
    apply_as_administrator::<WoodpeckerAccount>(env, &objects).await;
    "client-contoso".clone_into(&mut env.namespace);
    env.secret("sales-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    let team = Person::new(env, "team", May { get: &["sales-graph"], use_: &[] }).await;
    let credential = objects.iter().find(|object| object["kind"] == "MicrosoftGraphCredential").unwrap();
    let create = async || team.create("sales", credential["spec"].clone()).await;
    eventually("without the role it is denied", || async {
        match create().await {
            Err(error) if error.contains("you may not use WoodpeckerAccount agency/contoso") => Ok(()),
            other => {
                let _ = team.credentials().delete("sales", &kube::api::DeleteParams::default()).await;
                Err(format!("{other:?}"))
            }
        }
    })
    .await;

    apply_as_administrator::<Role>(env, &objects).await;
    let binding = json!({
        "kind": "RoleBinding", "metadata": {"name": "use-contoso", "namespace": "agency"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "use-contoso"},
        "subjects": [{"kind": "ServiceAccount", "name": "team", "namespace": env.namespace}]
    });
    apply_as_administrator::<RoleBinding>(env, &[binding]).await;
    // The authorizer sees the new binding a moment later.
    eventually("with it, it is taken", create).await;
    env.wait_until_ready("sales").await;
}
