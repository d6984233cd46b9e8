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
