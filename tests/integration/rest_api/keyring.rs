//! The keyring's rules for secrets that arrive over HTTP.

use graph_credential_operator::store::keyring::KeyId;

use super::fault_proxy::FaultProxy;
use super::*;

/// Gives the keyring another primary key.
pub async fn promote_another_key(env: &TestEnv) -> KeyId {
    let secret: Secret = env.api().get(KEYRING).await.unwrap();
    let mut keyring = Keyring::from_json(&secret.data.unwrap()["keyring.json"].0).unwrap();
    let added = keyring.rotate(jiff::Timestamp::now()).unwrap();
    let json = keyring.to_json().unwrap();
    env.secret(KEYRING, &[("keyring.json", std::str::from_utf8(json.expose()).unwrap())]).await;
    added
}

fn key_of(record: &SealedGraphCredential) -> KeyId {
    Envelope::from_base64(&record.spec.envelope).unwrap().key_id()
}

#[tokio::test]
async fn a_new_primary_key_is_detected_before_a_post_is_answered() {
    let api = Api::start().await;
    let old = key_of(&api.opened(api.created(json!({})).await).await.0);
    let added = promote_another_key(&api.env).await;
    let id = api.created(json!({"name": "new"})).await;
    let (record, secret) = api.opened(id).await;
    assert_eq!((key_of(&record), secret.as_str()), (added, "s3cret-one"));
    assert_ne!(added, old);
}

#[tokio::test]
async fn a_record_encrypted_during_a_key_change_is_re_encrypted() {
    let mut env = TestEnv::bare().await;
    let fault_proxy = FaultProxy::before(&mut env).await;
    let api = Api::on(env).await;
    let mut held = fault_proxy.hold("POST", "/sealedgraphcredentials");
    let post = api.created(json!({}));
    let promoted = async {
        held.reached().await;
        let added = promote_another_key(&api.env).await;
        held.release();
        added
    };
    let (id, added) = tokio::join!(post, promoted);
    let (record, secret) = api.opened(id).await;
    assert_eq!((key_of(&record), secret.as_str()), (added, "s3cret-one"), "before the response");
}

#[tokio::test]
async fn a_record_encrypted_during_a_keyring_replacement_is_encrypted_with_the_new_one() {
    let mut env = TestEnv::bare().await;
    let fault_proxy = FaultProxy::before(&mut env).await;
    let api = Api::on(env).await;
    let mut held = fault_proxy.hold("POST", "/sealedgraphcredentials");
    let post = api.created(json!({}));
    let replaced = async {
        held.reached().await;
        let fresh = Keyring::random(jiff::Timestamp::now()).unwrap();
        let json = fresh.to_json().unwrap();
        api.env.delete_secret(KEYRING).await;
        api.env.secret(KEYRING, &[("keyring.json", std::str::from_utf8(json.expose()).unwrap())]).await;
        held.release();
        fresh.primary()
    };
    let (id, primary) = tokio::join!(post, replaced);
    let (record, secret) = api.opened(id).await;
    assert_eq!((key_of(&record), secret.as_str()), (primary, "s3cret-one"));
}

#[tokio::test]
async fn a_posted_secret_is_not_saved_if_the_keyring_is_lost_meanwhile() {
    let mut env = TestEnv::bare().await;
    let fault_proxy = FaultProxy::before(&mut env).await;
    let api = Api::on(env).await;
    let mut held = fault_proxy.hold("POST", "/sealedgraphcredentials");
    let post = api.create(json!({}));
    let lost = async {
        held.reached().await;
        api.env.delete_secret(KEYRING).await;
        held.release();
    };
    let (response, ()) = tokio::join!(post, lost);
    assert_eq!(response.status, 500, "{response:?}");
    assert_eq!(api.records().await.len(), 0, "nothing would open it\n{}", api.server.log());
}

#[tokio::test]
async fn a_change_is_undone_if_the_keyring_is_lost_meanwhile() {
    let rename = json!({"name": "x"});
    let rotation = json!({"client_secret": "s3cret-one", "secret_expires_at": EXPIRY});
    for change in [rename, rotation] {
        let mut env = TestEnv::bare().await;
        let fault_proxy = FaultProxy::before(&mut env).await;
        let api = Api::on(env).await;
        let path = format!("{PATH}/{}", api.created(json!({})).await);
        let before = api.records().await[0].spec.clone();
        let mut held = fault_proxy.hold("PUT", "/sealedgraphcredentials");
        let request = api.request("PATCH", &path, Some(change));
        let lost = async {
            held.reached().await;
            api.env.delete_secret(KEYRING).await;
            held.release();
        };
        let (response, ()) = tokio::join!(request, lost);
        assert_eq!(response.status, 500, "{response:?}");
        let log = api.server.log();
        assert_eq!(api.records().await[0].spec, before, "{log}");
        assert!(log.contains("undid a change after which a record could not be decrypted"), "{log}");
    }
}

#[tokio::test]
async fn a_server_without_its_keyring_saves_and_renames_nothing_and_still_lists() {
    let api = Api::start().await;
    let id = api.created(json!({})).await;
    api.env.delete_secret(KEYRING).await;
    let before = api.records().await;
    let path = format!("{PATH}/{id}");
    let rotation = json!({"client_secret": "s3cret-one", "secret_expires_at": EXPIRY});
    assert_eq!(api.create(json!({})).await.status, 500);
    assert_eq!(api.request("PATCH", &path, Some(rotation)).await.status, 500);
    assert_eq!(api.request("PATCH", &path, Some(json!({"name": "x"}))).await.status, 500);
    assert_eq!(api.records().await, before, "after a restart nothing would open it");
    assert_eq!(api.listed().await.len(), 1);
}
