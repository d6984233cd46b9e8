//! Records follow the primary key of the keyring.

use super::*;
use crate::keyring_access::{envelope_of_format_1, make_records};

/// Gives the keyring another primary key.
async fn promote_another_key(env: &TestEnv) -> KeyId {
    let mut keyring = keyring(env).await;
    let added = keyring.rotate(jiff::Timestamp::now()).unwrap();
    let json = keyring.to_json().unwrap();
    env.secret(KEYRING, &[("keyring.json", std::str::from_utf8(json.expose()).unwrap())]).await;
    added
}

#[tokio::test]
async fn a_running_operator_without_its_keyring_encrypts_nothing() {
    let env = start_env().await;
    let keyring: Secret = env.api().get(KEYRING).await.unwrap();
    env.delete_secret(KEYRING).await;
    let operator = env.operator.as_ref().unwrap();
    operator.wait_for_log("the keyring cannot be read", QUIET_TIME).await.unwrap();
    env.credential("sales-eu", store(json!({}))).await;
    let object = env
        .wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "KeyringUnavailable")
        .await;
    assert!(message(&object, ConditionType::Registered).contains("keys import"));
    assert_eq!(records(&env).await.len(), 0, "after a restart nothing would open it");
    let restored =
        Secret { metadata: ObjectMeta { name: Some(KEYRING.into()), ..ObjectMeta::default() }, ..keyring };
    env.api::<Secret>().create(&PostParams::default(), &restored).await.unwrap();
    is_sealed(&env, "sales-eu").await;
    record(&env).await;
}

#[tokio::test]
async fn a_new_primary_key_is_detected_soon_by_a_writer() {
    let env = start_env().await;
    let added = promote_another_key(&env).await;
    env.credential("sales-eu", store(json!({}))).await;
    is_sealed(&env, "sales-eu").await;
    let sealed = eventually("it is encrypted under the new key", || async {
        let record = record(&env).await;
        let envelope = Envelope::from_base64(&record.spec.envelope).unwrap();
        if envelope.key_id() == added { Ok(record) } else { Err(env.log()) }
    })
    .await;
    assert_eq!(open(&env, &sealed).await.as_deref(), Ok("s3cret-one"));
}

#[tokio::test]
async fn a_new_primary_key_re_encrypts_the_record() {
    let mut env = start_env().await;
    env.credential("sales-eu", store(json!({}))).await;
    is_sealed(&env, "sales-eu").await;
    env.stop_operator().await;
    let before = record(&env).await;
    let added = promote_another_key(&env).await;
    env.start_operator().await;
    let after = eventually("it is encrypted under the new key", || async {
        let record = record(&env).await;
        let envelope = Envelope::from_base64(&record.spec.envelope).unwrap();
        if envelope.key_id() == added { Ok(record) } else { Err(env.log()) }
    })
    .await;
    assert_eq!(open(&env, &after).await.as_deref(), Ok("s3cret-one"));
    assert_eq!(
        (&after.spec.record_id, after.spec.credential_id),
        (&before.spec.record_id, before.spec.credential_id)
    );
}

#[tokio::test]
async fn records_of_an_earlier_format_are_encrypted_again_once() {
    let mut env = start_env().await;
    make_records(&env, 3).await;
    env.stop_operator().await;
    let keyring = keyring(&env).await;
    let format = |record: &SealedGraphCredential| STANDARD.decode(&record.spec.envelope).unwrap()[3];
    for record in records(&env).await {
        edit(&env, &record, json!({"envelope": envelope_of_format_1(&keyring, &record)})).await;
    }
    assert!(records(&env).await.iter().all(|record| format(record) == 1));
    rotations::all_decrypt(&env, 3).await;
    let writes = async |mark| {
        let entries = env.cluster.audit_since(mark).unwrap().into_iter();
        let of_records = entries.filter(|entry| {
            entry.resource == "sealedgraphcredentials"
                && entry.subresource.is_none()
                && entry.is_write()
                && entry.namespace.as_deref() == Some(&env.namespace)
        });
        of_records.count()
    };
    let mark = env.cluster.audit_mark().unwrap();
    let mut operator = env.launch().await;
    eventually("all have format 2", || async {
        let found: Vec<u8> = records(&env).await.iter().map(format).collect();
        if found == [2; 3] { Ok(()) } else { Err(format!("{found:?}\n{}", operator.log())) }
    })
    .await;
    rotations::all_decrypt(&env, 3).await;
    assert!(records(&env).await.iter().all(|record| {
        Envelope::from_base64(&record.spec.envelope).unwrap().key_id() == keyring.primary()
    }));
    operator.stop().await.unwrap();
    let operator = env.launch().await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(writes(mark).await, 3, "each is written once\n{}", operator.log());
}
