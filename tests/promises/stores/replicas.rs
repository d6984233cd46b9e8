//! Several replicas around a change of keys: frozen, slow, or starting at the same time.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kit::process::Signal;

use super::rotations::{all_open, keys};
use super::*;
use crate::stage::ask;
use crate::vault::{left, make_records};

#[tokio::test]
async fn a_replica_that_is_frozen_across_a_rotation_and_a_retirement_seals_under_no_ended_key() {
    let mut stage = set().await;
    // Both work at the same time, which only the keyring keeps from harm.
    stage.extra_args = vec!["--leader-elect=false".into()];
    stage.stop_operator().await;
    stage.start_operator().await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    make_records(&stage, 5).await;
    let frozen = stage.launch().await;
    eventually("both have acknowledged the keyring", || async {
        let listed = keys(&stage, "list", &["--output", "json"]).await;
        let listed: Value = serde_json::from_str(&listed.out).unwrap();
        let replicas = listed["replicas"].as_array().unwrap().len();
        // The first of the stage's operators has left.
        if replicas == 2 { Ok(()) } else { Err(format!("{listed:#}")) }
    })
    .await;
    let old = keyring(&stage).await.primary();
    frozen.signal(Signal::STOP).unwrap();
    let rotated = keys(&stage, "rotate", &[]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    assert!(
        rotated.error.contains("waiting for "),
        "it was waited for until its Lease had run out: {rotated:?}"
    );
    let new = keyring(&stage).await.primary();
    let retired = keys(&stage, "retire", &[&old.to_string()]).await;
    assert_eq!(retired.code, Some(0), "{retired:?}");

    // The one that was frozen alone seals the new secret.
    stage.stop_operator().await;
    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    put_secret(&stage, "s3cret-two", EXPIRY).await;
    frozen.signal(Signal::CONT).unwrap();
    let name = format!("{}/sales-eu", stage.namespace);
    eventually("the new secret is sealed", || async {
        let record = records(&stage).await.into_iter().find(|record| record.spec.name == name).unwrap();
        let opened = open(&stage, &record).await;
        if opened.as_deref() == Ok("s3cret-two") {
            Ok(())
        } else {
            Err(format!("{opened:?}\n{}", frozen.log()))
        }
    })
    .await;
    eventually("nothing is under the old key", || async {
        let left = left(&stage, new).await;
        if left == 0 { Ok(()) } else { Err(frozen.log()) }
    })
    .await;
    let checked = keys(&stage, "check", &[]).await;
    assert_eq!((checked.code, checked.out.as_str()), (Some(0), "all 6 records open\n"));
}

#[tokio::test]
async fn rotations_one_after_the_other_while_secrets_change_and_replicas_freeze_leave_nothing_behind() {
    const APPS: usize = 4;
    let mut stage = Stage::bare().await;
    stage.extra_args = vec!["--leader-elect=false".into()];
    put_secret(&stage, "s3cret-one", EXPIRY).await;
    stage.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    let replicas = [stage.launch().await, stage.launch().await];
    for app in 0..APPS {
        stage.credential(&format!("app-{app}"), store(json!({}))).await;
    }
    for app in 0..APPS {
        is_sealed(&stage, &format!("app-{app}")).await;
    }
    let mut first = None;
    for round in 0..3 {
        let before = keyring(&stage).await.primary();
        first.get_or_insert(before);
        let frozen = &replicas[round % 2];
        let churn = async {
            for turn in 0..12 {
                let secret = if turn % 2 == 0 { "s3cret-two" } else { "s3cret-one" };
                put_secret(&stage, secret, EXPIRY).await;
                // At any moment of a pass.
                let moment = Duration::from_millis(37 * (turn + 1) % 250);
                tokio::time::sleep(Duration::from_millis(150) + moment).await;
                let signal = if turn % 3 == 0 { Signal::STOP } else { Signal::CONT };
                frozen.signal(signal).unwrap();
            }
            frozen.signal(Signal::CONT).unwrap();
        };
        let rotation = async {
            let rotated = keys(&stage, "rotate", &["--fresh"]).await;
            assert_eq!(rotated.code, Some(0), "{rotated:?}\n{}", replicas[1].log());
        };
        tokio::join!(churn, rotation);
        assert_ne!(keyring(&stage).await.primary(), before);
    }
    let last = keyring(&stage).await.primary();
    eventually("all is under the last key", || async {
        let left = left(&stage, last).await;
        if left == 0 { Ok(()) } else { Err(format!("{left}\n{}\n{}", replicas[0].log(), replicas[1].log())) }
    })
    .await;
    let retired = keys(&stage, "retire", &[&first.unwrap().to_string()]).await;
    assert_eq!(retired.code, Some(0), "{retired:?}");
    let checked = keys(&stage, "check", &[]).await;
    assert_eq!(checked.out, format!("all {APPS} records open\n"));
}

#[tokio::test]
async fn a_key_becomes_primary_only_once_every_living_replica_knows_it() {
    let stage = set().await;
    let lease = json!({
        "metadata": {
            "labels": {"graph-credentials.io/keyring-replica": "true"},
            "annotations": {"graph-credentials.io/keyring": KEYRING, "graph-credentials.io/keyring-acknowledged": "seals=00000001 opens=00000001"}
        },
        "spec": {"holderIdentity": "slow-replica", "leaseDurationSeconds": 3, "renewTime": now()}
    });
    stage.apply::<Lease>("slow", lease).await.unwrap();
    let before = keyring(&stage).await.primary();
    let rotation = keys(&stage, "rotate", &[]);
    let renewals = async {
        for _ in 0..12 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let renewed = Patch::Merge(json!({"spec": {"renewTime": now()}}));
            stage.api::<Lease>().patch("slow", &PatchParams::default(), &renewed).await.unwrap();
            assert_eq!(keyring(&stage).await.primary(), before, "it lives and does not know the key");
        }
        let added = keyring(&stage).await.next().unwrap();
        let knows = format!("seals={before} opens={before},{added}");
        let annotations = json!({"graph-credentials.io/keyring-acknowledged": knows});
        let patch =
            Patch::Merge(json!({"metadata": {"annotations": annotations}, "spec": {"renewTime": now()}}));
        stage.api::<Lease>().patch("slow", &PatchParams::default(), &patch).await.unwrap();
        added
    };
    let (rotated, added) = tokio::join!(rotation, renewals);
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    assert!(rotated.error.contains("waiting for slow-replica to acknowledge key"), "{rotated:?}");
    assert_eq!(keyring(&stage).await.primary(), added);
}

fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

#[tokio::test]
async fn two_replicas_that_start_at_once_make_one_keyring_and_one_record_each() {
    let mut stage = Stage::bare().await;
    stage.extra_args = vec!["--leader-elect=false".into()];
    put_secret(&stage, "s3cret-one", EXPIRY).await;
    for name in ["first", "second", "third"] {
        stage.credential(name, store(json!({}))).await;
    }
    let (one, other) = tokio::join!(stage.launch(), stage.launch());
    let mut ids = BTreeSet::new();
    for name in ["first", "second", "third"] {
        ids.insert(is_sealed(&stage, name).await.credential_id.unwrap());
    }
    assert_eq!((ids.len(), records(&stage).await.len()), (3, 3));
    all_open(&stage, 3).await;
    for replica in [&one, &other] {
        assert_eq!(ask(replica, "/readyz").await.0, 200, "{}", replica.log());
    }
    let listed = keys(&stage, "list", &["--output", "json"]).await;
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1, "{listed:#}");
}
