//! From the first client secret to the deletion of the object.

use graph_credential_operator::api::SealedGraphCredential;
use k8s_openapi::api::core::v1::Secret;
use kit::woodpecker::{Fault, Op};
use kube::api::{DeleteParams, ListParams};

use super::*;

#[tokio::test]
async fn a_client_secret_is_created_verified_and_registered() {
    let (env, graph) = start().await;
    env.credential("sales-eu", rotating()).await;
    let object = env.wait_until_ready("sales-eu").await;
    let live = graph.live_secrets(TENANT, CLIENT);
    assert_eq!(live.len(), 1, "{live:?}");
    let current = rotation(&object).current.unwrap();
    assert_eq!(
        (current.key_id.as_str(), Some(&current.display_name)),
        (live[0].key_id.as_str(), live[0].display_name.as_ref())
    );
    assert!(current.display_name.contains(object.metadata.uid.as_deref().unwrap()));
    assert_eq!(env.remote().len(), 1);
    assert_eq!(env.remote()[0].secret_expires_at, current.expires_at.0.to_string());
    assert_eq!(env.woodpecker.writes("agency"), 1);
    let ready = condition(&object, ConditionType::RotationReady).unwrap();
    assert_eq!((ready.status, ready.reason.as_str()), (ConditionStatus::True, "RotationScheduled"));
    env.wait_for("sales-eu", ConditionType::ExpiryConfirmed, ConditionStatus::True, "ExpiryMatches").await;

    let series = "graph_credential_rotation_ready{";
    eventually("a metric reports it", || async {
        let (_, metrics) = env.get("/metrics").await;
        let found = metrics.lines().find(|line| line.starts_with(series)).unwrap_or_default().to_owned();
        if found.contains("RotationScheduled") && found.ends_with(" 1") { Ok(()) } else { Err(found) }
    })
    .await;

    // Its text is in the record only, encrypted.
    let secrets = env.api::<Secret>().list(&ListParams::default()).await.unwrap();
    let text = serde_json::to_string(&secrets.items).unwrap();
    assert!(
        !text.contains(kit::graph::SECRET_MARK)
            && secrets.items.iter().all(|it| it.metadata.name.as_deref() != Some("sales-eu-graph"))
    );
    let records = env.api::<SealedGraphCredential>().list(&ListParams::default()).await.unwrap();
    assert_eq!(records.items.len(), 1);
    assert_eq!(records.items[0].spec.created_secret.as_ref().map(|it| &it.key_id), Some(&current.key_id));
    assert!(!serde_json::to_string(&records.items).unwrap().contains(kit::graph::SECRET_MARK));
    assert_sound(&env, &["sales-eu"]).await;
    eventually("an event reports it", || async {
        let events = env.events("sales-eu").await;
        if events.iter().any(|event| event.starts_with("SecretCreated")) {
            Ok(())
        } else {
            Err(format!("{events:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_client_secret_replaces_the_registered_one_and_the_earlier_one_is_removed() {
    let (env, graph) = start().await;
    env.credential("sales-eu", rotating()).await;
    let first = current_key(&env.wait_until_ready("sales-eu").await).unwrap();
    let id = env.remote()[0].credential_id;
    let object = rotate(&env, "sales-eu", "1").await;
    let second = current_key(&object).unwrap();
    assert_ne!(first, second);
    assert_eq!(env.remote().len(), 1);
    assert_eq!(env.remote()[0].credential_id, id, "it is the same credential");
    wait_for_only(&graph, &second).await;
    let history = graph.history(TENANT, CLIENT);
    assert_eq!(history.len(), 2, "{history:?}");
    assert_eq!(history[0].removed_by.as_deref(), Some(IDENTITY));
    assert_sound(&env, &["sales-eu"]).await;
    let records = env.api::<SealedGraphCredential>().list(&ListParams::default()).await.unwrap();
    assert_eq!(records.items[0].spec.pending_secret, None);
    assert_eq!(records.items[0].spec.created_secret.as_ref().map(|it| &it.key_id), Some(&second));
    eventually("the removed one is forgotten", || async {
        let earlier = rotation(&env.read("sales-eu").await).earlier;
        if earlier.is_empty() { Ok(()) } else { Err(format!("{earlier:?}")) }
    })
    .await;
    // The same request is handled once.
    let requests = graph.history(TENANT, CLIENT).len();
    env.request_reconcile("sales-eu").await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(graph.history(TENANT, CLIENT).len(), requests);
}

#[tokio::test]
async fn a_rejected_name_does_not_keep_a_client_secret_from_being_replaced() {
    let (env, graph) = start().await;
    env.credential("sales-eu", rotating()).await;
    let first = current_key(&env.wait_until_ready("sales-eu").await).unwrap();
    env.woodpecker.fail_always(Op::Rename, Fault::RefusedBefore(422, json!({"message": "NAME_TAKEN"})));
    let mut named = rotating();
    named["displayName"] = json!("taken");
    env.credential("sales-eu", named).await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;
    annotate(&env, "sales-eu", json!({"graph-credentials.io/rotate-requested-at": "1"})).await;
    let object = env
        .wait_until("sales-eu", "another client secret is in use", |object| {
            current_key(object).is_some_and(|key| key != first) && rotation(object).pending.is_none()
        })
        .await;
    wait_for_only(&graph, &current_key(&object).unwrap()).await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;
    assert_eq!(env.remote().len(), 1);
    // What goes wrong then is said, although the destination waits.
    graph.remove_owner(TENANT, CLIENT, IDENTITY);
    annotate(&env, "sales-eu", json!({"graph-credentials.io/rotate-requested-at": "2"})).await;
    env.wait_for("sales-eu", ConditionType::RotationReady, ConditionStatus::False, "WriteForbidden").await;
    assert_sound(&env, &["sales-eu"]).await;
}

#[tokio::test]
async fn the_earlier_client_secret_stays_during_the_overlap_unless_the_request_ends_it() {
    let (env, graph) = start().await;
    env.credential("sales-eu", with_overlap("24h")).await;
    let first = current_key(&env.wait_until_ready("sales-eu").await).unwrap();
    let second = current_key(&rotate(&env, "sales-eu", "1").await).unwrap();
    tokio::time::sleep(QUIET_TIME).await;
    let live: Vec<String> = graph.live_secrets(TENANT, CLIENT).into_iter().map(|it| it.key_id).collect();
    assert_eq!(live, [first.clone(), second.clone()]);
    let text = message(&env.read("sales-eu").await, ConditionType::RotationReady).to_owned();
    assert!(text.contains(&first) && text.contains(&second), "{text}");

    annotate(&env, "sales-eu", json!({"graph-credentials.io/rotate-overlap": "0s"})).await;
    let third = current_key(&rotate(&env, "sales-eu", "2").await).unwrap();
    eventually("all earlier ones are removed at once", || async {
        let live: Vec<String> = graph.live_secrets(TENANT, CLIENT).into_iter().map(|it| it.key_id).collect();
        if live == std::slice::from_ref(&third) { Ok(()) } else { Err(format!("{live:?}")) }
    })
    .await;
    assert_sound(&env, &["sales-eu"]).await;
}

#[tokio::test]
async fn a_reading_counts_although_the_client_secret_is_verified_after_it() {
    let (env, graph) = start().await;
    env.credential("sales-eu", with_overlap("10s")).await;
    env.wait_until_ready("sales-eu").await;
    let second = current_key(&rotate(&env, "sales-eu", "1").await).unwrap();
    // Longer ago than a token counts before an earlier client secret is removed, as after an overlap of a day.
    let patch = Patch::Merge(json!({"status": {"lastVerifiedTime": "2026-01-01T00:00:00Z"}}));
    let api = env.api::<MicrosoftGraphCredential>();
    api.patch_status("sales-eu", &PatchParams::default(), &patch).await.expect("the status can be changed");
    wait_for_only(&graph, &second).await;
    assert_sound(&env, &["sales-eu"]).await;
}

#[tokio::test]
async fn an_object_moves_from_a_secret_to_rotation_and_back_without_an_outage() {
    let (env, graph) = start().await;
    let hand_made = graph.add_by_hand(TENANT, CLIENT, "by hand", "2027-11-28T10:00:00Z").unwrap();
    env.secret("sales-eu-graph", &[("client_secret", &hand_made.text), ("secret_expires_at", EXPIRY)]).await;
    env.credential("sales-eu", json!({"entra": {"identityRef": {"name": "rotator"}}})).await;
    env.wait_until_ready("sales-eu").await;
    let id = env.remote()[0].credential_id;
    env.wait_for("sales-eu", ConditionType::ExpiryConfirmed, ConditionStatus::True, "ExpiryMatches").await;

    env.credential("sales-eu", rotating()).await;
    let object = env
        .wait_until("sales-eu", "it rotates", |object| {
            let is_ready =
                condition(object, ConditionType::Ready).is_some_and(|it| it.status == ConditionStatus::True);
            current_key(object).is_some() && is_ready
        })
        .await;
    let own = current_key(&object).unwrap();
    let live: Vec<String> = graph.live_secrets(TENANT, CLIENT).into_iter().map(|it| it.key_id).collect();
    assert_eq!(live, [hand_made.key_id.clone(), own.clone()], "the client secret of a person stays");
    assert_eq!(env.remote()[0].credential_id, id);
    eventually("an event names what stays", || async {
        let events = env.events("sales-eu").await;
        let is_named = |event: &String| event.starts_with("SecretLeft") && event.contains(&hand_made.key_id);
        if events.iter().any(is_named) { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;

    let back = json!({
        "secretRef": {"name": "sales-eu-graph"}, "rotation": null, "entra": {"identityRef": {"name": "rotator"}}
    });
    env.credential("sales-eu", back).await;
    env.wait_until("sales-eu", "it uses the Secret", |object| {
        let status = object.status.as_ref().unwrap();
        rotation(object).current.is_none()
            && status.observed_generation == object.metadata.generation.unwrap()
    })
    .await;
    let records = env.api::<SealedGraphCredential>().list(&ListParams::default()).await.unwrap();
    assert!(records.items.is_empty(), "the record is deleted");
    let named = rotation(&env.read("sales-eu").await).earlier;
    assert!(named.iter().any(|it| it.key_id == own), "it is removed after the overlap of a day: {named:?}");
    assert_sound(&env, &["sales-eu"]).await;
}

#[tokio::test]
async fn deletion_with_delete_removes_the_registration_and_then_the_client_secret() {
    let (env, graph) = start().await;
    let hand_made = graph.add_by_hand(TENANT, CLIENT, "by hand", "2027-11-28T10:00:00Z").unwrap();
    let mut spec = with_overlap("24h");
    merge(&mut spec, json!({"deletionPolicy": "Delete"}));
    env.credential("sales-eu", spec).await;
    env.wait_until_ready("sales-eu").await;
    rotate(&env, "sales-eu", "1").await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert!(env.remote().is_empty());
    let live: Vec<String> = graph.live_secrets(TENANT, CLIENT).into_iter().map(|it| it.key_id).collect();
    assert_eq!(live, [hand_made.key_id], "only the client secret of a person stays");
    assert!(env.api::<SealedGraphCredential>().list(&ListParams::default()).await.unwrap().items.is_empty());
    assert!(env.woodpecker.invalid_periods().is_empty());
}

#[tokio::test]
async fn deletion_with_retain_leaves_the_client_secret_and_a_new_object_continues_with_it() {
    let (env, graph) = start().await;
    env.credential("sales-eu", rotating()).await;
    let first = current_key(&env.wait_until_ready("sales-eu").await).unwrap();
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(env.remote().len(), 1);
    eventually("an event names the client secret that stays", || async {
        let events = env.events("sales-eu").await;
        let is_named = |event: &String| event.starts_with("Retained") && event.contains(&first);
        if events.iter().any(is_named) { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
    wait_for_only(&graph, &first).await;

    env.credential("sales-eu", rotating()).await;
    let object = env.wait_until_ready("sales-eu").await;
    assert_eq!(current_key(&object), Some(first.clone()), "the record was kept");
    assert_eq!(env.remote().len(), 1);
    wait_for_only(&graph, &first).await;
    assert_sound(&env, &["sales-eu"]).await;
}

#[tokio::test]
async fn a_client_secret_whose_record_is_lost_is_replaced() {
    let (env, graph) = start().await;
    env.credential("sales-eu", rotating()).await;
    let first = current_key(&env.wait_until_ready("sales-eu").await).unwrap();
    let records = env.api::<SealedGraphCredential>();
    let name = records.list(&ListParams::default()).await.unwrap().items[0].metadata.name.clone().unwrap();
    records.delete(&name, &DeleteParams::default()).await.expect("the record can be deleted");
    let object = env
        .wait_until("sales-eu", "another client secret is in use", |object| {
            let is_ready =
                condition(object, ConditionType::Ready).is_some_and(|it| it.status == ConditionStatus::True);
            current_key(object).is_some_and(|key| key != first) && is_ready
        })
        .await;
    wait_for_only(&graph, &current_key(&object).unwrap()).await;
    assert_sound(&env, &["sales-eu"]).await;
}

#[tokio::test]
async fn a_status_that_is_lost_is_rebuilt_from_the_record() {
    let (env, graph) = start().await;
    env.credential("sales-eu", rotating()).await;
    let first = current_key(&env.wait_until_ready("sales-eu").await).unwrap();
    let patch = Patch::Merge(json!({"status": null}));
    let api = env.api::<MicrosoftGraphCredential>();
    api.patch_status("sales-eu", &PatchParams::default(), &patch).await.expect("the status can be removed");
    env.request_reconcile("sales-eu").await;
    let object = env.wait_until_ready("sales-eu").await;
    assert_eq!(current_key(&object), Some(first.clone()));
    wait_for_only(&graph, &first).await;
    assert_eq!(graph.history(TENANT, CLIENT).len(), 1);
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn a_new_object_that_takes_over_a_client_secret_and_is_deleted_at_once_breaks_nothing() {
    let (env, graph) = start().await;
    env.credential("sales-eu", rotating()).await;
    let first = current_key(&env.wait_until_ready("sales-eu").await).unwrap();
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    // The account already has a credential for the app, which the new object may not adopt.
    let mut spec = rotating();
    merge(
        &mut spec,
        json!({
            "deletionPolicy": "Delete",
            "destination": {"woodpecker": {"adoption": {"policy": "CreateOnly"}}}
        }),
    );
    env.credential("sales-eu", spec).await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "AlreadyExists").await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    tokio::time::sleep(QUIET_TIME).await;
    let live: Vec<String> = graph.live_secrets(TENANT, CLIENT).into_iter().map(|it| it.key_id).collect();
    assert_eq!(live, [first], "the retained registration has it");
    assert!(env.woodpecker.invalid_periods().is_empty());
}

#[tokio::test]
async fn a_client_secret_that_a_registration_at_the_earlier_account_has_is_never_removed() {
    let (env, graph) = start().await;
    env.account("second", json!({})).await;
    env.credential("sales-eu", rotating()).await;
    let first = current_key(&env.wait_until_ready("sales-eu").await).unwrap();
    let mut spec = rotating();
    merge(&mut spec, json!({"destination": {"woodpecker": {"accountRef": {"name": "second"}}}}));
    env.credential("sales-eu", spec).await;
    env.wait_until("sales-eu", "it is registered at the second account", |object| {
        let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
        registration.is_some_and(|it| it.account.as_ref().is_some_and(|account| account.name == "second"))
    })
    .await;
    let second = current_key(&rotate(&env, "sales-eu", "1").await).unwrap();
    tokio::time::sleep(QUIET_TIME).await;
    let live: Vec<String> = graph.live_secrets(TENANT, CLIENT).into_iter().map(|it| it.key_id).collect();
    assert_eq!(live, [first.clone(), second]);
    let text = message(&env.read("sales-eu").await, ConditionType::RotationReady).to_owned();
    assert!(text.contains(&first), "{text}");
    assert_sound(&env, &["sales-eu"]).await;
}
