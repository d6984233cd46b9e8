//! Times in a status from another clock, a restored backup or an edit: none postpones anything.

use graph_credential_operator::api::MicrosoftGraphCredential;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{CLIENT, TENANT, TestEnv, eventually};

fn days(days: i64) -> String {
    let at = Timestamp::now() + SignedDuration::from_hours(24 * days);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

async fn write_status(env: &TestEnv, name: &str, status: Value) {
    let patch = Patch::Merge(json!({"status": status}));
    let credentials = env.api::<MicrosoftGraphCredential>();
    credentials.patch_status(name, &PatchParams::default(), &patch).await.expect("the status can be written");
}

#[tokio::test]
async fn a_status_from_a_year_ahead_or_back_postpones_no_verification() {
    let mut env = TestEnv::start().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    for year in [365, -365] {
        env.stop_operator().await;
        let before = env.entra.count(TENANT, CLIENT);
        let status = json!({
            "lastVerifiedTime": days(year),
            "nextAttemptTime": days(year),
            "nextVerificationTime": days(year),
            "registration": {"registrationTime": days(year), "updateSentTime": days(year)}
        });
        write_status(&env, "sales-eu", status).await;
        env.start_operator().await;
        eventually("the secret is verified, and every time is overwritten", || async {
            let status = env.read("sales-eu").await.status.unwrap();
            let verified = status.last_verified_time.as_ref().unwrap().0;
            let is_now = (Timestamp::now() - verified).get_hours().abs() < 1;
            let registration = status.registration.as_ref().unwrap();
            let is_planned = status.next_attempt_time.is_some() || status.next_verification_time.is_some();
            let is_clean = !is_planned && registration.update_sent_time.is_none();
            if is_now && is_clean && env.entra.count(TENANT, CLIENT) > before {
                Ok(())
            } else {
                Err(format!("{year}: {status:#?}\n{}", env.log()))
            }
        })
        .await;
        env.wait_until_ready("sales-eu").await;
        assert_eq!(env.entra.count(TENANT, CLIENT), before + 1, "once");
    }
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn a_retry_that_was_planned_for_next_year_is_done_now() {
    let mut env = TestEnv::start().await;
    env.entra.disable_app(TENANT, CLIENT);
    env.credential("sales-eu", json!({})).await;
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "AwaitingPropagation").await;
    env.stop_operator().await;
    let status = json!({"nextVerificationTime": days(365), "pendingSecret": {"firstSeenTime": days(365)}});
    write_status(&env, "sales-eu", status).await;
    env.start_operator().await;
    let object = env
        .wait_until("sales-eu", "the rejection counts", |object| {
            let verified = crate::harness::condition(object, ConditionType::Verified);
            verified.is_some_and(|it| it.status == ConditionStatus::False)
        })
        .await;
    let pending = object.status.unwrap().pending_secret.unwrap();
    assert!(pending.first_seen_time.0 < Timestamp::now(), "{pending:?}");
}

const YEAR: i64 = 365 * 24 * 3600;

/// A credential from its creation to its deletion: at Woodpecker, and in the store.
async fn life_cycle(env: &TestEnv, round: usize) {
    let values = [("client_secret", "s3cret-one"), ("secret_expires_at", "2099-01-01")];
    env.secret("life-cycle-graph", &values).await;
    let names = ["registered", "stored"].map(|kind| format!("{kind}-{round}"));
    for (number, name) in names.iter().enumerate() {
        let client = format!("00000000-0000-4000-8000-{:012}", 2 * round + number);
        env.entra.add_app(TENANT, &client);
        env.entra.set_secrets(TENANT, &client, &["s3cret-one"]);
        let source = json!({"name": "life-cycle-graph"});
        let mut spec = json!({"clientId": client, "secretRef": source, "deletionPolicy": "Delete"});
        if number == 1 {
            spec["destination"] = json!({"store": {}, "woodpecker": null});
        }
        env.credential(name, spec).await;
    }
    for name in &names {
        env.wait_until_ready(name).await;
    }
    assert_eq!(env.remote().len(), 2, "the lasting one and this one");
    for name in &names {
        env.delete(name).await;
        env.wait_until_gone(name).await;
    }
    assert_eq!(env.remote().len(), 1, "the lasting one");
}

/// The lasting credential is verified by the moved clock, and gets a new secret.
async fn rotate(env: &TestEnv, round: usize, ahead: i64) {
    let secret = format!("s3cret-{round}");
    env.entra.set_secrets(TENANT, CLIENT, &[&secret]);
    env.secret("sales-eu-graph", &[("client_secret", &secret), ("secret_expires_at", "2099-01-01")]).await;
    env.wait_until("lasting", "it is verified by the moved clock, and registered", |object| {
        let status = object.status.clone().unwrap_or_default();
        let at = status.last_verified_time.map_or(Timestamp::MIN, |at| at.0);
        let is_now = (Timestamp::now() + SignedDuration::from_secs(ahead) - at).get_hours().abs() < 1;
        let is_sent =
            status.credential_id.is_some_and(|id| env.woodpecker.secret_matches("agency", id, &secret));
        is_now && is_sent
    })
    .await;
    env.wait_until_ready("lasting").await;
}

#[tokio::test]
async fn whole_life_cycles_go_on_while_the_clock_jumps_a_year_ahead_and_back() {
    let mut env = TestEnv::bare().await;
    let clock = kit::clock::Clock::new(&env.cluster.dir().join(&env.namespace)).expect("cc");
    env.extra_env.extend(clock.env());
    env.start_operator().await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", "2099-01-01")])
        .await;
    env.account("agency", json!({})).await;
    env.credential("lasting", json!({})).await;
    env.wait_until_ready("lasting").await;
    for (round, ahead) in [YEAR, -YEAR, 0, -YEAR, YEAR, 0].into_iter().enumerate() {
        clock.set_ahead(ahead).unwrap();
        if round >= 3 {
            env.stop_operator().await;
            env.start_operator().await;
        }
        life_cycle(&env, round).await;
        rotate(&env, round, ahead).await;
    }
}
