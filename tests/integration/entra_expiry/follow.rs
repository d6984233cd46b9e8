//! `expiry: Follow`: the expiry at Microsoft Entra is used in place of a given one.

use super::*;

#[tokio::test]
async fn a_followed_expiry_is_registered_without_a_given_one() {
    let (env, graph) = start().await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    env.secret_exactly("sales-eu-graph", &[("client_secret", "s3cret-one")]).await;
    env.credential("sales-eu", entra("Follow")).await;
    let object = env.wait_until_ready("sales-eu").await;
    assert_eq!(env.remote()[0].secret_expires_at, "2027-11-28T10:00:00Z");
    let status = object.status.as_ref().unwrap();
    assert_eq!(status.expires_at.as_ref().unwrap().0.to_string(), "2027-11-28T10:00:00Z");
    assert_eq!(serde_json::to_value(status.expiry_source).unwrap(), json!("Entra"));
    let text = message(&object, ConditionType::ExpiryConfirmed);
    assert!(text.contains("2027-11-28T10:00:00Z"), "{text}");
    assert_eq!(graph.requests().len(), 1);
}

#[tokio::test]
async fn a_later_expiry_at_entra_is_sent_at_once_and_an_earlier_one_after_three_readings() {
    let (env, graph) = start().await;
    graph.set_application(TENANT, CLIENT, &[entry(EARLIER)]);
    env.credential("sales-eu", entra("Follow")).await;
    env.wait_until_ready("sales-eu").await;
    let id = env.remote()[0].credential_id;

    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    read_again(&env, &graph).await;
    assert_eq!(env.remote()[0].secret_expires_at, "2027-11-28T10:00:00Z");

    // Readings that are outdated for a while change nothing.
    graph.set_application(TENANT, CLIENT, &[entry(EARLIER)]);
    graph.lag_next(TENANT, CLIENT, 1);
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    assert_eq!(pending_count(&read_again(&env, &graph).await), Some(1));
    env.wait_until("sales-eu", "the outdated reading is over", |object| pending_count(object).is_none())
        .await;
    assert_eq!(env.remote()[0].secret_expires_at, "2027-11-28T10:00:00Z");

    let before = graph.count(TENANT, CLIENT);
    graph.set_application(TENANT, CLIENT, &[entry(EARLIER)]);
    assert_eq!(pending_count(&read_again(&env, &graph).await), Some(1));
    assert_eq!(env.remote()[0].secret_expires_at, "2027-11-28T10:00:00Z");
    eventually("the earlier expiry is registered", || async {
        let expiry = env.remote()[0].secret_expires_at.clone();
        if expiry == EARLIER { Ok(()) } else { Err(expiry) }
    })
    .await;
    assert!(graph.count(TENANT, CLIENT) >= before + 3);
    assert_eq!(env.remote()[0].credential_id, id, "it is the same credential");
}

#[tokio::test]
async fn nothing_is_registered_before_a_followed_expiry_is_known() {
    let (env, graph) = start().await;
    graph.set_application(TENANT, CLIENT, &[PasswordEntry::of(OTHER_KEY, "another", SAME_DAY)]);
    graph.set_service_principal(TENANT, CLIENT, &[]);
    env.credential("sales-eu", entra("Follow")).await;
    let object = wait_for(&env, ConditionStatus::Unknown, "NoMatchingSecret").await;
    assert!(message(&object, ConditionType::ExpiryConfirmed).contains("nothing is registered"));
    env.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::Unknown, "AwaitingExpiry").await;
    assert_eq!(env.woodpecker.writes("agency"), 0, "the given expiry is not used in its place");

    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    env.wait_until_ready("sales-eu").await;
    assert_eq!(env.remote()[0].secret_expires_at, "2027-11-28T10:00:00Z");
}

