//! What an operator does in its life: both destinations, rotation, deletion, an account that goes, a key that ends.

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::resources::{SealedGraphCredential, WoodpeckerAccount};
use graph_credential_operator::store::envelope::Envelope;
use graph_credential_operator::store::keyring::{self, KeyringPlace};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kit::woodpecker::Credential;
use kube::api::{DeleteParams, ObjectMeta, PostParams};

use super::*;
use crate::serves::{PATH, ask_at, sample, serving};
use crate::stage::{CLIENT, EXPIRY, TENANT, message};

pub async fn play(stage: &mut Stage, profile: Profile) {
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({})).await;
    stage.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let sealed = json!({"destination": {"woodpecker": null, "store": {}}, "deletionPolicy": "Delete"});
    stage.credential("sealed", sealed).await;
    stage.wait_until_ready("sales-eu").await;
    stage.wait_until_ready("sealed").await;

    rotate_the_key(stage, !matches!(profile, Profile::Namespaces | Profile::Roles)).await;
    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    let rotated = "2028-11-28T23:59:59Z";
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", rotated)]).await;
    for name in ["sales-eu", "sealed"] {
        stage
            .wait_until(name, "the new expiry", |object| {
                let status = object.status.clone().unwrap_or_default();
                status.expires_at.is_some_and(|at| at.0.to_string().starts_with("2028"))
            })
            .await;
    }
    remove_a_late_duplicate(stage).await;
    name_an_account_that_is_not_there(stage).await;
    if profile == Profile::Named {
        stage.secret("not-named", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
        stage.credential("other", json!({"secretRef": {"name": "not-named"}})).await;
        stage.wait_for("other", ConditionType::SourceReady, ConditionStatus::False, "AccessDenied").await;
        stage.delete("other").await;
    }
    let is_removed = profile != Profile::Roles;
    for name in ["sales-eu", "sealed"] {
        let ready = message(&stage.read(name).await, ConditionType::Ready).to_owned();
        assert_eq!(ready.contains("deletionPolicy Delete is not carried out"), !is_removed, "{ready}");
        stage.delete(name).await;
        stage.wait_until_gone(name).await;
    }
    let records = stage.api::<SealedGraphCredential>().list(&ListParams::default()).await.unwrap();
    let left = (stage.remote().len(), records.items.len());
    assert_eq!(
        left,
        if is_removed { (0, 0) } else { (1, 1) },
        "what was made is removed, where that is carried out"
    );

    if is_removed {
        leave_an_orphan(stage).await;
    }
    if profile == Profile::Rest {
        use_the_rest_api(stage).await;
    }

    let accounts = stage.api::<WoodpeckerAccount>();
    accounts.delete("agency", &DeleteParams::default()).await.unwrap();
    eventually("the account goes", || async {
        let found = accounts.get_opt("agency").await.unwrap();
        found.map_or(Ok(()), |account| Err(format!("{account:#?}")))
    })
    .await;
    stage.account("agency", json!({})).await;
}

/// Whether an account is there that no watch has shown is asked of the API server.
async fn name_an_account_that_is_not_there(stage: &Stage) {
    stage
        .credential("lost", json!({"destination": {"woodpecker": {"accountRef": {"name": "nowhere"}}}}))
        .await;
    stage.wait_for("lost", ConditionType::Registered, ConditionStatus::False, "AccountNotFound").await;
    stage.delete("lost").await;
    stage.wait_until_gone("lost").await;
}

/// A request of ours takes effect a second time: the object is read again before the duplicate is removed.
async fn remove_a_late_duplicate(stage: &Stage) {
    let token = stage.read("sales-eu").await.status.unwrap().registration.unwrap().token.unwrap();
    let name = format!("sales-eu [{token}]");
    let id = stage.woodpecker.put("agency", Credential::new(TENANT, CLIENT, "s3cret-two", EXPIRY, &name));
    crate::drifts::look_again(stage).await;
    eventually("the duplicate is removed", || async {
        let left = stage.remote();
        if left.iter().all(|it| it.credential_id != id) { Ok(()) } else { Err(format!("{left:#?}")) }
    })
    .await;
}

