//! Records follow the primary key of the keyring.

use super::*;

/// Gives the keyring another primary key.
async fn promote_another_key(stage: &Stage) -> KeyId {
    let mut keyring = keyring(stage).await;
    let added = keyring.rotate(jiff::Timestamp::now()).unwrap();
    let json = keyring.to_json().unwrap();
    stage.secret(KEYRING, &[("keyring.json", std::str::from_utf8(json.expose()).unwrap())]).await;
    added
}

#[tokio::test]
async fn without_its_keyring_a_running_operator_seals_nothing() {
    let stage = set().await;
    let keyring: Secret = stage.api().get(KEYRING).await.unwrap();
    stage.delete_secret(KEYRING).await;
    let operator = stage.operator.as_ref().unwrap();
    operator.wait_for_log("the keyring cannot be read", A_WHILE).await.unwrap();
    stage.credential("sales-eu", store(json!({}))).await;
    let object =
        stage.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "KeyringMissing").await;
    assert!(message(&object, ConditionType::Registered).contains("keys import"));
    assert_eq!(records(&stage).await.len(), 0, "after a restart nothing would open it");
    let restored =
        Secret { metadata: ObjectMeta { name: Some(KEYRING.into()), ..ObjectMeta::default() }, ..keyring };
    stage.api::<Secret>().create(&PostParams::default(), &restored).await.unwrap();
    is_sealed(&stage, "sales-eu").await;
    record(&stage).await;
}

#[tokio::test]
async fn a_writer_that_does_not_know_of_another_primary_key_yet_finds_out_soon() {
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
