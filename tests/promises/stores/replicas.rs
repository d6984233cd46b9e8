//! Several replicas around a change of keys: frozen, slow, or starting at the same time.

use std::time::Duration;

use http::StatusCode;
use kit::process::Signal;

use super::rotations::{all_open, keys};
use super::*;
use crate::serves::front::Front;
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
    eventually("both work", || async {
        let (status, text) = ask(&frozen, "/readyz").await;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await;
    let old = keyring(&stage).await.primary();
    frozen.signal(Signal::STOP).unwrap();
    let rotated = keys(&stage, "rotate", &[]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
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

/// Waits until the operator has written nothing for a moment.
async fn quiet(stage: &Stage) {
    eventually("nothing is written", || async {
        let mark = stage.cluster.audit_mark().unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let writes = stage.status_writes(mark);
        if writes.is_empty() { Ok(()) } else { Err(format!("{writes:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_replica_whose_look_ups_of_keys_fail_says_nothing_about_records_under_keys_it_does_not_know() {
    let mut stage = Stage::bare().await;
    let front = Front::before(&mut stage).await;
    stage.start_operator().await;
    put_secret(&stage, "s3cret-one", EXPIRY).await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    let seen = |text: &str| stage.log().matches(text).count();
    let (of_object, of_record) =
        ("the key of the record could not be looked up", "a record is not verified without");
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS, StatusCode::FORBIDDEN] {
        quiet(&stage).await;
        let mark = stage.cluster.audit_mark().unwrap();
        let before = stage.read("sales-eu").await;
        let before_it = (seen(of_object), seen(of_record));
        front.answer(KEYRING, status);
        // What another replica does meanwhile.
        let sealed = record(&stage).await;
        let mut rotated = keyring(&stage).await;
        rotated.rotate(jiff::Timestamp::now()).unwrap();
        let json = rotated.to_json().unwrap();
        stage.secret(KEYRING, &[("keyring.json", std::str::from_utf8(json.expose()).unwrap())]).await;
        let envelope = Envelope::from_base64(&sealed.spec.envelope).unwrap();
        let secret = envelope.open(&rotated, Binding::of(&sealed)).unwrap();
        let envelope = Envelope::seal(&rotated, Binding::of(&sealed), &secret).unwrap().to_base64();
        edit(&stage, &sealed, json!({"envelope": envelope})).await;
        make_records(&stage, 1).await;
        eventually("the keys of both are looked up", || async {
            let now = (seen(of_object), seen(of_record));
            if now.0 > before_it.0 && now.1 > before_it.1 { Ok(()) } else { Err(stage.log()) }
        })
        .await;
        assert_eq!(stage.status_writes(mark), [""; 0], "{status}\n{}", stage.log());

        front.mend();
        let saved = eventually("the record of no object is opened and proved", || async {
            let saved: SealedGraphCredential = stage.api().get("r-1").await.unwrap();
            if saved.status.is_some() { Ok(saved) } else { Err(stage.log()) }
        })
        .await;
        remove(&stage, &saved).await;
        eventually("the operator has read the keyring", || async {
            let (text, key) = (stage.get("/metrics").await.1, rotated.primary());
            if text.contains(&format!("mgc_sealed_records{{key_id=\"{key}\"}} ")) {
                Ok(())
            } else {
                Err(text)
            }
        })
        .await;
        let after = record(&stage).await;
        assert_eq!(
            (after.metadata.generation, after.spec.envelope),
            (sealed.metadata.generation.map(|it| it + 1), envelope)
        );
        assert_eq!(stage.read("sales-eu").await.status, before.status);
    }
    for word in ["does not open", "PassFailed"] {
        let told = stage.events("sales-eu").await.join("\n");
        assert!(!stage.log().contains(word) && !told.contains(word), "{told}\n{}", stage.log());
    }
}
