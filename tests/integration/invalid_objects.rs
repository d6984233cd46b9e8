//! Objects that the operator cannot read: they report it, keep what they have, do not disturb others, and can
//! be deleted. The schema of an older or edited CRD may accept them, so these tests run on a cluster of their
//! own.

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::api::{MicrosoftGraphCredential, SealedGraphCredential, WoodpeckerAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kit::cluster::{Cluster, User};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::harness::{EXPIRY, QUIET_TIME, TENANT, TestEnv, eventually, plain_spec, prepare, send_get};
use crate::rest_api::{self, request_at, sample, serving};

/// A cluster whose CRDs accept any spec.
async fn cluster_without_validation() -> &'static Cluster {
    static READY: OnceCell<&'static Cluster> = OnceCell::const_new();
    READY
        .get_or_init(|| async {
            let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.unwrap()));
            prepare(cluster).await;
            let crds: Api<CustomResourceDefinition> = Api::all(cluster.client().unwrap());
            for name in ["microsoftgraphcredentials", "woodpeckeraccounts", "sealedgraphcredentials"] {
                let mut crd = crds.get(&format!("{name}.graph-credentials.io")).await.unwrap();
                let version = &mut crd.spec.versions[0];
                version.selectable_fields = None;
                let schema = version.schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
                let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
                let any = serde_json::from_value(any).unwrap();
                schema.properties.as_mut().unwrap().insert("spec".into(), any);
                crds.replace(crd.metadata.name.as_deref().unwrap(), &PostParams::default(), &crd)
                    .await
                    .unwrap();
            }
            cluster
        })
        .await
}

/// A test environment on that cluster, with a working account.
async fn env() -> TestEnv {
    let mut env = TestEnv::on(cluster_without_validation().await).await;
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    env
}

fn unvalidated_api<K>(env: &TestEnv) -> Api<DynamicObject>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced_with(env.client.clone(), &env.namespace, &ApiResource::erase::<K>(&()))
}

