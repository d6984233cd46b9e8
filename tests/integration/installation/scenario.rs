//! Everything that an operator does in production: both destinations, rotation, deletion, a deleted account,
//! a retired key.

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use graph_credential_operator::api::{SealedGraphCredential, WoodpeckerAccount};
use graph_credential_operator::store::envelope::Envelope;
use graph_credential_operator::store::keyring::{self, KeyringRef};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kit::woodpecker::Credential;
use kube::api::{DeleteParams, ObjectMeta, PostParams};

use super::*;
use crate::harness::{CLIENT, EXPIRY, TENANT, message};
use crate::rest_api::{PATH, request_at, sample, serving};

pub async fn run(env: &mut TestEnv, profile: Profile) {
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    let selector = json!({"allowedNamespaces": {"selector": {"matchLabels": {"mail": "yes"}}}});
    env.account("agency", if profile == Profile::Watching { selector } else { json!({}) }).await;
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    let sealed = json!({"destination": {"woodpecker": null, "store": {}}, "deletionPolicy": "Delete"});
    env.credential("sealed", sealed).await;
    env.wait_until_ready("sales-eu").await;
    env.wait_until_ready("sealed").await;

    rotate_the_key(env, !matches!(profile, Profile::Namespaces | Profile::Roles)).await;
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    let rotated = "2028-11-28T23:59:59Z";
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-two"), ("secret_expires_at", rotated)]).await;
    for name in ["sales-eu", "sealed"] {
        env.wait_until(name, "the new expiry", |object| {
            let status = object.status.clone().unwrap_or_default();
            status.expires_at.is_some_and(|at| at.0.to_string().starts_with("2028"))
        })
        .await;
    }
    remove_a_late_duplicate(env).await;
    refer_to_a_missing_account(env).await;
    if profile == Profile::Named {
        env.secret("not-named", &[("client_secret", "s3cret-two"), ("secret_expires_at", EXPIRY)]).await;
        env.credential("other", json!({"secretRef": {"name": "not-named"}})).await;
        env.wait_for("other", ConditionType::SecretReady, ConditionStatus::False, "AccessDenied").await;
        env.delete("other").await;
    }
    let is_removed = profile != Profile::Roles;
    for name in ["sales-eu", "sealed"] {
        let ready = message(&env.read(name).await, ConditionType::Ready).to_owned();
        assert_eq!(ready.contains("deletionPolicy Delete has no effect"), !is_removed, "{ready}");
        env.delete(name).await;
        env.wait_until_gone(name).await;
    }
    let records = env.api::<SealedGraphCredential>().list(&ListParams::default()).await.unwrap();
    let left = (env.remote().len(), records.items.len());
    assert_eq!(
        left,
        if is_removed { (0, 0) } else { (1, 1) },
        "what was created is removed, if the profile has finalizers"
    );

    if is_removed {
        leave_an_orphan(env).await;
    }
    if profile == Profile::Rest {
        use_the_rest_api(env).await;
    }

    let accounts = env.api::<WoodpeckerAccount>();
    accounts.delete("agency", &DeleteParams::default()).await.unwrap();
    eventually("the account is deleted", || async {
        let found = accounts.get_opt("agency").await.unwrap();
        found.map_or(Ok(()), |account| Err(format!("{account:#?}")))
    })
    .await;
    env.account("agency", json!({})).await;
}

/// Names an account that no watch has shown. The operator asks the API server whether it exists.
async fn refer_to_a_missing_account(env: &TestEnv) {
    env.credential("lost", json!({"destination": {"woodpecker": {"accountRef": {"name": "nowhere"}}}})).await;
    env.wait_for("lost", ConditionType::Registered, ConditionStatus::False, "AccountNotFound").await;
    env.delete("lost").await;
    env.wait_until_gone("lost").await;
}

/// A request of the operator takes effect a second time. It reads the object again before it removes the
/// duplicate.
async fn remove_a_late_duplicate(env: &TestEnv) {
    let token = env.read("sales-eu").await.status.unwrap().registration.unwrap().idempotency_token.unwrap();
    let name = format!("sales-eu [{token}]");
    let id = env.woodpecker.put("agency", Credential::new(TENANT, CLIENT, "s3cret-two", EXPIRY, &name));
    crate::drift::recheck_account(env).await;
    eventually("the duplicate is removed", || async {
        let left = env.remote();
        if left.iter().all(|it| it.credential_id != id) { Ok(()) } else { Err(format!("{left:#?}")) }
    })
    .await;
}

