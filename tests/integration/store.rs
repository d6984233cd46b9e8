//! The destination `store: {}`: the same verification, status and behavior as with Woodpecker, for a record
//! in the cluster.

mod backups;
mod clouds;
mod collectors;
mod key_loss;
mod key_retirement;
mod keys;
mod repair;
mod replicas;
mod rights;
mod rotations;

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::api::{
    Cloud, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, Ownership, SealedGraphCredential,
};
use graph_credential_operator::store::envelope::{AssociatedData, Envelope};
use graph_credential_operator::store::keyring::{KeyId, Keyring};
use graph_credential_operator::store::record::open as open_record;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::Role;
use kube::ResourceExt;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{CLIENT, EXPIRY, QUIET_TIME, TENANT, TestEnv, condition, eventually, merge, message};
use crate::keyring_access::{KEYRING, keyring, records};

/// A spec for the store with `over` merged into it.
fn store(over: Value) -> Value {
    let mut spec = json!({"destination": {"woodpecker": null, "store": {}}});
    merge(&mut spec, over);
    spec
}

/// A test environment without a Woodpecker account.
async fn start_env() -> TestEnv {
    let mut env = TestEnv::bare().await;
    env.start_operator().await;
    put_secret(&env, "s3cret-one", EXPIRY).await;
    env
}

async fn put_secret(env: &TestEnv, secret: &str, expiry: &str) {
    env.secret("sales-eu-graph", &[("client_secret", secret), ("secret_expires_at", expiry)]).await;
}

async fn record(env: &TestEnv) -> SealedGraphCredential {
    let mut records = records(env).await;
    assert_eq!(records.len(), 1, "{records:#?}");
    records.pop().unwrap()
}

/// Decrypts a record with the keyring's Secret, as anyone who has it can.
async fn open(env: &TestEnv, record: &SealedGraphCredential) -> Result<String, String> {
    let opened = open_record(record, &keyring(env).await).map_err(|error| error.to_string())?;
    Ok(opened.expose().to_owned())
}

/// Waits until the credential is registered and Ready; returns its status.
async fn is_sealed(env: &TestEnv, name: &str) -> MicrosoftGraphCredentialStatus {
    env.wait_for(name, ConditionType::Registered, ConditionStatus::True, "Stored").await;
    env.wait_until_ready(name).await.status.unwrap()
}

/// A test environment with `sales-eu` in the store, its status and its record.
async fn sealed(spec: Value) -> (TestEnv, MicrosoftGraphCredentialStatus, SealedGraphCredential) {
    let env = start_env().await;
    env.credential("sales-eu", store(spec)).await;
    let status = is_sealed(&env, "sales-eu").await;
    let record = record(&env).await;
    (env, status, record)
}

/// Waits until the only record holds that secret, name and expiry.
async fn wait_for_record(env: &TestEnv, secret: &str, name: &str, expiry: &str) -> SealedGraphCredential {
    eventually(&format!("the record holds {name} until {expiry}"), || async {
        let Some(record) = records(env).await.pop() else { return Err(env.log()) };
        let opened = open(env, &record).await;
        let expires_at = record.spec.secret_expires_at.0.to_string();
        let found = (opened.as_deref(), record.spec.name.as_str(), expires_at.as_str());
        if found == (Ok(secret), name, expiry) {
            Ok(record)
        } else {
            Err(format!("{record:#?} {opened:?}\n{}", env.log()))
        }
    })
    .await
}

async fn edit(env: &TestEnv, record: &SealedGraphCredential, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    let records = env.api::<SealedGraphCredential>();
    records
        .patch(&record.name_any(), &PatchParams::default(), &patch)
        .await
        .expect("the record can be edited");
}

async fn remove(env: &TestEnv, record: &SealedGraphCredential) {
    let records = env.api::<SealedGraphCredential>();
    records.delete(&record.name_any(), &DeleteParams::default()).await.expect("the record can be deleted");
}

/// The metadata with which a record can be re-created.
fn bare(record: &SealedGraphCredential) -> ObjectMeta {
    let (name, namespace) = (record.metadata.name.clone(), record.metadata.namespace.clone());
    ObjectMeta { name, namespace, ..ObjectMeta::default() }
}

/// The records of the namespace as etcd stores them on disk.
async fn stored(env: &TestEnv) -> Vec<String> {
    let from = format!("/registry/graph-credentials.io/sealedgraphcredentials/{}/", env.namespace);
    let to = format!("{}0", from.trim_end_matches('/'));
    let values = range(env, from.as_bytes(), to.as_bytes()).await;
    values.into_iter().map(|(_, value)| String::from_utf8(value).unwrap()).collect()
}

