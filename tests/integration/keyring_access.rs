//! The keyring and the records of a test environment, as anyone who may read its Secret sees them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use futures::StreamExt;
use graph_credential_operator::api::{
    ClientId, RecordId, SealedGraphCredential, SealedGraphCredentialSpec, TenantId,
};
use graph_credential_operator::secret_text::SecretText;
use graph_credential_operator::store::envelope::{AssociatedData, Envelope, generate_record_id};
use graph_credential_operator::store::keyring::{KeyId, Keyring};
use graph_credential_operator::store::record;
use hkdf::Hkdf;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::harness::{CLIENT, EXPIRY, TENANT, TestEnv};

/// Name of the keyring's Secret.
pub const KEYRING: &str = "graph-credential-operator-keyring";

/// All records.
pub async fn records(env: &TestEnv) -> Vec<SealedGraphCredential> {
    env.api().list(&ListParams::default()).await.expect("records can be listed").items
}

/// The keyring.
pub async fn keyring(env: &TestEnv) -> Keyring {
    let secret: Secret = env.api().get(KEYRING).await.unwrap();
    Keyring::from_json(&secret.data.unwrap()["keyring.json"].0).unwrap()
}

/// Creates this number of records that belong to no object, each with its own secret.
pub async fn make_records(env: &TestEnv, number: i64) {
    let keyring = keyring(env).await;
    let (tenant, client): (TenantId, ClientId) = (TENANT.parse().unwrap(), CLIENT.parse().unwrap());
    let api = env.api::<SealedGraphCredential>();
    let created = (1..=number).map(|id| {
        let record_id: RecordId = generate_record_id().unwrap();
        let secret = SecretText::new(format!("secret of {id}"));
        let spec = SealedGraphCredentialSpec {
            created_secret: None,
            pending_secret: None,
            envelope: String::new(),
            record_id,
            credential_id: id,
            tenant_id: tenant.clone(),
            client_id: client.clone(),
            cloud: None,
            secret_expires_at: Time(EXPIRY.parse().unwrap()),
            name: format!("credential {id}"),
        };
        let (name, namespace) = (Some(format!("r-{id}")), Some(env.namespace.clone()));
        let mut record = SealedGraphCredential {
            metadata: ObjectMeta { name, namespace, ..ObjectMeta::default() },
            spec,
            status: None,
        };
        let sealed = Envelope::seal(&keyring, AssociatedData::of(&record), &secret).unwrap();
        record.spec.envelope = sealed.to_base64();
        let api = api.clone();
        async move { api.create(&PostParams::default(), &record).await.unwrap() }
    });
    futures::stream::iter(created).buffer_unordered(20).collect::<Vec<_>>().await;
}

/// Changes a record as the operator does: its secret is encrypted again for what it is now.
pub async fn change_record(env: &TestEnv, name: &str, change: impl FnOnce(&mut SealedGraphCredentialSpec)) {
    let (api, keyring) = (env.api::<SealedGraphCredential>(), keyring(env).await);
    let mut record = api.get(name).await.unwrap();
    let secret = record::open(&record, &keyring).unwrap();
    change(&mut record.spec);
    let sealed = Envelope::seal(&keyring, AssociatedData::of(&record), &secret).unwrap();
    record.spec.envelope = sealed.to_base64();
    // Whatever the version, because the operator may write the status meanwhile.
    let patch = Patch::Merge(json!({"spec": record.spec}));
    api.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// The record's secret in an envelope of format 1, as earlier versions wrote it (`docs/reference/envelope.md`).
pub fn envelope_of_format_1(keyring: &Keyring, record: &SealedGraphCredential) -> String {
    const PREFIX: &str = "graph-credentials.io/SealedGraphCredential/";
    let secret = record::open(record, keyring).unwrap();
    let json: Value = serde_json::from_slice(keyring.to_json().unwrap().expose()).unwrap();
    let id = keyring.primary().to_string();
    let key = json["keys"].as_array().unwrap().iter().find(|key| key["id"] == id).unwrap();
    let key = STANDARD.decode(key["bytes"].as_str().unwrap()).unwrap();
    let mut kek = [0; 32];
    Hkdf::<Sha256>::new(None, &key)
        .expand(format!("{PREFIX}key-encryption-key").as_bytes(), &mut kek)
        .unwrap();
    let (namespace, spec) = (record.metadata.namespace.as_deref().unwrap(), &record.spec);
    let seal = |layer: &str, key: [u8; 32], nonce: [u8; 24], text: &[u8]| {
        let layer = format!("{PREFIX}{layer}");
        let ids = [namespace, spec.record_id.as_str(), spec.tenant_id.as_str(), spec.client_id.as_str()];
        let parts = [layer.as_str(), "\x01", &id].into_iter().chain(ids);
        let aad: Vec<u8> =
            parts.flat_map(|part| [&(part.len() as u64).to_be_bytes(), part.as_bytes()].concat()).collect();
        let (cipher, mut text) = (XChaCha20Poly1305::new(&key.into()), text.to_vec());
        let tag = cipher.encrypt_inout_detached(&nonce.into(), &aad, text.as_mut_slice().into()).unwrap();
        [&nonce[..], &text, &tag].concat()
    };
    let mut secret = seal("secret", [1; 32], [3; 24], secret.expose().as_bytes());
    let length = u16::try_from(secret.len() - 24 - 16).unwrap();
    secret.splice(24..24, length.to_be_bytes());
    let id = u32::from_str_radix(&id, 16).unwrap().to_be_bytes();
    STANDARD.encode([b"SGC\x01", &id[..], &seal("data-key", kek, [2; 24], &[1; 32]), &secret].concat())
}

/// The number of records under other keys.
pub async fn left(env: &TestEnv, key: KeyId) -> usize {
    let is_left = |record: &&SealedGraphCredential| {
        Envelope::from_base64(&record.spec.envelope).unwrap().key_id() != key
    };
    records(env).await.iter().filter(is_left).count()
}
