//! The end of an object, and what is left: by a policy, by a crash, in a backup.

use kit::entra::Fault;

use super::*;

#[tokio::test]
async fn delete_removes_the_record_with_its_object() {
    let (stage, _, _) = sealed(json!({"deletionPolicy": "Delete"})).await;
    let finalizers = stage.read("sales-eu").await.metadata.finalizers.unwrap_or_default();
    assert_eq!(finalizers, ["graph-credentials.io/registration"]);
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(records(&stage).await, []);
    eventually("an event tells of it", || async {
        let events = stage.events("sales-eu").await;
        let is_told =
            |event: &String| event.starts_with("Deleted") && event.contains("SealedGraphCredential c-");
        if events.iter().any(is_told) { Ok(()) } else { Err(format!("{events:#?}")) }
    })
    .await;
}

#[tokio::test]
async fn retain_leaves_the_record_and_a_later_object_takes_it_over_with_its_id() {
    let (stage, before, retained) = sealed(json!({})).await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(record(&stage).await, retained);

    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    put_secret(&stage, "s3cret-two", EXPIRY).await;
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    let after = is_sealed(&stage, "sales-eu").await;
    assert_eq!(after.credential_id, before.credential_id);
    let name = format!("{}/sales-eu", stage.namespace);
    let taken_over = holds(&stage, "s3cret-two", &name, EXPIRY).await;
    assert_eq!((taken_over.uid(), &taken_over.spec.record_id), (retained.uid(), &retained.spec.record_id));
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(records(&stage).await, [], "what was taken over is its own");
}

#[tokio::test]
async fn what_an_earlier_object_left_gives_way_to_a_proved_secret_alone() {
    let (stage, _, retained) = sealed(json!({})).await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    put_secret(&stage, "never-proved", EXPIRY).await;
    stage.entra.fail_always(Fault::Html503);
    stage.credential("sales-eu", store(json!({"verification": {"policy": "BestEffort"}}))).await;
    stage
        .wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "MicrosoftUnavailable")
        .await;
    tokio::time::sleep(A_WHILE / 2).await;
    assert_eq!(record(&stage).await.spec, retained.spec, "it may be the last copy");
}

#[tokio::test]
async fn an_object_that_never_sealed_anything_leaves_the_record_of_an_earlier_one() {
    let (stage, _, retained) = sealed(json!({})).await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    put_secret(&stage, "wr0ng", EXPIRY).await;
    let finalizers = json!({"metadata": {"finalizers": ["graph-credentials.io/registration"]}});
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Delete", "suspend": true}))).await;
    let objects = stage.api::<MicrosoftGraphCredential>();
    objects.patch("sales-eu", &PatchParams::default(), &Patch::Merge(finalizers)).await.unwrap();
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    stage.delete("sales-eu").await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(record(&stage).await, retained);
}

#[tokio::test]
async fn a_record_restored_from_a_backup_is_taken_at_its_word() {
    let (stage, before, mut backup) = sealed(json!({})).await;
    stage.credential("sales-eu", store(json!({"suspend": true}))).await;
    stage
        .wait_until("sales-eu", "it is suspended", |object| {
            message(object, ConditionType::Ready).starts_with("suspended")
        })
        .await;
    remove(&stage, &backup).await;
    backup.metadata = bare(&backup);
    let restored: SealedGraphCredential = stage.api().create(&PostParams::default(), &backup).await.unwrap();
    stage.credential("sales-eu", store(json!({"suspend": false}))).await;
    stage
        .wait_until("sales-eu", "it goes on", |object| {
            message(object, ConditionType::Ready).starts_with("credential")
        })
        .await;
    let after = is_sealed(&stage, "sales-eu").await;
    assert_eq!(after.registration, before.registration);
    assert_eq!(record(&stage).await, restored, "it opens, and nothing is written");
}

/// The status as if the program had ended after the record was written and before the status was.
pub(super) async fn forget_registration(stage: &Stage) {
    let patch = json!({"status": {"registration": null, "credentialId": null, "expiresAt": null}});
    let objects = stage.api::<MicrosoftGraphCredential>();
    objects.patch_status("sales-eu", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test]
async fn a_record_that_was_written_before_a_crash_is_found_and_kept() {
    let mut stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    let before = is_sealed(&stage, "sales-eu").await;
    stage.stop_operator().await;
    let written = record(&stage).await;
    forget_registration(&stage).await;
    stage.start_operator().await;
    let after = stage
        .wait_until("sales-eu", "it is written down", |object| {
            object.status.as_ref().is_some_and(|status| status.registration.is_some())
        })
        .await;
    assert_eq!(after.status.unwrap().credential_id, before.credential_id);
    assert_eq!(record(&stage).await, written);
}

#[tokio::test]
async fn a_record_that_was_written_before_a_crash_goes_with_its_object() {
    let mut stage = set().await;
    stage.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    is_sealed(&stage, "sales-eu").await;
    stage.stop_operator().await;
    forget_registration(&stage).await;
    stage.delete("sales-eu").await;
    stage.start_operator().await;
    stage.wait_until_gone("sales-eu").await;
    assert_eq!(records(&stage).await, []);
}