/// Every key of etcd, with its value.
async fn everything_stored(env: &TestEnv) -> Vec<(String, Vec<u8>)> {
    // By etcd's convention: from the first key on, without an end.
    range(env, b"\0", b"\0").await
}

/// etcd's response for a range of keys.
async fn range(env: &TestEnv, from: &[u8], to: &[u8]) -> Vec<(String, Vec<u8>)> {
    let body = json!({"key": STANDARD.encode(from), "range_end": STANDARD.encode(to)}).to_string();
    let address = env.cluster.etcd_url().trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "POST /v3/kv/range HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    connection.read_to_string(&mut response).await.unwrap();
    let (_, body) = response.split_once("\r\n\r\n").expect("a response");
    let response: Value = serde_json::from_str(body).expect("a response in JSON");
    let values = response["kvs"].as_array().cloned().unwrap_or_default();
    let decode = |text: &Value| STANDARD.decode(text.as_str().unwrap_or_default()).unwrap();
    values
        .iter()
        .map(|entry| (String::from_utf8(decode(&entry["key"])).unwrap(), decode(&entry["value"])))
        .collect()
}

#[tokio::test]
async fn a_credential_of_the_store_becomes_ready_and_its_record_decrypts() {
    let (env, status, record) = sealed(json!({})).await;
    let registration = status.registration.unwrap();
    assert_eq!(registration.record.as_deref(), Some(record.name_any().as_str()));
    assert!(record.name_any().starts_with("c-") && record.name_any().len() == 34, "{}", record.name_any());
    assert_eq!(Some(record.spec.credential_id), status.credential_id);
    assert_eq!(
        (registration.credential_id, registration.ownership),
        (record.spec.credential_id, Ownership::Created)
    );
    assert_eq!(
        (registration.account, registration.base_url, registration.idempotency_token),
        (None, None, None)
    );
    assert!((1..1 << 52).contains(&record.spec.credential_id), "{}", record.spec.credential_id);
    assert_eq!(status.expires_at.unwrap().0.to_string(), EXPIRY);
    assert_eq!(status.pending_create, None);
    assert!(record.metadata.owner_references.is_none(), "it is deleted by the deletion policy");
    assert_eq!(record.spec.name, format!("{}/sales-eu", env.namespace));
    assert_eq!(open(&env, &record).await.as_deref(), Ok("s3cret-one"));
}

#[tokio::test]
async fn a_wrong_secret_is_not_stored() {
    let env = start_env().await;
    put_secret(&env, "wr0ng", EXPIRY).await;
    env.credential("sales-eu", store(json!({}))).await;
    eventually("Microsoft received a request", || async {
        if env.entra.requests().is_empty() { Err(env.log()) } else { Ok(()) }
    })
    .await;
    env.wait_until("sales-eu", "Verified is not True", |object| {
        condition(object, ConditionType::Verified).is_some_and(|found| found.status != ConditionStatus::True)
    })
    .await;
    assert_eq!(records(&env).await, []);
}

/// A text in base64 after so many bytes (modulo three) of other text: the part that depends on its own bytes
/// only.
fn base64_at(text: &str, offset: usize) -> String {
    let whole = STANDARD_NO_PAD.encode([&[0; 3][..offset], text.as_bytes()].concat());
    let end = (offset + text.len()) * 8 / 6;
    whole[(offset * 8).div_ceil(6)..end].to_owned()
}

#[tokio::test]
async fn no_plaintext_is_in_a_record_or_in_etcd() {
    const CANARY: &str = "canary/sealed+%2B~";
    let mut env = TestEnv::bare().await;
    env.log_filter = "trace";
    env.entra.set_secrets(TENANT, CLIENT, &[CANARY]);
    env.start_operator().await;
    put_secret(&env, CANARY, EXPIRY).await;
    env.credential("sales-eu", store(json!({}))).await;
    is_sealed(&env, "sales-eu").await;
    let stored = stored(&env).await;
    assert_eq!(stored.len(), 1, "the search sees what etcd has");
    assert!(stored[0].contains(&record(&env).await.spec.envelope), "the search sees the envelope");
    let events = eventually("an event reports it", || async {
        let events = env.events("sales-eu").await.join("\n");
        if events.contains("is stored in") { Ok(events) } else { Err(events) }
    })
    .await;
    let status = serde_json::to_string(&env.read("sales-eu").await).unwrap();
    let forms: Vec<String> = (0..3).map(|offset| base64_at(CANARY, offset)).collect();
    for (offset, form) in forms.iter().enumerate() {
        let text = STANDARD.encode([&b"xyz"[..offset], CANARY.as_bytes(), b"..."].concat());
        assert!(text.contains(form), "the search would see it in {text}");
    }
    for form in forms.into_iter().chain([CANARY.to_owned(), CANARY.replace('/', "\\/")]) {
        for (place, text) in
            [("etcd", &stored[0]), ("an event", &events), ("the object", &status), ("the log", &env.log())]
        {
            assert!(!text.contains(&form), "{form:?} is in {place}");
        }
    }
}

