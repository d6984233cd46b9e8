//! The destination `store: {}`: the same proof, status and promises as with Woodpecker, for a record of our own.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::resources::{
    Cloud, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, Ownership, SealedGraphCredential,
};
use graph_credential_operator::store::envelope::{Binding, Envelope};
use graph_credential_operator::store::keyring::{KeyId, Keyring};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::Role;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stage::{A_WHILE, CLIENT, EXPIRY, Stage, TENANT, condition, eventually, merge, message};

/// The keyring's Secret.
const KEYRING: &str = "graph-credential-operator-keyring";

/// What a spec says for the store, with more laid over it.
fn store(over: Value) -> Value {
    let mut spec = json!({"destination": {"woodpecker": null, "store": {}}});
    merge(&mut spec, over);
    spec
}

/// A stage without a Woodpecker account.
async fn set() -> Stage {
    let mut stage = Stage::bare().await;
    stage.start_operator().await;
    put_secret(&stage, "s3cret-one", EXPIRY).await;
    stage
}

async fn put_secret(stage: &Stage, secret: &str, expiry: &str) {
    stage.secret("sales-eu-graph", &[("client_secret", secret), ("secret_expires_at", expiry)]).await;
}

async fn records(stage: &Stage) -> Vec<SealedGraphCredential> {
    stage.api().list(&ListParams::default()).await.expect("records can be listed").items
}

async fn record(stage: &Stage) -> SealedGraphCredential {
    let mut records = records(stage).await;
    assert_eq!(records.len(), 1, "{records:#?}");
    records.pop().unwrap()
}

async fn keyring(stage: &Stage) -> Keyring {
    let secret: Secret = stage.api().get(KEYRING).await.unwrap();
    Keyring::from_json(&secret.data.unwrap()["keyring.json"].0).unwrap()
}

/// Opens a record with the keyring's Secret, as whoever holds it can.
async fn open(stage: &Stage, record: &SealedGraphCredential) -> Result<String, String> {
    let keyring = keyring(stage).await;
    let binding = Binding {
        namespace: &record.namespace().unwrap(),
        record_id: &record.spec.record_id,
        tenant: &record.spec.tenant_id,
        client: &record.spec.client_id,
    };
    let envelope = Envelope::from_base64(&record.spec.envelope).map_err(|error| error.to_string())?;
    let opened = envelope.open(&keyring, binding).map_err(|error| error.to_string())?;
    Ok(opened.expose().to_owned())
}

/// Registered and Ready; returns its status.
async fn is_sealed(stage: &Stage, name: &str) -> MicrosoftGraphCredentialStatus {
    stage.wait_for(name, ConditionType::Registered, ConditionStatus::True, "Stored").await;
    stage.wait_until_ready(name).await.status.unwrap()
}

/// Waits until the one record holds that secret, name and expiry.
async fn holds(stage: &Stage, secret: &str, name: &str, expiry: &str) -> SealedGraphCredential {
    eventually(&format!("the record holds {name} until {expiry}"), || async {
        let Some(record) = records(stage).await.pop() else { return Err(stage.log()) };
        let opened = open(stage, &record).await;
        let expires_at = record.spec.secret_expires_at.0.to_string();
        let found = (opened.as_deref(), record.spec.name.as_str(), expires_at.as_str());
        if found == (Ok(secret), name, expiry) {
            Ok(record)
        } else {
            Err(format!("{record:#?} {opened:?}\n{}", stage.log()))
        }
    })
    .await
}

async fn edit(stage: &Stage, record: &SealedGraphCredential, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    let records = stage.api::<SealedGraphCredential>();
    records
        .patch(&record.name_any(), &PatchParams::default(), &patch)
        .await
        .expect("the record can be edited");
}

async fn remove(stage: &Stage, record: &SealedGraphCredential) {
    let records = stage.api::<SealedGraphCredential>();
    records.delete(&record.name_any(), &DeleteParams::default()).await.expect("the record can be deleted");
}

/// The metadata with which a record can be made anew.
fn bare(record: &SealedGraphCredential) -> ObjectMeta {
    let (name, namespace) = (record.metadata.name.clone(), record.metadata.namespace.clone());
    ObjectMeta { name, namespace, ..ObjectMeta::default() }
}