/// A credential that is deleted while it is suspended. The operator publishes an event about it on its own
/// Deployment.
async fn leave_an_orphan(env: &TestEnv) {
    env.credential("left", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("left").await;
    env.credential("left", json!({"deletionPolicy": "Delete", "suspend": true})).await;
    env.delete("left").await;
    env.wait_until_gone("left").await;
    let deployments: Api<Deployment> = Api::namespaced(env.client.clone(), release::NAMESPACE);
    let deployment = deployments.list(&ListParams::default()).await.unwrap().items.pop().unwrap();
    let events: Api<Event> = Api::namespaced(env.client.clone(), release::NAMESPACE);
    eventually("the orphan is reported on the Deployment", || async {
        let events = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let is_it = |event: &Event| {
            let uid = event.regarding.as_ref().and_then(|regarding| regarding.uid.clone());
            uid.is_some() && uid == deployment.metadata.uid && event.reason.as_deref() == Some("Orphaned")
        };
        if events.iter().any(is_it) { Ok(()) } else { Err(format!("{events:#?}\n{}", env.log())) }
    })
    .await;
    let left = env.remote();
    env.woodpecker.remove("agency", left[0].credential_id);
}

/// Gives the keyring another primary key, under which the record is re-encrypted. The key before it was
/// retired so long ago that an operator of all namespaces deletes it.
async fn rotate_the_key(env: &TestEnv, is_deleted: bool) {
    let place =
        KeyringRef { namespace: release::NAMESPACE.into(), name: "graph-credential-operator-keyring".into() };
    let long_ago = Timestamp::now() - SignedDuration::from_hours(8 * 24);
    // A record that no object would re-encrypt in a reconciliation.
    let records = env.api::<SealedGraphCredential>();
    let existing = records.list(&ListParams::default()).await.unwrap().items.pop().unwrap();
    let metadata = ObjectMeta { name: Some("r-1".into()), ..ObjectMeta::default() };
    records.create(&PostParams::default(), &SealedGraphCredential { metadata, ..existing }).await.unwrap();
    let rotated = keyring::edit(&env.client, &place, |keyring| {
        let first = keyring.primary();
        let second = keyring.rotate(Timestamp::now()).unwrap();
        keyring.retire(first, 0, long_ago).map(|()| second)
    });
    let (second, _) = rotated.await.expect("the keyring can be changed");
    eventually("the record is re-encrypted", || async {
        let records = records.list(&ListParams::default()).await.unwrap();
        let is_re_encrypted = |record: &SealedGraphCredential| {
            Envelope::from_base64(&record.spec.envelope).unwrap().key_id() == second
        };
        if records.items.iter().all(is_re_encrypted) { Ok(()) } else { Err(env.log()) }
    })
    .await;
    records.delete("r-1", &DeleteParams::default()).await.unwrap();
    if !is_deleted {
        return;
    }
    eventually("the key is deleted", || async {
        // An edit that changes nothing, to read the keyring.
        let read = keyring::edit(&env.client, &place, |keyring| Ok::<_, ()>(keyring.keys().count()));
        let (keys, _) = read.await.map_err(|_| "it cannot be read")?;
        if keys == 1 { Ok(()) } else { Err(format!("{keys} keys\n{}", env.log())) }
    })
    .await;
}

/// Sends each kind of request that the API has.
async fn use_the_rest_api(env: &TestEnv) {
    let address = serving(env.operator.as_ref().unwrap()).await;
    let soon = Timestamp::now() + SignedDuration::from_hours(24 * 13);
    let body = sample(json!({"client_secret": "s3cret-two", "secret_expires_at": soon.to_string()}));
    let created = request_at(&address, "POST", PATH, Some(body)).await;
    assert_eq!(created.status, 201, "{created:?}\n{}", env.log());
    let id = created.json()["credential_id"].clone();
    let one = format!("{PATH}/{id}");
    eventually("its expiry is reported as an event", || async {
        let events = env.events(&format!("r-{id}")).await;
        if events.iter().any(|it| it.contains("within 14 days")) { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let renamed = request_at(&address, "PATCH", &one, Some(json!({"name": "Another"}))).await;
    assert_eq!(renamed.status, 200, "{renamed:?}");
    let listed = request_at(&address, "GET", PATH, None).await;
    assert_eq!(listed.json()["credentials"][0]["name"], "Another", "{listed:?}");
    assert_eq!(request_at(&address, "DELETE", &one, None).await.status, 204);
}