/// A credential that is deleted while it is suspended, which the operator tells on its own Deployment.
async fn leave_an_orphan(stage: &Stage) {
    stage.credential("left", json!({"deletionPolicy": "Delete"})).await;
    stage.wait_until_ready("left").await;
    stage.credential("left", json!({"deletionPolicy": "Delete", "suspend": true})).await;
    stage.delete("left").await;
    stage.wait_until_gone("left").await;
    let deployments: Api<Deployment> = Api::namespaced(stage.client.clone(), release::NAMESPACE);
    let deployment = deployments.list(&ListParams::default()).await.unwrap().items.pop().unwrap();
    let events: Api<Event> = Api::namespaced(stage.client.clone(), release::NAMESPACE);
    eventually("the orphan is told on the Deployment", || async {
        let events = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let is_it = |event: &Event| {
            let uid = event.regarding.as_ref().and_then(|regarding| regarding.uid.clone());
            uid.is_some() && uid == deployment.metadata.uid && event.reason.as_deref() == Some("Orphaned")
        };
        if events.iter().any(is_it) { Ok(()) } else { Err(format!("{events:#?}\n{}", stage.log())) }
    })
    .await;
    let left = stage.remote();
    stage.woodpecker.remove("agency", left[0].credential_id);
}

/// The keyring gets another primary key, under which the record is sealed anew. The one before it was retired so long ago
/// that an operator of all namespaces deletes it.
async fn rotate_the_key(stage: &Stage, is_deleted: bool) {
    let place = KeyringPlace {
        namespace: release::NAMESPACE.into(),
        name: "graph-credential-operator-keyring".into(),
    };
    let long_ago = Timestamp::now() - SignedDuration::from_hours(8 * 24);
    // One that no object seals anew in a pass of its own.
    let records = stage.api::<SealedGraphCredential>();
    let ours = records.list(&ListParams::default()).await.unwrap().items.pop().unwrap();
    let metadata = ObjectMeta { name: Some("r-1".into()), ..ObjectMeta::default() };
    records.create(&PostParams::default(), &SealedGraphCredential { metadata, ..ours }).await.unwrap();
    let rotated = keyring::edit(&stage.client, &place, |keyring| {
        let first = keyring.primary();
        let second = keyring.rotate(Timestamp::now()).unwrap();
        keyring.retire(first, 0, long_ago).map(|()| second)
    });
    let (second, _) = rotated.await.expect("the keyring can be changed");
    eventually("the record is sealed anew", || async {
        let records = records.list(&ListParams::default()).await.unwrap();
        let is_anew = |record: &SealedGraphCredential| {
            Envelope::from_base64(&record.spec.envelope).unwrap().key_id() == second
        };
        if records.items.iter().all(is_anew) { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    records.delete("r-1", &DeleteParams::default()).await.unwrap();
    if !is_deleted {
        return;
    }
    eventually("the key is deleted", || async {
        // A change that changes nothing reads it.
        let read = keyring::edit(&stage.client, &place, |keyring| Ok::<_, ()>(keyring.keys().count()));
        let (keys, _) = read.await.map_err(|_| "it cannot be read")?;
        if keys == 1 { Ok(()) } else { Err(format!("{keys} keys\n{}", stage.log())) }
    })
    .await;
}

/// Each request that the API has.
async fn use_the_rest_api(stage: &Stage) {
    let address = serving(stage.operator.as_ref().unwrap()).await;
    let soon = Timestamp::now() + SignedDuration::from_hours(24 * 13);
    let body = sample(json!({"client_secret": "s3cret-two", "secret_expires_at": soon.to_string()}));
    let made = ask_at(&address, "POST", PATH, Some(body)).await;
    assert_eq!(made.status, 201, "{made:?}\n{}", stage.log());
    let id = made.json()["credential_id"].clone();
    let one = format!("{PATH}/{id}");
    eventually("its expiry is told as an event", || async {
        let events = stage.events(&format!("r-{id}")).await;
        if events.iter().any(|it| it.contains("within 14 days")) { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    let renamed = ask_at(&address, "PATCH", &one, Some(json!({"name": "Another"}))).await;
    assert_eq!(renamed.status, 200, "{renamed:?}");
    let listed = ask_at(&address, "GET", PATH, None).await;
    assert_eq!(listed.json()["credentials"][0]["name"], "Another", "{listed:?}");
    assert_eq!(ask_at(&address, "DELETE", &one, None).await.status, 204);
}
