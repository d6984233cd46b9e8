//! A cluster with the garbage collector and the namespace controller: they delete no record without a
//! request, and a namespace can be deleted. The etcd of such a cluster contains no client secret except in
//! the Secret itself.

use k8s_openapi::api::core::v1::Namespace;
use kit::process::Process;
use kube::Api;

use super::rotations::keys_of;
use super::*;
use crate::harness::prepare;
use crate::keyring_access::make_records;

const CANARY: &str = "canary/collected+%2B~";

/// A test environment whose operator and objects are in different namespaces. Returns the operator's
/// namespace first.
async fn env_with_controllers() -> (String, TestEnv, Process) {
    let cluster = crate::harness::own_cluster().await;
    prepare(cluster).await;
    let controllers = cluster.start_controller_manager().await.unwrap();
    let mut env = TestEnv::on(cluster).await;
    let objects = cluster.create_namespace("mail").await.unwrap();
    env.extra_args = vec!["--watch-namespace".into(), objects.clone()];
    env.log_filter = "trace";
    env.entra.set_secrets(TENANT, CLIENT, &[CANARY]);
    env.start_operator().await;
    let own = std::mem::replace(&mut env.namespace, objects);
    put_secret(&env, CANARY, EXPIRY).await;
    (own, env, controllers)
}

/// Whether a text is in these bytes.
fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn garbage_collection_removes_records_only_with_their_namespace() {
    let (_, env, controllers) = env_with_controllers().await;
    env.credential("kept", store(json!({}))).await;
    env.credential("removed", store(json!({"deletionPolicy": "Delete"}))).await;
    is_sealed(&env, "kept").await;
    is_sealed(&env, "removed").await;
    env.delete("kept").await;
    env.wait_until_gone("kept").await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(records(&env).await.len(), 2, "a record without its object is not garbage-collected");
    env.credential("kept", store(json!({}))).await;
    is_sealed(&env, "kept").await;

    env.delete_namespace().await;
    let namespaces: Api<Namespace> = Api::all(env.client.clone());
    eventually("the namespace is deleted", || async {
        match namespaces.get_opt(&env.namespace).await.unwrap() {
            None => Ok(()),
            Some(namespace) => Err(format!("{:#?}\n{}\n{}", namespace.status, env.log(), controllers.log())),
        }
    })
    .await;
    assert_eq!(stored(&env).await, Vec::<String>::new());
}

#[tokio::test]
async fn only_the_source_secret_in_etcd_contains_the_client_secret() {
    let (own, mut env, _controllers) = env_with_controllers().await;
    env.credential("sales-eu", store(json!({}))).await;
    is_sealed(&env, "sales-eu").await;
    // Encrypted, re-encrypted under another key, rotated, rejected: each leaves its traces.
    let objects = std::mem::replace(&mut env.namespace, own.clone());
    let rotated = keys_of(&env, &objects, "rotate", &[]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let keyring_json = keyring(&env).await.to_json().unwrap();
    env.namespace = objects;
    put_secret(&env, "wr0ng", EXPIRY).await;
    env.wait_until("sales-eu", "the wrong secret is refused", |object| {
        condition(object, ConditionType::Verified).is_some_and(|it| it.status != ConditionStatus::True)
    })
    .await;
    put_secret(&env, CANARY, EXPIRY).await;
    is_sealed(&env, "sales-eu").await;

    let all = everything_stored(&env).await;
    let source = format!("/registry/secrets/{}/sales-eu-graph", env.namespace);
    let keyring = format!("/registry/secrets/{own}/{KEYRING}");
    assert!(all.len() > 100, "the search sees all of etcd: {}", all.len());
    let (_, own_secret) = all.iter().find(|(key, _)| *key == source).expect("the source Secret");
    assert!(holds(own_secret, CANARY), "the search would see it");
    let mut forms: Vec<String> = (0..3).map(|offset| base64_at(CANARY, offset)).collect();
    forms.extend([CANARY.to_owned(), CANARY.replace('/', "\\/")]);
    for (key, value) in all.iter().filter(|(key, _)| *key != source) {
        for form in &forms {
            assert!(!holds(value, form), "{form:?} is in {key}");
        }
    }
    let json: Value = serde_json::from_slice(keyring_json.expose()).unwrap();
    for key in json["keys"].as_array().unwrap() {
        let bytes = key["bytes"].as_str().unwrap();
        let places: Vec<_> =
            all.iter().filter(|(_, value)| holds(value, bytes)).map(|(key, _)| key).collect();
        assert_eq!(places, [&keyring], "a key of the keyring");
        assert!(!env.log().contains(bytes));
    }
    for form in &forms {
        assert!(!env.log().contains(form), "{form:?} is in the log");
    }
}

#[tokio::test]
async fn a_retired_key_that_no_record_needs_is_deleted() {
    let cluster = crate::harness::own_cluster().await;
    prepare(cluster).await;
    let mut env = TestEnv::on(cluster).await;
    env.serves_all = true;
    env.start_operator().await;
    make_records(&env, 3).await;
    let served = env.namespace.clone();
    let old = keyring(&env).await.primary();
    assert_eq!(keys_of(&env, &served, "rotate", &[]).await.code, Some(0));
    let key = old.to_string();
    assert_eq!(keys_of(&env, &served, "retire", &[&key]).await.code, Some(0));
    env.stop_operator().await;
    env.start_operator().await;
    tokio::time::sleep(QUIET_TIME).await;
    assert!(keyring(&env).await.keys().any(|known| known.id == old), "not before its time");
    super::rotations::retired_long_ago(&env, old).await;
    env.stop_operator().await;
    env.start_operator().await;
    eventually("the key is deleted", || async {
        let is_there = keyring(&env).await.keys().any(|known| known.id == old);
        if is_there { Err(env.log()) } else { Ok(()) }
    })
    .await;
    assert_eq!(keys_of(&env, &served, "verify", &[]).await.out, "all 3 records can be decrypted\n");
}
