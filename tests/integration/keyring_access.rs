//! The keyring and the records of a test environment, as anyone who may read its Secret sees them.

use futures::StreamExt;
use graph_credential_operator::api::{RecordId, SealedGraphCredential, SealedGraphCredentialSpec};
use graph_credential_operator::secret_text::SecretText;
use graph_credential_operator::store::envelope::{AssociatedData, Envelope, generate_record_id};
use graph_credential_operator::store::keyring::{KeyId, Keyring};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, ObjectMeta, PostParams};

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
    let (tenant, client) = (TENANT.parse().unwrap(), CLIENT.parse().unwrap());
    let api = env.api::<SealedGraphCredential>();
    let created = (1..=number).map(|id| {
        let record_id: RecordId = generate_record_id().unwrap();
        let binding = AssociatedData {
            namespace: &env.namespace,
            record_id: &record_id,
            tenant: &tenant,
            client: &client,
        };
        let secret = SecretText::new(format!("secret of {id}"));
        let spec = SealedGraphCredentialSpec {
            envelope: Envelope::seal(&keyring, binding, &secret).unwrap().to_base64(),
            record_id,
            credential_id: id,
            tenant_id: tenant.clone(),
            client_id: client.clone(),
            cloud: None,
            secret_expires_at: Time(EXPIRY.parse().unwrap()),
            name: format!("credential {id}"),
        };
        let record = SealedGraphCredential {
            metadata: ObjectMeta { name: Some(format!("r-{id}")), ..ObjectMeta::default() },
            spec,
            status: None,
        };
        let api = api.clone();
        async move { api.create(&PostParams::default(), &record).await.unwrap() }
    });
    futures::stream::iter(created).buffer_unordered(20).collect::<Vec<_>>().await;
}

/// The number of records under other keys.
pub async fn left(env: &TestEnv, key: KeyId) -> usize {
    let is_left = |record: &&SealedGraphCredential| {
        Envelope::from_base64(&record.spec.envelope).unwrap().key_id() != key
    };
    records(env).await.iter().filter(is_left).count()
}
