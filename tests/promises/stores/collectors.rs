//! In a cluster of its own, with the garbage collector and the controller of namespaces at work: they take no record that
//! nobody asked them to, and a namespace goes. Nothing in such a cluster's etcd holds a client secret, but its own Secret.

use k8s_openapi::api::core::v1::Namespace;
use kit::cluster::Cluster;
use kit::process::Process;
use kube::Api;

use super::rotations::keys_of;
use super::*;
use crate::stage::prepare;
use crate::vault::make_records;

const CANARY: &str = "canary/collected+%2B~";

/// A stage whose operator has its own namespace, and its objects another one. That one's name is returned as the first.
async fn apart() -> (String, Stage, Process) {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.unwrap()));
    prepare(cluster).await;
    let controllers = cluster.start_controller_manager().await.unwrap();
    let mut stage = Stage::on(cluster).await;
    let objects = cluster.create_namespace("mail").await.unwrap();
    stage.extra_args = vec!["--watch-namespace".into(), objects.clone()];
    stage.log_filter = "trace";
    stage.entra.set_secrets(TENANT, CLIENT, &[CANARY]);
    stage.start_operator().await;
    let own = std::mem::replace(&mut stage.namespace, objects);
    put_secret(&stage, CANARY, EXPIRY).await;
    (own, stage, controllers)
}

/// Whether a text is in these bytes.
fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn the_collectors_of_a_cluster_take_a_namespace_and_no_record_before_that() {
    let (_, stage, controllers) = apart().await;
    stage.credential("kept", store(json!({}))).await;
    stage.credential("removed", store(json!({"deletionPolicy": "Delete"}))).await;
    is_sealed(&stage, "kept").await;
    is_sealed(&stage, "removed").await;
    stage.delete("kept").await;
    stage.wait_until_gone("kept").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(records(&stage).await.len(), 2, "a record without its object is nobody's garbage");
    stage.credential("kept", store(json!({}))).await;
    is_sealed(&stage, "kept").await;

    stage.delete_namespace().await;
    let namespaces: Api<Namespace> = Api::all(stage.client.clone());
    eventually("the namespace goes", || async {
        match namespaces.get_opt(&stage.namespace).await.unwrap() {
            None => Ok(()),
            Some(namespace) => {
                Err(format!("{:#?}\n{}\n{}", namespace.status, stage.log(), controllers.log()))
            }
        }
    })
    .await;
    assert_eq!(stored(&stage).await, Vec::<String>::new());
}

#[tokio::test]
async fn no_value_in_etcd_but_the_source_secret_holds_the_client_secret() {
    let (own, mut stage, _controllers) = apart().await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    // Sealed, sealed anew under another key, rotated, refused: each leaves its traces.
    let objects = std::mem::replace(&mut stage.namespace, own.clone());
    let rotated = keys_of(&stage, &objects, "rotate", &[]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let keyring_json = keyring(&stage).await.to_json().unwrap();
    stage.namespace = objects;
    put_secret(&stage, "wr0ng", EXPIRY).await;
    stage
        .wait_until("sales-eu", "the wrong secret is refused", |object| {
            condition(object, ConditionType::Verified).is_some_and(|it| it.status != ConditionStatus::True)
        })
        .await;
    put_secret(&stage, CANARY, EXPIRY).await;
    is_sealed(&stage, "sales-eu").await;

    let all = everything_stored(&stage).await;
    let source = format!("/registry/secrets/{}/sales-eu-graph", stage.namespace);
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
        assert!(!stage.log().contains(bytes));
    }
    for form in &forms {
        assert!(!stage.log().contains(form), "{form:?} is in the log");
    }
}

#[tokio::test]
async fn an_operator_of_all_namespaces_deletes_a_key_that_was_retired_long_ago_and_nothing_needs() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.unwrap()));
    prepare(cluster).await;
    let mut stage = Stage::on(cluster).await;
    stage.serves_all = true;
    stage.start_operator().await;
    make_records(&stage, 3).await;
    let served = stage.namespace.clone();
    let old = keyring(&stage).await.primary();
    assert_eq!(keys_of(&stage, &served, "rotate", &[]).await.code, Some(0));
    let key = old.to_string();
    assert_eq!(keys_of(&stage, &served, "retire", &[&key]).await.code, Some(0));
    stage.stop_operator().await;
    stage.start_operator().await;
    tokio::time::sleep(A_WHILE).await;
    assert!(keyring(&stage).await.keys().any(|known| known.id == old), "not before its time");
    super::rotations::retired_long_ago(&stage, old).await;
    stage.stop_operator().await;
    stage.start_operator().await;
    eventually("the key is deleted", || async {
        let is_there = keyring(&stage).await.keys().any(|known| known.id == old);
        if is_there { Err(stage.log()) } else { Ok(()) }
    })
    .await;
    assert_eq!(keys_of(&stage, &served, "check", &[]).await.out, "all 3 records open\n");
}