/// What etcd has for the records of the namespace, as it is on its disk.
async fn stored(stage: &Stage) -> Vec<String> {
    let from = format!("/registry/graph-credentials.io/sealedgraphcredentials/{}/", stage.namespace);
    let to = format!("{}0", from.trim_end_matches('/'));
    let body = json!({"key": STANDARD.encode(from), "range_end": STANDARD.encode(to)}).to_string();
    let address = stage.cluster.etcd_url().trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "POST /v3/kv/range HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let answer: Value = serde_json::from_str(body).expect("an answer in JSON");
    let values = answer["kvs"].as_array().cloned().unwrap_or_default();
    values
        .iter()
        .map(|entry| String::from_utf8(STANDARD.decode(entry["value"].as_str().unwrap()).unwrap()).unwrap())
        .collect()
}

#[tokio::test]
async fn a_credential_of_the_store_becomes_ready_and_its_record_opens() {
    let stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    let status = is_sealed(&stage, "sales-eu").await;
    let record = record(&stage).await;
    let registration = status.registration.unwrap();
    assert_eq!(registration.record.as_deref(), Some(record.name_any().as_str()));
    assert!(record.name_any().starts_with("c-") && record.name_any().len() == 34, "{}", record.name_any());
    assert_eq!(Some(record.spec.credential_id), status.credential_id);
    assert_eq!(
        (registration.credential_id, registration.ownership),
        (record.spec.credential_id, Ownership::Created)
    );
    assert_eq!((registration.account, registration.base_url, registration.token), (None, None, None));
    assert!((1..1 << 52).contains(&record.spec.credential_id), "{}", record.spec.credential_id);
    assert_eq!(status.expires_at.unwrap().0.to_string(), EXPIRY);
    assert_eq!(status.pending, None);
    assert!(record.metadata.owner_references.is_none(), "it goes by the deletion policy");
    assert_eq!(record.spec.name, format!("{}/sales-eu", stage.namespace));
    assert_eq!(open(&stage, &record).await.as_deref(), Ok("s3cret-one"));
    assert_eq!(stage.woodpecker.requests("agency").len(), 0);
}

#[tokio::test]
async fn a_wrong_secret_is_not_sealed() {
    let stage = set().await;
    put_secret(&stage, "wr0ng", EXPIRY).await;
    stage.credential("sales-eu", store(json!({}))).await;
    eventually("Microsoft was asked", || async {
        if stage.entra.requests().is_empty() { Err(stage.log()) } else { Ok(()) }
    })
    .await;
    stage
        .wait_until("sales-eu", "Verified is not True", |object| {
            condition(object, ConditionType::Verified)
                .is_some_and(|found| found.status != ConditionStatus::True)
        })
        .await;
    assert_eq!(records(&stage).await, []);
}

#[tokio::test]
async fn no_plaintext_is_in_a_record_or_in_what_etcd_has_for_it() {
    const CANARY: &str = "canary/sealed+%2B~";
    let mut stage = Stage::bare().await;
    stage.log_filter = "trace";
    stage.entra.set_secrets(TENANT, CLIENT, &[CANARY]);
    stage.start_operator().await;
    put_secret(&stage, CANARY, EXPIRY).await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    let stored = stored(&stage).await;
    assert_eq!(stored.len(), 1, "the search sees what etcd has");
    assert!(stored[0].contains(&record(&stage).await.spec.envelope), "the search sees the envelope");
    let events = stage.events("sales-eu").await.join("\n");
    let status = serde_json::to_string(&stage.read("sales-eu").await).unwrap();
    for form in [CANARY.to_owned(), STANDARD.encode(CANARY), CANARY.replace('/', "\\/")] {
        for (place, text) in
            [("etcd", &stored[0]), ("an event", &events), ("the object", &status), ("the log", &stage.log())]
        {
            assert!(!text.contains(&form), "{form:?} is in {place}");
        }
    }
}

