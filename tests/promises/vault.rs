//! The keyring and the records of a stage, as whoever may read its Secret sees them.

use futures::StreamExt;
use graph_credential_operator::resources::{RecordId, SealedGraphCredential, SealedGraphCredentialSpec};
use graph_credential_operator::secret::SecretText;
use graph_credential_operator::store::envelope::{Binding, Envelope, fresh_record_id};
use graph_credential_operator::store::keyring::{KeyId, Keyring};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, ObjectMeta, PostParams};

use crate::stage::{CLIENT, EXPIRY, Stage, TENANT};

/// The keyring's Secret.
pub const KEYRING: &str = "graph-credential-operator-keyring";

/// All records.
pub async fn records(stage: &Stage) -> Vec<SealedGraphCredential> {
    stage.api().list(&ListParams::default()).await.expect("records can be listed").items
}

/// The keyring.
pub async fn keyring(stage: &Stage) -> Keyring {
    let secret: Secret = stage.api().get(KEYRING).await.unwrap();
    Keyring::from_json(&secret.data.unwrap()["keyring.json"].0).unwrap()
}

/// Makes records that belong to no object, as many as asked for, each with a secret of its own.
pub async fn make_records(stage: &Stage, number: i64) {
    let keyring = keyring(stage).await;
    let (tenant, client) = (TENANT.parse().unwrap(), CLIENT.parse().unwrap());
    let api = stage.api::<SealedGraphCredential>();
    let made = (1..=number).map(|id| {
        let record_id: RecordId = fresh_record_id().unwrap();
        let binding =
            Binding { namespace: &stage.namespace, record_id: &record_id, tenant: &tenant, client: &client };
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
    futures::stream::iter(made).buffer_unordered(20).collect::<Vec<_>>().await;
}

/// How many records are sealed under another key.
pub async fn left(stage: &Stage, key: KeyId) -> usize {
    let is_left = |record: &&SealedGraphCredential| {
        Envelope::from_base64(&record.spec.envelope).unwrap().key_id() != key
    };
    records(stage).await.iter().filter(is_left).count()
}
