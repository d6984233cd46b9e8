//! Records follow the primary key of the keyring.

use super::*;

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