#[tokio::test]
async fn a_rotated_secret_is_sealed_under_the_same_id() {
    let stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    let before = is_sealed(&stage, "sales-eu").await;
    let old = record(&stage).await;
    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    put_secret(&stage, "s3cret-two", "2028-01-31").await;
    let name = format!("{}/sales-eu", stage.namespace);
    let new = holds(&stage, "s3cret-two", &name, "2028-01-31T00:00:00Z").await;
    assert_eq!((&new.spec.record_id, new.spec.credential_id), (&old.spec.record_id, old.spec.credential_id));
    let after = stage
        .wait_until("sales-eu", "the new expiry in the status", |object| {
            let status = object.status.as_ref().unwrap();
            status.expires_at.as_ref().is_some_and(|at| at.0.to_string() == "2028-01-31T00:00:00Z")
        })
        .await
        .status
        .unwrap();
    assert_eq!(after.credential_id, before.credential_id);
    assert_ne!(after.registration.unwrap().fingerprint, before.registration.unwrap().fingerprint);
}

#[tokio::test]
async fn a_rejected_new_secret_leaves_the_record_as_it_was() {
    let stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    let before = record(&stage).await;
    put_secret(&stage, "wr0ng", EXPIRY).await;
    stage
        .wait_until("sales-eu", "Verified is not True", |object| {
            condition(object, ConditionType::Verified)
                .is_some_and(|found| found.status != ConditionStatus::True)
        })
        .await;
    assert_eq!(record(&stage).await, before);
}

#[tokio::test]
async fn another_name_is_written_into_the_record_and_leaves_its_envelope_alone() {
    let stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    let before = record(&stage).await;
    stage.credential("sales-eu", store(json!({"displayName": "Sales, Europe"}))).await;
    let after = holds(&stage, "s3cret-one", "Sales, Europe", EXPIRY).await;
    assert_eq!(after.spec.credential_id, before.spec.credential_id);
    assert_eq!(after.spec.envelope, before.spec.envelope);
    stage
        .wait_until("sales-eu", "the name in the status", |object| {
            let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
            registration.is_some_and(|registration| registration.name == "Sales, Europe")
        })
        .await;
}

