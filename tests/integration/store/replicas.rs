//! Several replicas during a change of keys: frozen, slow, or starting at the same time.

use std::time::Duration;

use http::StatusCode;
use kit::process::Signal;

use super::rotations::{all_decrypt, keys};
use super::*;
use crate::harness::send_get;
use crate::keyring_access::{left, make_records};
use crate::rest_api::fault_proxy::FaultProxy;

#[tokio::test]
async fn a_replica_frozen_during_a_rotation_never_encrypts_with_a_retired_key() {
    let mut env = start_env().await;
    // Both work at the same time, and only the keyring's rules protect the records.
    env.extra_args = vec!["--leader-elect=false".into()];
    env.stop_operator().await;
    env.start_operator().await;
    env.credential("sales-eu", store(json!({}))).await;
    is_sealed(&env, "sales-eu").await;
    make_records(&env, 5).await;
    let frozen = env.launch().await;
    eventually("both work", || async {
        let (status, text) = send_get(&frozen, "/readyz").await;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await;
    let old = keyring(&env).await.primary();
    frozen.signal(Signal::STOP).unwrap();
    let rotated = keys(&env, "rotate", &[]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let new = keyring(&env).await.primary();
    let retired = keys(&env, "retire", &[&old.to_string()]).await;
    assert_eq!(retired.code, Some(0), "{retired:?}");

    // Only the replica that was frozen encrypts the new secret.
    env.stop_operator().await;
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    put_secret(&env, "s3cret-two", EXPIRY).await;
    frozen.signal(Signal::CONT).unwrap();
    let name = format!("{}/sales-eu", env.namespace);
    eventually("the new secret is encrypted", || async {
        let record = records(&env).await.into_iter().find(|record| record.spec.name == name).unwrap();
        let opened = open(&env, &record).await;
        if opened.as_deref() == Ok("s3cret-two") {
            Ok(())
        } else {
            Err(format!("{opened:?}\n{}", frozen.log()))
        }
    })
    .await;
    eventually("nothing is under the old key", || async {
        let left = left(&env, new).await;
        if left == 0 { Ok(()) } else { Err(frozen.log()) }
    })
    .await;
    let checked = keys(&env, "verify", &[]).await;
    assert_eq!((checked.code, checked.out.as_str()), (Some(0), "all 6 records can be decrypted\n"));
}

#[tokio::test]
async fn repeated_rotations_with_changing_secrets_and_frozen_replicas_complete() {
    const APPS: usize = 4;
    let mut env = TestEnv::bare().await;
    env.extra_args = vec!["--leader-elect=false".into()];
    put_secret(&env, "s3cret-one", EXPIRY).await;
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    let replicas = [env.launch().await, env.launch().await];
    for app in 0..APPS {
        env.credential(&format!("app-{app}"), store(json!({}))).await;
    }
    for app in 0..APPS {
        is_sealed(&env, &format!("app-{app}")).await;
    }
    let mut first = None;
    for round in 0..3 {
        let before = keyring(&env).await.primary();
        first.get_or_insert(before);
        let frozen = &replicas[round % 2];
        let churn = async {
            for round in 0..12 {
                let secret = if round % 2 == 0 { "s3cret-two" } else { "s3cret-one" };
                put_secret(&env, secret, EXPIRY).await;
                // At a different moment of a reconciliation each time.
                let jitter = Duration::from_millis(37 * (round + 1) % 250);
                tokio::time::sleep(Duration::from_millis(150) + jitter).await;
                let signal = if round % 3 == 0 { Signal::STOP } else { Signal::CONT };
                frozen.signal(signal).unwrap();
            }
            frozen.signal(Signal::CONT).unwrap();
        };
        let rotation = async {
            let rotated = keys(&env, "rotate", &["--fresh"]).await;
            assert_eq!(rotated.code, Some(0), "{rotated:?}\n{}", replicas[1].log());
        };
        tokio::join!(churn, rotation);
        assert_ne!(keyring(&env).await.primary(), before);
    }
    let last = keyring(&env).await.primary();
    eventually("all is under the last key", || async {
        let left = left(&env, last).await;
        if left == 0 { Ok(()) } else { Err(format!("{left}\n{}\n{}", replicas[0].log(), replicas[1].log())) }
    })
    .await;
    let retired = keys(&env, "retire", &[&first.unwrap().to_string()]).await;
    assert_eq!(retired.code, Some(0), "{retired:?}");
    let checked = keys(&env, "verify", &[]).await;
    assert_eq!(checked.out, format!("all {APPS} records can be decrypted\n"));
}

#[tokio::test]
async fn two_replicas_that_start_together_create_one_keyring_and_no_duplicate_record() {
    let mut env = TestEnv::bare().await;
    env.extra_args = vec!["--leader-elect=false".into()];
    put_secret(&env, "s3cret-one", EXPIRY).await;
    for name in ["first", "second", "third"] {
        env.credential(name, store(json!({}))).await;
    }
    let (one, other) = tokio::join!(env.launch(), env.launch());
    let mut ids = BTreeSet::new();
    for name in ["first", "second", "third"] {
        ids.insert(is_sealed(&env, name).await.credential_id.unwrap());
    }
    assert_eq!((ids.len(), records(&env).await.len()), (3, 3));
    all_decrypt(&env, 3).await;
    for replica in [&one, &other] {
        assert_eq!(send_get(replica, "/readyz").await.0, 200, "{}", replica.log());
    }
    let listed = keys(&env, "list", &["--output", "json"]).await;
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1, "{listed:#}");
}

/// Waits until the operator has not written for a moment.
async fn wait_until_idle(env: &TestEnv) {
    eventually("nothing is written", || async {
        let mark = env.cluster.audit_mark().unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let writes = env.status_writes(mark);
        if writes.is_empty() { Ok(()) } else { Err(format!("{writes:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_cannot_read_the_keyring_reports_nothing_about_unknown_keys() {
    let mut env = TestEnv::bare().await;
    let fault_proxy = FaultProxy::before(&mut env).await;
    env.start_operator().await;
    put_secret(&env, "s3cret-one", EXPIRY).await;
    env.credential("sales-eu", store(json!({}))).await;
    is_sealed(&env, "sales-eu").await;
    let seen = |text: &str| env.log().matches(text).count();
    let (of_object, of_record) =
        ("failed to look up the key of the record", "failed to read the keyring to verify a record");
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS, StatusCode::FORBIDDEN] {
        wait_until_idle(&env).await;
        let mark = env.cluster.audit_mark().unwrap();
        let before = env.read("sales-eu").await;
        let before_it = (seen(of_object), seen(of_record));
        fault_proxy.respond_with(KEYRING, status);
        // What another replica does meanwhile.
        let sealed = record(&env).await;
        let mut rotated = keyring(&env).await;
        rotated.rotate(jiff::Timestamp::now()).unwrap();
        let json = rotated.to_json().unwrap();
        env.secret(KEYRING, &[("keyring.json", std::str::from_utf8(json.expose()).unwrap())]).await;
        let envelope = Envelope::from_base64(&sealed.spec.envelope).unwrap();
        let secret = envelope.open(&rotated, AssociatedData::of(&sealed)).unwrap();
        let envelope = Envelope::seal(&rotated, AssociatedData::of(&sealed), &secret).unwrap().to_base64();
        edit(&env, &sealed, json!({"envelope": envelope})).await;
        make_records(&env, 1).await;
        eventually("the keys of both are looked up", || async {
            let now = (seen(of_object), seen(of_record));
            if now.0 > before_it.0 && now.1 > before_it.1 { Ok(()) } else { Err(env.log()) }
        })
        .await;
        assert_eq!(env.status_writes(mark), [""; 0], "{status}\n{}", env.log());

        fault_proxy.recover();
        let saved = eventually("the record without an object is decrypted and verified", || async {
            let saved: SealedGraphCredential = env.api().get("r-1").await.unwrap();
            if saved.status.is_some() { Ok(saved) } else { Err(env.log()) }
        })
        .await;
        remove(&env, &saved).await;
        eventually("the operator has read the keyring", || async {
            let (text, key) = (env.get("/metrics").await.1, rotated.primary());
            if text.contains(&format!("graph_credential_records{{key_id=\"{key}\"}} ")) {
                Ok(())
            } else {
                Err(text)
            }
        })
        .await;
        let after = record(&env).await;
        assert_eq!(
            (after.metadata.generation, after.spec.envelope),
            (sealed.metadata.generation.map(|it| it + 1), envelope)
        );
        assert_eq!(env.read("sales-eu").await.status, before.status);
    }
    for word in ["could not be decrypted", "cannot be decrypted", "failed to decrypt", "ReconcileFailed"] {
        let events = env.events("sales-eu").await.join("\n");
        assert!(!env.log().contains(word) && !events.contains(word), "{events}\n{}", env.log());
    }
}
