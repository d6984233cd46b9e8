//! External changes of records: the operator restores them, unless something prevents it.

use super::*;

#[tokio::test]
async fn a_record_deleted_externally_is_re_created_under_the_same_id() {
    let (env, _, before) = sealed(json!({})).await;
    let requests = env.entra.requests().len();
    remove(&env, &before).await;
    let name = format!("{}/sales-eu", env.namespace);
    let after = wait_for_record(&env, "s3cret-one", &name, EXPIRY).await;
    assert_ne!(after.uid(), before.uid());
    assert_eq!((after.name_any(), after.spec.credential_id), (before.name_any(), before.spec.credential_id));
    assert_ne!(after.spec.record_id, before.spec.record_id);
    assert_eq!(env.entra.requests().len(), requests, "the secret was verified a moment ago");
    eventually("an event reports it", || async {
        let events = env.events("sales-eu").await;
        let is_emitted = events.iter().any(|event| event.starts_with("DeletedRemotely"));
        if is_emitted { Ok(()) } else { Err(format!("{events:#?}")) }
    })
    .await;
}

#[tokio::test]
async fn external_edits_of_a_record_are_reverted() {
    let (env, _, _) = sealed(json!({})).await;
    let name = format!("{}/sales-eu", env.namespace);
    let original = record(&env).await;
    for damage in [
        json!({"name": "another name"}),
        json!({"secretExpiresAt": "2031-01-01T00:00:00Z"}),
        json!({"envelope": "bm9uc2Vuc2U="}),
    ] {
        edit(&env, &original, damage).await;
        let repaired = wait_for_record(&env, "s3cret-one", &name, EXPIRY).await;
        assert_eq!(repaired.spec.record_id, original.spec.record_id);
        assert_eq!(repaired.spec.credential_id, original.spec.credential_id);
    }
    is_sealed(&env, "sales-eu").await;
}

#[tokio::test]
async fn an_envelope_of_another_record_is_detected_and_replaced() {
    let env = start_env().await;
    env.credential("first", store(json!({}))).await;
    env.credential("second", store(json!({}))).await;
    for name in ["first", "second"] {
        is_sealed(&env, name).await;
    }
    let [one, other] = &records(&env).await[..] else { panic!("two records") };
    edit(&env, one, json!({"envelope": other.spec.envelope})).await;
    eventually("the record opens again", || async {
        let now: SealedGraphCredential = env.api().get(&one.name_any()).await.unwrap();
        let opened = open(&env, &now).await;
        if opened.as_deref() == Ok("s3cret-one") { Ok(()) } else { Err(format!("{opened:?}\n{}", env.log())) }
    })
    .await;
}

#[tokio::test]
async fn suspend_does_not_re_create_a_deleted_record_and_resume_does() {
    let (env, before, _) = sealed(json!({})).await;
    env.credential("sales-eu", store(json!({"suspend": true}))).await;
    env.wait_until("sales-eu", "it is suspended", |object| {
        message(object, ConditionType::Ready).starts_with("suspended")
    })
    .await;
    remove(&env, &record(&env).await).await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(records(&env).await, []);
    env.credential("sales-eu", store(json!({"suspend": false}))).await;
    let name = format!("{}/sales-eu", env.namespace);
    let after = wait_for_record(&env, "s3cret-one", &name, EXPIRY).await;
    assert_eq!(Some(after.spec.credential_id), before.credential_id);
}

#[tokio::test]
async fn a_record_of_another_cloud_is_not_changed_until_it_is_deleted() {
    let (env, _, retained) = sealed(json!({})).await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    remove(&env, &retained).await;
    let mut other = retained;
    (other.metadata, other.spec.cloud) = (bare(&other), Some(Cloud::China));
    let other: SealedGraphCredential = env.api().create(&PostParams::default(), &other).await.unwrap();
    env.credential("sales-eu", store(json!({}))).await;
    let object =
        env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AlreadyExists").await;
    assert!(message(&object, ConditionType::Registered).contains(&other.name_any()));
    assert_eq!(record(&env).await, other);
    remove(&env, &other).await;
    is_sealed(&env, "sales-eu").await;
}