async fn apply<K>(env: &TestEnv, name: &str, spec: Value)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let body = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "spec": spec});
    eventually("the API server takes it", || async {
        let (api, patch) = (unvalidated_api::<K>(env), Patch::Apply(&body));
        let applied = api.patch(name, &PatchParams::apply("kubectl"), &patch).await;
        applied.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

async fn change<K>(env: &TestEnv, name: &str, change: Value)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let patch = Patch::Merge(change);
    eventually("the API server takes the change", || async {
        let api = unvalidated_api::<K>(env);
        let changed = api.patch(name, &PatchParams::default(), &patch).await;
        changed.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

async fn wait_until_deleted<K>(env: &TestEnv, name: &str)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    eventually(&format!("{name} is deleted"), || async {
        match unvalidated_api::<K>(env).get_opt(name).await {
            Ok(None) => Ok(()),
            found => Err(format!("{found:#?}\n{}", env.log())),
        }
    })
    .await;
}

/// Waits until the conditions contain all these words.
async fn wait_for_message<K>(env: &TestEnv, name: &str, words: &[&str]) -> DynamicObject
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    eventually(&format!("{name} says {words:?}"), || async {
        let object = unvalidated_api::<K>(env).get(name).await.map_err(|error| error.to_string())?;
        let text = object.data["status"]["conditions"].to_string();
        if words.iter().all(|word| text.contains(word)) {
            Ok(object)
        } else {
            Err(format!("{text}\n{}", env.log()))
        }
    })
    .await
}

#[tokio::test]
async fn an_invalid_object_is_reported_once_and_does_not_block_others() {
    let mut env = env().await;
    env.credential("broken", json!({})).await;
    let before = env.wait_until_ready("broken").await.status.unwrap();
    change::<MicrosoftGraphCredential>(&env, "broken", json!({"spec": {"tenantId": "not-a-guid"}})).await;
    let broken = wait_for_message::<MicrosoftGraphCredential>(
        &env,
        "broken",
        &["InvalidObject", "not-a-guid", "Registered"],
    )
    .await;
    assert_eq!(broken.data["status"]["registration"], serde_json::to_value(before.registration).unwrap());
    assert_eq!(env.remote().len(), 1);

    let healthy = "00000000-0000-4000-8000-000000000001";
    env.entra.add_app(TENANT, healthy);
    env.entra.set_secrets(TENANT, healthy, &["s3cret-one"]);
    apply::<MicrosoftGraphCredential>(&env, "healthy", plain_spec(json!({"clientId": healthy}))).await;
    env.wait_until_ready("healthy").await;

    env.stop_operator().await;
    let mark = env.cluster.audit_mark().unwrap();
    env.start_operator().await;
    tokio::time::sleep(QUIET_TIME).await;
    let writes = env.cluster.audit_since(mark).unwrap().into_iter().filter(|entry| {
        entry.user == User::Operator.name()
            && entry.is_write()
            && entry.resource == "microsoftgraphcredentials"
            && entry.namespace.as_deref() == Some(&env.namespace)
    });
    assert_eq!(writes.count(), 0, "reported once");
}

#[tokio::test]
async fn a_deleted_invalid_object_is_removed_once_set_to_retain() {
    let env = env().await;
    env.credential("broken", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("broken").await;
    change::<MicrosoftGraphCredential>(&env, "broken", json!({"spec": {"tenantId": "not-a-guid"}})).await;
    unvalidated_api::<MicrosoftGraphCredential>(&env)
        .delete("broken", &DeleteParams::default())
        .await
        .unwrap();
    wait_for_message::<MicrosoftGraphCredential>(&env, "broken", &["set deletionPolicy to Retain"]).await;
    assert_eq!(env.remote().len(), 1);
    change::<MicrosoftGraphCredential>(&env, "broken", json!({"spec": {"deletionPolicy": "Retain"}})).await;
    wait_until_deleted::<MicrosoftGraphCredential>(&env, "broken").await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn a_deleted_invalid_account_is_removed_once_nothing_has_to_be_deleted_there() {
    let env = env().await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("sales-eu").await;
    change::<WoodpeckerAccount>(&env, "agency", json!({"spec": {"companyId": "seven"}})).await;
    wait_for_message::<WoodpeckerAccount>(
        &env,
        "agency",
        &["InvalidObject", "seven", "its credentials wait"],
    )
    .await;
    unvalidated_api::<WoodpeckerAccount>(&env).delete("agency", &DeleteParams::default()).await.unwrap();
    wait_for_message::<WoodpeckerAccount>(&env, "agency", &["credentials are still to be deleted there"])
        .await;
    change::<MicrosoftGraphCredential>(&env, "sales-eu", json!({"spec": {"deletionPolicy": "Retain"}})).await;
    wait_until_deleted::<WoodpeckerAccount>(&env, "agency").await;
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn an_invalid_account_is_reported_on_its_credentials_too() {
    let env = env().await;
    apply::<WoodpeckerAccount>(&env, "odd", json!({"companyId": "seven"})).await;
    let spec = plain_spec(json!({"destination": {"woodpecker": {"accountRef": {"name": "odd"}}}}));
    apply::<MicrosoftGraphCredential>(&env, "at-odd", spec).await;
    env.wait_for("at-odd", ConditionType::Registered, ConditionStatus::False, "AccountNotReady").await;
    wait_for_message::<WoodpeckerAccount>(&env, "odd", &["InvalidObject", "seven"]).await;
}

#[tokio::test]
async fn an_invalid_record_of_the_rest_api_is_not_listed_and_not_ready() {
    let env = TestEnv::on(cluster_without_validation().await).await;
    env.secret(rest_api::KEYS, &[(&format!("{}.ci", env.namespace), rest_api::KEY)]).await;
    let server = env.launch_with(&["serve", "--rest-bind-address", "127.0.0.1:0"]).await;
    let address = serving(&server).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let created = request_at(&address, "POST", rest_api::PATH, Some(sample(json!({})))).await;
        assert_eq!(created.status, 201, "{created:?}\n{}", server.log());
        ids.push(created.json()["credential_id"].as_i64().unwrap());
    }
    let [broken, healthy] = ids[..] else { unreachable!() };
    let shows = async |id: i64, reason: &str, ready: u8| {
        let name = format!("namespace=\"{}\",name=\"r-{id}\"", env.namespace);
        let line = format!("graph_credential_record_ready{{{name},reason=\"{reason}\"}} {ready}");
        eventually(&line, || async {
            let (_, metrics) = send_get(&server, "/metrics").await;
            if metrics.contains(&line) { Ok(metrics) } else { Err(format!("{metrics}\n{}", server.log())) }
        })
        .await
    };
    let metrics = shows(broken, "Ready", 1).await;
    let expiry = format!(
        "graph_credential_record_expiry_timestamp_seconds{{namespace=\"{}\",name=\"r-{broken}\"}}",
        env.namespace
    );
    assert!(metrics.contains(&expiry), "{metrics}");
    let patch = Patch::Merge(json!({"spec": {"secretExpiresAt": "some day"}}));
    let records = unvalidated_api::<SealedGraphCredential>(&env);
    records.patch(&format!("r-{broken}"), &PatchParams::default(), &patch).await.unwrap();
    let metrics = shows(broken, "InvalidObject", 0).await;
    assert!(!metrics.contains(&expiry), "its expiry is unknown: {metrics}");
    shows(healthy, "Ready", 1).await;
    let listed = request_at(&address, "GET", rest_api::PATH, None).await.json();
    let listed: Vec<_> = listed["credentials"].as_array().unwrap().iter().collect();
    assert!(listed.len() == 1 && listed[0]["credential_id"] == healthy, "{listed:?}");
    let gone = request_at(&address, "DELETE", &format!("{}/{broken}", rest_api::PATH), None).await;
    assert_eq!(gone.status, 204, "{gone:?}");
    eventually("it is no longer shown", || async {
        let (_, metrics) = send_get(&server, "/metrics").await;
        if metrics.contains(&format!("r-{broken}\"")) { Err(metrics) } else { Ok(()) }
    })
    .await;
}