#[tokio::test]
async fn a_rotated_secret_is_stored_under_the_same_id() {
    let (env, before, old) = sealed(json!({})).await;
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    put_secret(&env, "s3cret-two", "2028-01-31").await;
    let name = format!("{}/sales-eu", env.namespace);
    let new = wait_for_record(&env, "s3cret-two", &name, "2028-01-31T23:59:59Z").await;
    assert_eq!((&new.spec.record_id, new.spec.credential_id), (&old.spec.record_id, old.spec.credential_id));
    let after = env
        .wait_until("sales-eu", "the new expiry in the status", |object| {
            let status = object.status.as_ref().unwrap();
            status.expires_at.as_ref().is_some_and(|at| at.0.to_string() == "2028-01-31T23:59:59Z")
        })
        .await
        .status
        .unwrap();
    assert_eq!(after.credential_id, before.credential_id);
    assert_ne!(after.registration.unwrap().fingerprint, before.registration.unwrap().fingerprint);
}

#[tokio::test]
async fn a_rejected_new_secret_does_not_change_the_record() {
    let (env, _, before) = sealed(json!({})).await;
    put_secret(&env, "wr0ng", EXPIRY).await;
    env.wait_until("sales-eu", "Verified is not True", |object| {
        condition(object, ConditionType::Verified).is_some_and(|found| found.status != ConditionStatus::True)
    })
    .await;
    assert_eq!(record(&env).await, before);
}

#[tokio::test]
async fn a_rename_changes_the_record_and_encrypts_it_again() {
    let (env, _, before) = sealed(json!({})).await;
    env.credential("sales-eu", store(json!({"displayName": "Sales, Europe"}))).await;
    let after = wait_for_record(&env, "s3cret-one", "Sales, Europe", EXPIRY).await;
    assert_eq!(after.spec.credential_id, before.spec.credential_id);
    assert_ne!(after.spec.envelope, before.spec.envelope, "the name is bound");
    env.wait_until("sales-eu", "the name in the status", |object| {
        let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
        registration.is_some_and(|registration| registration.name == "Sales, Europe")
    })
    .await;
}

#[tokio::test]
async fn a_restart_encrypts_and_writes_nothing() {
    let mut env = start_env().await;
    env.credential("sales-eu", store(json!({}))).await;
    is_sealed(&env, "sales-eu").await;
    env.stop_operator().await;
    let (before, record_before) = (env.read("sales-eu").await, record(&env).await);
    let (mark, requests) = (env.cluster.audit_mark().unwrap(), env.entra.requests().len());
    env.start_operator().await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(env.status_writes(mark), Vec::<String>::new(), "no write to the API server");
    assert_eq!(env.entra.requests().len(), requests, "no token request");
    assert_eq!(env.read("sales-eu").await.metadata.resource_version, before.metadata.resource_version);
    assert_eq!(record(&env).await, record_before);
}

#[tokio::test]
async fn two_objects_of_one_app_have_records_of_their_own() {
    let env = start_env().await;
    tokio::join!(
        env.credential("first", store(json!({}))),
        env.credential("second", store(json!({"deletionPolicy": "Delete"})))
    );
    let ids = BTreeSet::from([
        is_sealed(&env, "first").await.credential_id.unwrap(),
        is_sealed(&env, "second").await.credential_id.unwrap(),
    ]);
    let sealed = records(&env).await;
    assert_eq!((ids.len(), sealed.len()), (2, 2));
    for record in &sealed {
        assert_eq!(open(&env, record).await.as_deref(), Ok("s3cret-one"));
    }
    env.delete("second").await;
    env.wait_until_gone("second").await;
    let left = record(&env).await;
    let first = env.read("first").await.status.unwrap();
    assert_eq!(first.registration.unwrap().record, Some(left.name_any()));
}