#[tokio::test]
async fn a_followed_expiry_stays_while_entra_cannot_be_asked() {
    let (env, graph) = start().await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    env.credential("sales-eu", entra("Follow")).await;
    env.wait_until_ready("sales-eu").await;
    let writes = env.woodpecker.writes("agency");
    graph.fail_always(Fault::Html503);
    let object = read_again(&env, &graph).await;
    assert!(object.status.as_ref().unwrap().entra.as_ref().unwrap().consecutive_failures.is_some());
    assert_eq!(read_expiry(&object).as_deref(), Some("2027-11-28T10:00:00Z"));
    let confirmed = condition(&object, ConditionType::ExpiryConfirmed).unwrap();
    assert_eq!((confirmed.status, confirmed.reason.as_str()), (ConditionStatus::True, "ExpiryFollowed"));
    env.wait_until_ready("sales-eu").await;

    // A permission that is missing needs a person, and the date stays as well.
    graph.clear_faults();
    graph.fail_always(Fault::Forbidden);
    let object = wait_for(&env, ConditionStatus::Unknown, "ReadForbidden").await;
    let text = message(&object, ConditionType::ExpiryConfirmed);
    assert!(text.contains("Application.Read.All") && text.contains("is used meanwhile"), "{text}");
    graph.clear_faults();
    wait_for(&env, ConditionStatus::True, "ExpiryFollowed").await;
    assert_eq!(env.woodpecker.writes("agency"), writes);
}

#[tokio::test]
async fn a_new_secret_waits_for_its_own_expiry_and_the_old_registration_stays() {
    let (env, graph) = start().await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    env.credential("sales-eu", entra("Follow")).await;
    let before = env.wait_until_ready("sales-eu").await.status.unwrap();
    env.entra.set_secrets(TENANT, CLIENT, &["s3cret-one", "n3w~secret"]);
    env.secret("sales-eu-graph", &[("client_secret", "n3w~secret")]).await;
    wait_for(&env, ConditionStatus::Unknown, "NoMatchingSecret").await;
    let object =
        env.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::Unknown, "AwaitingExpiry").await;
    assert_eq!(object.status.as_ref().unwrap().registration, before.registration);
    let new = PasswordEntry::of(OTHER_KEY, "n3w~secret", "2028-11-28T10:00:00Z");
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY), new]);
    env.wait_until_ready("sales-eu").await;
    assert_eq!(env.remote()[0].secret_expires_at, "2028-11-28T10:00:00Z");
    assert!(env.woodpecker.secret_matches("agency", before.credential_id.unwrap(), "n3w~secret"));
}

#[tokio::test]
async fn a_previous_registration_is_deleted_while_a_new_secret_waits_for_its_expiry() {
    let (env, graph) = start().await;
    env.woodpecker.add_account("branch", "1234.key-of-the-branch");
    env.secret("branch-key", &[("api_key", "1234.key-of-the-branch")]).await;
    env.apply_account("branch", json!({})).await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    let mut spec = entra("Follow");
    merge(&mut spec, json!({"deletionPolicy": "Delete"}));
    env.credential("sales-eu", spec.clone()).await;
    let before = env.wait_until_ready("sales-eu").await.status.unwrap().credential_id.unwrap();
    env.woodpecker.mark_in_use(before);
    merge(&mut spec, json!({"destination": {"woodpecker": {"accountRef": {"name": "branch"}}}}));
    env.credential("sales-eu", spec).await;
    env.wait_until("sales-eu", "the earlier one is still to be deleted", |object| {
        object.status.as_ref().is_some_and(|status| status.previous_registrations.len() == 1)
    })
    .await;
    env.wait_until_ready("sales-eu").await;
    env.entra.set_secrets(TENANT, CLIENT, &["s3cret-one", "n3w~secret"]);
    env.secret("sales-eu-graph", &[("client_secret", "n3w~secret")]).await;
    env.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::Unknown, "AwaitingExpiry").await;
    env.woodpecker.clear_in_use(before);
    let object = env
        .wait_until("sales-eu", "nothing is left to delete", |object| {
            object.status.as_ref().is_some_and(|status| status.previous_registrations.is_empty())
        })
        .await;
    assert!(env.remote().is_empty());
    assert_eq!(env.woodpecker.credentials("branch").len(), 1);
    assert_eq!(condition(&object, ConditionType::Ready).unwrap().reason, "AwaitingExpiry");
}
