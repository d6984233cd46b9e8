//! Deletion of an object, and what is left: by policy, after a crash, and in a backup.

use kit::entra::Fault;

use super::*;

#[tokio::test]
async fn delete_removes_the_record_with_its_object() {
    let (env, _, _) = sealed(json!({"deletionPolicy": "Delete"})).await;
    let finalizers = env.read("sales-eu").await.metadata.finalizers.unwrap_or_default();
    assert_eq!(finalizers, ["graph-credentials.io/registration"]);
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(records(&env).await, []);
    eventually("an event reports it", || async {
        let events = env.events("sales-eu").await;
        let is_emitted =
            |event: &String| event.starts_with("Deleted") && event.contains("SealedGraphCredential c-");
        if events.iter().any(is_emitted) { Ok(()) } else { Err(format!("{events:#?}")) }
    })
    .await;
}

#[tokio::test]
async fn retain_keeps_the_record_and_a_later_object_adopts_it() {
    let (env, before, retained) = sealed(json!({})).await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(record(&env).await, retained);

    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    put_secret(&env, "s3cret-two", EXPIRY).await;
    env.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    let after = is_sealed(&env, "sales-eu").await;
    assert_eq!(after.credential_id, before.credential_id);
    let name = format!("{}/sales-eu", env.namespace);
    let taken_over = wait_for_record(&env, "s3cret-two", &name, EXPIRY).await;
    assert_eq!((taken_over.uid(), &taken_over.spec.record_id), (retained.uid(), &retained.spec.record_id));
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(records(&env).await, [], "what was taken over is its own");
}

#[tokio::test]
async fn a_record_of_an_earlier_object_is_replaced_only_by_a_verified_secret() {
    let (env, _, retained) = sealed(json!({})).await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    put_secret(&env, "never-verified", EXPIRY).await;
    env.entra.fail_always(Fault::Html503);
    env.credential("sales-eu", store(json!({"verification": {"policy": "BestEffort"}}))).await;
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "MicrosoftUnavailable").await;
    tokio::time::sleep(QUIET_TIME / 2).await;
    assert_eq!(record(&env).await.spec, retained.spec, "it may be the last copy");
}

#[tokio::test]
async fn an_object_without_a_record_does_not_delete_the_record_of_an_earlier_one() {
    let (env, _, retained) = sealed(json!({})).await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    put_secret(&env, "wr0ng", EXPIRY).await;
    let finalizers = json!({"metadata": {"finalizers": ["graph-credentials.io/registration"]}});
    env.credential("sales-eu", store(json!({"deletionPolicy": "Delete", "suspend": true}))).await;
    let objects = env.api::<MicrosoftGraphCredential>();
    objects.patch("sales-eu", &PatchParams::default(), &Patch::Merge(finalizers)).await.unwrap();
    env.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(record(&env).await, retained);
}

#[tokio::test]
async fn a_record_restored_from_a_backup_is_adopted() {
    let (env, before, mut backup) = sealed(json!({})).await;
    env.credential("sales-eu", store(json!({"suspend": true}))).await;
    env.wait_until("sales-eu", "it is suspended", |object| {
        message(object, ConditionType::Ready).starts_with("suspended")
    })
    .await;
    remove(&env, &backup).await;
    backup.metadata = bare(&backup);
    let restored: SealedGraphCredential = env.api().create(&PostParams::default(), &backup).await.unwrap();
    env.credential("sales-eu", store(json!({"suspend": false}))).await;
    env.wait_until("sales-eu", "it continues", |object| {
        message(object, ConditionType::Ready).starts_with("credential")
    })
    .await;
    let after = is_sealed(&env, "sales-eu").await;
    assert_eq!(after.registration, before.registration);
    assert_eq!(record(&env).await, restored, "it opens, and nothing is written");
}

/// Sets the status as if the program had crashed after it wrote the record and before it wrote the status.
pub(super) async fn forget_registration(env: &TestEnv) {
    let patch = json!({"status": {"registration": null, "credentialId": null, "expiresAt": null}});
    let objects = env.api::<MicrosoftGraphCredential>();
    objects.patch_status("sales-eu", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test]
async fn a_record_that_was_written_before_a_crash_is_found_and_kept() {
    let mut env = start_env().await;
    env.credential("sales-eu", store(json!({}))).await;
    let before = is_sealed(&env, "sales-eu").await;
    env.stop_operator().await;
    let written = record(&env).await;
    forget_registration(&env).await;
    env.start_operator().await;
    let after = env
        .wait_until("sales-eu", "it is written down", |object| {
            object.status.as_ref().is_some_and(|status| status.registration.is_some())
        })
        .await;
    assert_eq!(after.status.unwrap().credential_id, before.credential_id);
    assert_eq!(record(&env).await, written);
}

#[tokio::test]
async fn a_record_that_was_written_before_a_crash_is_deleted_with_its_object() {
    let mut env = start_env().await;
    env.credential("sales-eu", store(json!({"deletionPolicy": "Delete"}))).await;
    is_sealed(&env, "sales-eu").await;
    env.stop_operator().await;
    forget_registration(&env).await;
    env.delete("sales-eu").await;
    env.start_operator().await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(records(&env).await, []);
}