#[tokio::test]
async fn a_record_that_others_deleted_is_made_anew_under_the_same_id() {
    let stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    let before = record(&stage).await;
    let asked = stage.entra.requests().len();
    remove(&stage, &before).await;
    let name = format!("{}/sales-eu", stage.namespace);
    let after = holds(&stage, "s3cret-one", &name, EXPIRY).await;
    assert_ne!(after.uid(), before.uid());
    assert_eq!((after.name_any(), after.spec.credential_id), (before.name_any(), before.spec.credential_id));
    assert_ne!(after.spec.record_id, before.spec.record_id);
    assert_eq!(stage.entra.requests().len(), asked, "the secret was proved a moment ago");
    eventually("an event tells of it", || async {
        let events = stage.events("sales-eu").await;
        let is_told = events.iter().any(|event| event.starts_with("Vanished"));
        if is_told { Ok(()) } else { Err(format!("{events:#?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_record_that_others_edited_is_mended() {
    let stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    let name = format!("{}/sales-eu", stage.namespace);
    let original = record(&stage).await;
    for damage in [
        json!({"name": "another name"}),
        json!({"secretExpiresAt": "2031-01-01T00:00:00Z"}),
        json!({"envelope": "bm9uc2Vuc2U="}),
    ] {
        edit(&stage, &original, damage).await;
        let mended = holds(&stage, "s3cret-one", &name, EXPIRY).await;
        assert_eq!(mended.spec.record_id, original.spec.record_id);
        assert_eq!(mended.spec.credential_id, original.spec.credential_id);
    }
    is_sealed(&stage, "sales-eu").await;
}

#[tokio::test]
async fn an_envelope_of_another_record_is_seen_and_sealed_anew() {
    let stage = set().await;
    stage.credential("first", store(json!({}))).await;
    stage.credential("second", store(json!({}))).await;
    for name in ["first", "second"] {
        is_sealed(&stage, name).await;
    }
    let [one, other] = &records(&stage).await[..] else { panic!("two records") };
    edit(&stage, one, json!({"envelope": other.spec.envelope})).await;
    eventually("the record opens again", || async {
        let now: SealedGraphCredential = stage.api().get(&one.name_any()).await.unwrap();
        let opened = open(&stage, &now).await;
        if opened.as_deref() == Ok("s3cret-one") {
            Ok(())
        } else {
            Err(format!("{opened:?}\n{}", stage.log()))
        }
    })
    .await;
}

#[tokio::test]
async fn delete_removes_the_record_with_its_object() {
    let stage = set().await;
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    is_sealed(&stage, "sales-eu").await;
    let finalizers = stage.read("sales-eu").await.metadata.finalizers.unwrap_or_default();
    assert_eq!(finalizers, ["graph-credentials.io/registration"]);
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(records(&stage).await, []);
    eventually("an event tells of it", || async {
        let events = stage.events("sales-eu").await;
        let is_told =
            |event: &String| event.starts_with("Deleted") && event.contains("SealedGraphCredential c-");
        if events.iter().any(is_told) { Ok(()) } else { Err(format!("{events:#?}")) }
    })
    .await;
}

#[tokio::test]
async fn retain_leaves_the_record_and_a_later_object_takes_it_over_with_its_id() {
    let stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    let before = is_sealed(&stage, "sales-eu").await;
    let retained = record(&stage).await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(record(&stage).await, retained);

    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    put_secret(&stage, "s3cret-two", EXPIRY).await;
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    let after = is_sealed(&stage, "sales-eu").await;
    assert_eq!(after.credential_id, before.credential_id);
    let name = format!("{}/sales-eu", stage.namespace);
    let taken_over = holds(&stage, "s3cret-two", &name, EXPIRY).await;
    assert_eq!((taken_over.uid(), &taken_over.spec.record_id), (retained.uid(), &retained.spec.record_id));
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(records(&stage).await, [], "what was taken over is its own");
}

#[tokio::test]
async fn an_object_that_never_sealed_anything_leaves_the_record_of_an_earlier_one() {
    let stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    let retained = record(&stage).await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    put_secret(&stage, "wr0ng", EXPIRY).await;
    let finalizers = json!({"metadata": {"finalizers": ["graph-credentials.io/registration"]}});
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Delete", "suspend": true}))).await;
    let objects = stage.api::<MicrosoftGraphCredential>();
    objects.patch("sales-eu", &PatchParams::default(), &Patch::Merge(finalizers)).await.unwrap();
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(record(&stage).await, retained);
}

#[tokio::test]
async fn a_record_restored_from_a_backup_is_taken_at_its_word() {
    let stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    let before = is_sealed(&stage, "sales-eu").await;
    let mut backup = record(&stage).await;
    stage.credential("sales-eu", store(json!({"suspend": true}))).await;
    stage
        .wait_until("sales-eu", "it is suspended", |object| {
            message(object, ConditionType::Ready).starts_with("suspended")
        })
        .await;
    remove(&stage, &backup).await;
    backup.metadata = bare(&backup);
    let restored: SealedGraphCredential = stage.api().create(&PostParams::default(), &backup).await.unwrap();
    stage.credential("sales-eu", store(json!({"suspend": false}))).await;
    stage
        .wait_until("sales-eu", "it goes on", |object| {
            message(object, ConditionType::Ready).starts_with("credential")
        })
        .await;
    let after = is_sealed(&stage, "sales-eu").await;
    assert_eq!(after.registration, before.registration);
    assert_eq!(record(&stage).await, restored, "it opens, and nothing is written");
}

#[tokio::test]
async fn suspend_leaves_a_deleted_record_alone_and_resume_mends_it() {
    let stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    let before = is_sealed(&stage, "sales-eu").await;
    stage.credential("sales-eu", store(json!({"suspend": true}))).await;
    stage
        .wait_until("sales-eu", "it is suspended", |object| {
            message(object, ConditionType::Ready).starts_with("suspended")
        })
        .await;
    remove(&stage, &record(&stage).await).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(records(&stage).await, []);
    stage.credential("sales-eu", store(json!({"suspend": false}))).await;
    let name = format!("{}/sales-eu", stage.namespace);
    let after = holds(&stage, "s3cret-one", &name, EXPIRY).await;
    assert_eq!(Some(after.spec.credential_id), before.credential_id);
}

#[tokio::test]
async fn a_restart_seals_and_writes_nothing() {
    let mut stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    stage.stop_operator().await;
    let (before, record_before) = (stage.read("sales-eu").await, record(&stage).await);
    let (mark, asked) = (stage.cluster.audit_mark().unwrap(), stage.entra.requests().len());
    stage.start_operator().await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(stage.status_writes(mark), Vec::<String>::new(), "no write to the API server");
    assert_eq!(stage.entra.requests().len(), asked, "no token call");
    assert_eq!(stage.read("sales-eu").await.metadata.resource_version, before.metadata.resource_version);
    assert_eq!(record(&stage).await, record_before);
}

/// The status as if the program had ended after the record was written and before the status was.
async fn forget_registration(stage: &Stage) {
    let patch = json!({"status": {"registration": null, "credentialId": null, "expiresAt": null}});
    let objects = stage.api::<MicrosoftGraphCredential>();
    objects.patch_status("sales-eu", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test]
async fn a_record_that_was_written_before_a_crash_is_found_and_kept() {
    let mut stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    let before = is_sealed(&stage, "sales-eu").await;
    stage.stop_operator().await;
    let written = record(&stage).await;
    forget_registration(&stage).await;
    stage.start_operator().await;
    let after = stage
        .wait_until("sales-eu", "it is written down", |object| {
            object.status.as_ref().is_some_and(|status| status.registration.is_some())
        })
        .await;
    assert_eq!(after.status.unwrap().credential_id, before.credential_id);
    assert_eq!(record(&stage).await, written);
}

#[tokio::test]
async fn a_record_that_was_written_before_a_crash_goes_with_its_object() {
    let mut stage = set().await;
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    is_sealed(&stage, "sales-eu").await;
    stage.stop_operator().await;
    forget_registration(&stage).await;
    stage.delete("sales-eu").await;
    stage.start_operator().await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(records(&stage).await, []);
}

/// Gives the keyring another primary key.
async fn promote_another_key(stage: &Stage) -> KeyId {
    let mut keyring = keyring(stage).await;
    let added = keyring.add(jiff::Timestamp::now()).unwrap();
    keyring.promote(added).unwrap();
    let json = keyring.to_json().unwrap();
    stage.secret(KEYRING, &[("keyring.json", std::str::from_utf8(json.expose()).unwrap())]).await;
    added
}

#[tokio::test]
async fn a_writer_that_does_not_know_of_another_primary_key_yet_finds_out_and_seals_anew() {
    let stage = set().await;
    let added = promote_another_key(&stage).await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    let sealed = eventually("it is sealed under the new key", || async {
        let record = record(&stage).await;
        let envelope = Envelope::from_base64(&record.spec.envelope).unwrap();
        if envelope.key_id() == added { Ok(record) } else { Err(stage.log()) }
    })
    .await;
    assert_eq!(open(&stage, &sealed).await.as_deref(), Ok("s3cret-one"));
    assert_eq!(sealed.metadata.generation, Some(2), "it was sealed twice");
}

#[tokio::test]
async fn another_primary_key_seals_the_record_anew() {
    let mut stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    stage.stop_operator().await;
    let before = record(&stage).await;
    let added = promote_another_key(&stage).await;
    stage.start_operator().await;
    let after = eventually("it is sealed under the new key", || async {
        let record = record(&stage).await;
        let envelope = Envelope::from_base64(&record.spec.envelope).unwrap();
        if envelope.key_id() == added { Ok(record) } else { Err(stage.log()) }
    })
    .await;
    assert_eq!(open(&stage, &after).await.as_deref(), Ok("s3cret-one"));
    assert_eq!(
        (&after.spec.record_id, after.spec.credential_id),
        (&before.spec.record_id, before.spec.credential_id)
    );
}

/// Leaves the limited operator what it needs to start, and takes its other rights to records.
async fn take_rights(stage: &Stage) {
    let role: Role = stage.api().get("limited").await.unwrap();
    let mut rules = serde_json::to_value(role.rules.unwrap()).unwrap();
    rules[0]["apiGroups"] = json!(["events.k8s.io"]);
    let (group, all) = (json!(["graph-credentials.io"]), json!(["*"]));
    let served = json!([
        "microsoftgraphcredentials",
        "microsoftgraphcredentials/status",
        "woodpeckeraccounts",
        "woodpeckeraccounts/status"
    ]);
    let rules = rules.as_array_mut().unwrap();
    rules.push(json!({"apiGroups": group, "resources": served, "verbs": all}));
    rules.push(json!({"apiGroups": group, "resources": ["sealedgraphcredentials"], "verbs": ["list"]}));
    stage.apply::<Role>("limited", json!({"rules": rules})).await.unwrap();
}

#[tokio::test]
async fn without_the_rights_to_records_woodpecker_is_served_and_the_store_says_what_is_missing() {
    let mut stage = Stage::bare().await;
    stage.limit_operator(&["get"]).await;
    take_rights(&stage).await;
    put_secret(&stage, "s3cret-one", EXPIRY).await;
    stage.account("agency", json!({})).await;
    stage.start_operator().await;
    stage.credential("sales-eu", json!({})).await;
    stage.credential("sealed", store(json!({}))).await;
    stage.wait_until_ready("sales-eu").await;
    eventually("an event says what is missing", || async {
        let events = stage.events("sealed").await;
        let is_told =
            |event: &String| event.starts_with("PassFailed") && event.contains("SealedGraphCredentials");
        if events.iter().any(is_told) { Ok(()) } else { Err(format!("{events:#?}\n{}", stage.log())) }
    })
    .await;
}

#[tokio::test]
async fn a_deletion_without_the_rights_to_records_waits_until_told_to_retain() {
    let mut stage = Stage::bare().await;
    stage.limit_operator(&["get"]).await;
    put_secret(&stage, "s3cret-one", EXPIRY).await;
    stage.start_operator().await;
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    is_sealed(&stage, "sales-eu").await;
    take_rights(&stage).await;
    stage.delete("sales-eu").await;
    eventually("an event says what is missing", || async {
        let events = stage.events("sales-eu").await;
        let is_told =
            |event: &String| event.starts_with("PassFailed") && event.contains("SealedGraphCredentials");
        if events.iter().any(is_told) { Ok(()) } else { Err(format!("{events:#?}\n{}", stage.log())) }
    })
    .await;
    assert!(stage.read("sales-eu").await.metadata.deletion_timestamp.is_some());
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Retain"}))).await;
    stage.wait_until_gone("sales-eu").await;
    record(&stage).await;
}

#[tokio::test]
async fn two_objects_of_one_app_have_records_of_their_own() {
    let stage = set().await;
    tokio::join!(
        stage.credential("first", store(json!({}))),
        stage.credential("second", store(json!({"deletionPolicy": "Delete"})))
    );
    let ids = BTreeSet::from([
        is_sealed(&stage, "first").await.credential_id.unwrap(),
        is_sealed(&stage, "second").await.credential_id.unwrap(),
    ]);
    let sealed = records(&stage).await;
    assert_eq!((ids.len(), sealed.len()), (2, 2));
    for record in &sealed {
        assert_eq!(open(&stage, record).await.as_deref(), Ok("s3cret-one"));
    }
    stage.delete("second").await;
    stage.wait_until_gone("second").await;
    let left = record(&stage).await;
    let first = stage.read("first").await.status.unwrap();
    assert_eq!(first.registration.unwrap().record, Some(left.name_any()));
}

#[tokio::test]
async fn a_record_of_another_cloud_is_left_alone_until_it_is_gone() {
    let stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    let retained = record(&stage).await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    remove(&stage, &retained).await;
    let mut other = retained;
    (other.metadata, other.spec.cloud) = (bare(&other), Some(Cloud::China));
    let other: SealedGraphCredential = stage.api().create(&PostParams::default(), &other).await.unwrap();
    stage.credential("sales-eu", store(json!({}))).await;
    let object =
        stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AlreadyExists").await;
    assert!(message(&object, ConditionType::Registered).contains(&other.name_any()));
    assert_eq!(record(&stage).await, other);
    remove(&stage, &other).await;
    is_sealed(&stage, "sales-eu").await;
}
