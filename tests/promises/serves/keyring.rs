//! The keyring's rules hold for what comes in over HTTP.

use graph_credential_operator::store::keyring::KeyId;
use graph_credential_operator::store::replicas::{Acknowledgement, roll};
use k8s_openapi::api::coordination::v1::Lease;

use super::*;

/// Gives the keyring another primary key.
pub async fn promote_another_key(stage: &Stage) -> KeyId {
    let secret: Secret = stage.api().get(KEYRING).await.unwrap();
    let mut keyring = Keyring::from_json(&secret.data.unwrap()["keyring.json"].0).unwrap();
    let (added, _) = keyring.begin_rotation(jiff::Timestamp::now()).unwrap();
    keyring.promote(added).unwrap();
    let json = keyring.to_json().unwrap();
    stage.secret(KEYRING, &[("keyring.json", std::str::from_utf8(json.expose()).unwrap())]).await;
    added
}

fn key_of(record: &SealedGraphCredential) -> KeyId {
    Envelope::from_base64(&record.spec.envelope).unwrap().key_id()
}

#[tokio::test]
async fn another_primary_key_is_found_out_before_a_posted_secret_is_sealed() {
    let api = Api::set().await;
    let old = key_of(&api.opened(api.created(json!({})).await).await.0);
    let added = promote_another_key(&api.stage).await;
    let id = api.created(json!({"name": "new"})).await;
    let (record, secret) = api.opened(id).await;
    assert_eq!((key_of(&record), secret.as_str()), (added, "s3cret-one"));
    assert_ne!(added, old);
    assert_eq!(record.metadata.generation, Some(1), "it was sealed once");
}

#[tokio::test]
async fn without_its_keyring_a_running_server_saves_nothing_and_still_shows_lists_and_names() {
    let api = Api::set().await;
    let id = api.created(json!({})).await;
    api.stage.delete_secret(KEYRING).await;
    let before = api.records().await;
    let path = format!("{PATH}/{id}");
    let rotation = json!({"client_secret": "s3cret-one", "secret_expires_at": EXPIRY});
    assert_eq!(api.create(json!({})).await.status, 500);
    assert_eq!(api.ask("PATCH", &path, Some(rotation)).await.status, 500);
    assert_eq!(api.records().await, before, "after a restart nothing would open it");
    assert_eq!(api.listed().await.len(), 1);
    assert_eq!(api.ask("PATCH", &path, Some(json!({"name": "x"}))).await.status, 200);
}

#[tokio::test]
async fn a_server_acknowledges_the_keyring_while_it_lives_and_no_longer() {
    let mut api = Api::set().await;
    let added = promote_another_key(&api.stage).await;
    let place = graph_credential_operator::store::keyring::KeyringPlace {
        namespace: api.stage.namespace.clone(),
        name: KEYRING.into(),
    };
    eventually("the new key is acknowledged", || async {
        let replicas = roll(&api.stage.client, &place).await.unwrap();
        let leases: Vec<Lease> = api.stage.api().list(&ListParams::default()).await.unwrap().items;
        let said = leases.iter().find_map(|lease| {
            let text = lease.annotations().get("graph-credentials.io/keyring-acknowledged")?;
            text.parse::<Acknowledgement>().ok()
        });
        let is_acknowledged = said.is_some_and(|said| said.opens(added));
        if replicas.len() == 1 && is_acknowledged { Ok(()) } else { Err(format!("{leases:#?}")) }
    })
    .await;
    let exit = api.server.stop().await.unwrap();
    assert!(exit.success(), "{exit}\n{}", api.server.log());
    assert_eq!(roll(&api.stage.client, &place).await.unwrap(), []);
}
