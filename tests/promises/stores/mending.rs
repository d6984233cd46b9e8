//! Records that others changed are brought in line again, unless something is in the way.

use super::*;

#[tokio::test]
async fn a_record_that_others_deleted_is_made_anew_under_the_same_id() {
    let (stage, _, before) = sealed(json!({})).await;
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
    let (stage, _, _) = sealed(json!({})).await;
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
async fn suspend_leaves_a_deleted_record_alone_and_resume_mends_it() {
    let (stage, before, _) = sealed(json!({})).await;
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
async fn a_record_of_another_cloud_is_left_alone_until_it_is_gone() {
    let (stage, _, retained) = sealed(json!({})).await;
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
