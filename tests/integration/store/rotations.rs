//! `keys rotate` and `keys retire`: another key encrypts, all records are re-encrypted, and the old key ends.

use std::time::Duration;

use graph_credential_operator::store::keyring::KeyState;

use super::*;
use crate::admin_cli::{CommandOutput, run};
use crate::harness::prepare;
use crate::keyring_access::{left, make_records};

/// Runs a command of `keys` beside the operator.
pub(super) async fn keys(env: &TestEnv, command: &str, more: &[&str]) -> CommandOutput {
    keys_of(env, &env.namespace, command, more).await
}

/// The same for records of another namespace than the operator's.
pub(super) async fn keys_of(env: &TestEnv, served: &str, command: &str, more: &[&str]) -> CommandOutput {
    let scale = env.time_scale.to_string();
    let place = ["keys", command, "--operator-namespace", &env.namespace, "--watch-namespace", served];
    let writes = ["rotate", "retire", "import", "create"].contains(&command);
    let yes: &[&str] = if writes { &["--yes"] } else { &[] };
    let args = [&place[..], &["--time-scale", &scale], yes, more].concat();
    let printed = run(env, &args).await;
    if !more.contains(&"--stdout") {
        contains_no_key(env, &printed).await;
    }
    printed
}

/// Checks that the output of a command contains no key of the keyring.
async fn contains_no_key(env: &TestEnv, printed: &CommandOutput) {
    let secret: Option<Secret> = env.api().get_opt(KEYRING).await.unwrap();
    let Some(data) = secret.and_then(|secret| secret.data) else { return };
    let Ok(json) = serde_json::from_slice::<Value>(&data["keyring.json"].0) else { return };
    for key in json["keys"].as_array().into_iter().chain(json["fingerprintKeys"].as_array()).flatten() {
        let bytes = key["bytes"].as_str().unwrap();
        assert!(!printed.out.contains(bytes) && !printed.error.contains(bytes), "{printed:?}");
    }
}

/// Checks that every created record opens and holds its own secret.
pub(super) async fn all_decrypt(env: &TestEnv, number: usize) {
    let all = records(env).await;
    assert_eq!(all.len(), number);
    let keyring = keyring(env).await;
    for record in &all {
        let opened = graph_credential_operator::store::record::open(record, &keyring).unwrap();
        let is_made = record.name_any().starts_with("r-");
        let expected = if is_made {
            format!("secret of {}", record.spec.credential_id)
        } else {
            "s3cret-one".to_owned()
        };
        assert_eq!(opened.expose(), expected);
    }
}

async fn key_state(env: &TestEnv, key: KeyId) -> Option<KeyState> {
    keyring(env).await.keys().find(|known| known.id == key).map(|known| known.state)
}

/// Changes the keyring so that a key was retired eight days ago.
pub(super) async fn retired_long_ago(env: &TestEnv, key: KeyId) {
    let json = keyring(env).await.to_json().unwrap();
    let mut json: Value = serde_json::from_slice(json.expose()).unwrap();
    let long_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(8 * 24);
    let keys = json["keys"].as_array_mut().unwrap();
    let retired = keys.iter_mut().find(|it| it["id"] == key.to_string()).unwrap();
    assert!(retired["retiredAt"].is_string(), "{key} is retired");
    retired["retiredAt"] = json!(format!("{long_ago:.0}"));
    env.secret(KEYRING, &[("keyring.json", &json.to_string())]).await;
}

#[tokio::test]
async fn a_rotation_re_encrypts_every_record_and_reports_progress() {
    let (env, before, _) = sealed(json!({})).await;
    make_records(&env, 40).await;
    let old = keyring(&env).await.primary();
    let mark = env.cluster.audit_mark().unwrap();
    let rotated = keys(&env, "rotate", &[]).await;
    let new = keyring(&env).await.primary();
    assert_ne!(new, old);
    assert_eq!(rotated.code, Some(0), "{rotated:?}\n{}", env.log());
    for line in [
        format!("key {new} was added as the primary key"),
        format!("every replica encrypts with key {new}"),
        format!("41 records are encrypted with key {new}"),
    ] {
        assert!(rotated.out.contains(&line), "{line}: {rotated:?}");
    }
    assert_eq!(left(&env, new).await, 0);
    all_decrypt(&env, 41).await;
    assert_eq!(key_state(&env, old).await, Some(KeyState::DecryptOnly));
    let status = env.read("sales-eu").await.status.unwrap();
    assert_eq!((status.credential_id, status.registration), (before.credential_id, before.registration));
    // A status write in between makes a write conflict, and the write is repeated.
    let records_written = env
        .cluster
        .audit_since(mark)
        .unwrap()
        .into_iter()
        .filter(|entry| entry.resource == "sealedgraphcredentials" && entry.subresource.is_none())
        .filter(|entry| entry.is_write() && entry.code == Some(200))
        .filter(|entry| entry.namespace.as_deref() == Some(&env.namespace))
        .count();
    assert_eq!(records_written, 41, "each record is written once");

    let listed = keys(&env, "list", &["--output", "json"]).await;
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed["keys"][0]["id"], new.to_string());
    assert_eq!((&listed["keys"][0]["state"], &listed["keys"][0]["records"]), (&json!("primary"), &json!(41)));
    assert_eq!(
        (&listed["keys"][1]["state"], &listed["keys"][1]["records"]),
        (&json!("decrypt only"), &json!(0))
    );
    eventually("metrics show it", || async {
        let (_, metrics) = env.get("/metrics").await;
        let lines = [
            format!("graph_credential_records{{key_id=\"{new}\"}} 41"),
            "graph_credential_record_reencrypt_remaining 0".into(),
        ];
        if lines.iter().all(|line| metrics.contains(line)) { Ok(()) } else { Err(metrics) }
    })
    .await;
    let events = eventually("an event reports its end", || async {
        let events = env.events(KEYRING).await.join("\n");
        if events.contains("Reencrypted: ") { Ok(events) } else { Err(events) }
    })
    .await;
    assert!(events.contains("Reencrypting: 41 records are re-encrypted"), "{events}");
}

#[tokio::test]
async fn a_used_key_is_not_retired_and_a_retired_key_decrypts_for_a_week() {
    let mut env = start_env().await;
    env.credential("sales-eu", store(json!({}))).await;
    is_sealed(&env, "sales-eu").await;
    let old = keyring(&env).await.primary();
    let rejected = keys(&env, "retire", &[&old.to_string()]).await;
    assert_eq!(rejected.code, Some(1), "{rejected:?}");
    assert!(rejected.error.contains(&format!("key {old} is primary")), "{rejected:?}");
    let rejected = keys(&env, "retire", &["00000000"]).await;
    assert!(rejected.error.contains("holds no key 00000000"), "{rejected:?}");

    // No process re-encrypts the records while no operator runs.
    make_records(&env, 3).await;
    env.stop_operator().await;
    let rotated = keys(&env, "rotate", &["--no-wait"]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let rejected = keys(&env, "retire", &[&old.to_string()]).await;
    assert_eq!(rejected.code, Some(1), "{rejected:?}");
    assert!(rejected.error.contains(&format!("key {old} still decrypts 4 records")), "{rejected:?}");
    assert_eq!(key_state(&env, old).await, Some(KeyState::DecryptOnly));

    env.start_operator().await;
    let new = keyring(&env).await.primary();
    eventually("all are re-encrypted", || async {
        let left = left(&env, new).await;
        if left == 0 { Ok(()) } else { Err(format!("{left} left\n{}", env.log())) }
    })
    .await;
    let retired = keys(&env, "retire", &[&old.to_string()]).await;
    assert_eq!(retired.code, Some(0), "{retired:?}");
    assert!(matches!(key_state(&env, old).await, Some(KeyState::Retired(_))), "{retired:?}");
    let early = keys(&env, "retire", &[&old.to_string()]).await;
    assert!(early.code == Some(0) && early.out.contains("nothing was changed"), "{early:?}");
    assert!(matches!(key_state(&env, old).await, Some(KeyState::Retired(_))));
    retired_long_ago(&env, old).await;
    let late = keys(&env, "retire", &[&old.to_string()]).await;
    assert!(late.code == Some(0) && late.out.contains("is deleted"), "{late:?}");
    assert_eq!(key_state(&env, old).await, None);
    all_decrypt(&env, 4).await;
}

#[tokio::test]
async fn a_record_found_under_a_retired_key_is_re_encrypted() {
    let mut env = start_env().await;
    make_records(&env, 2).await;
    let late = records(&env).await.pop().unwrap();
    remove(&env, &late).await;
    let old = keyring(&env).await.primary();
    assert_eq!(keys(&env, "rotate", &[]).await.code, Some(0));
    assert_eq!(keys(&env, "retire", &[&old.to_string()]).await.code, Some(0));
    env.stop_operator().await;
    let restored = SealedGraphCredential { metadata: bare(&late), ..late };
    env.api().create(&PostParams::default(), &restored).await.unwrap();
    env.start_operator().await;
    let new = keyring(&env).await.primary();
    eventually("it is re-encrypted", || async {
        let left = left(&env, new).await;
        if left == 0 { Ok(()) } else { Err(env.log()) }
    })
    .await;
    all_decrypt(&env, 2).await;
}

#[tokio::test]
async fn re_encryption_continues_after_the_operator_is_killed() {
    const RECORDS: i64 = 800;
    let mut env = start_env().await;
    make_records(&env, RECORDS).await;
    let rotated = keys(&env, "rotate", &["--no-wait"]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let new = keyring(&env).await.primary();
    let all = usize::try_from(RECORDS).unwrap();
    eventually("some are re-encrypted", || async {
        if left(&env, new).await < all { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let mut killed = env.operator.take().unwrap();
    killed.kill().await.unwrap();
    let left_by_it = left(&env, new).await;
    assert!((1..all).contains(&left_by_it), "it was in the middle: {left_by_it} left\n{}", killed.log());
    env.start_operator().await;
    eventually("the rest is re-encrypted", || async {
        let left = left(&env, new).await;
        if left == 0 { Ok(()) } else { Err(format!("{left} left\n{}", env.log())) }
    })
    .await;
    all_decrypt(&env, all).await;
}

#[tokio::test]
async fn an_unfinished_rotation_of_an_earlier_version_is_completed_by_the_next_one() {
    let (env, _, _) = sealed(json!({})).await;
    let before = keyring(&env).await.primary();
    let mut unfinished = keyring(&env).await;
    let added = unfinished.rotate(jiff::Timestamp::now()).unwrap();
    let mut json: Value = serde_json::from_slice(unfinished.to_json().unwrap().expose()).unwrap();
    (json["primary"], json["next"]) = (json!(before.to_string()), json!(added.to_string()));
    env.secret(KEYRING, &[("keyring.json", &json.to_string())]).await;
    let rotated = keys(&env, "rotate", &[]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let primary = keyring(&env).await.primary();
    assert!(primary != before && primary != added, "{rotated:?}");
    assert_eq!(left(&env, primary).await, 0);
    assert_eq!(key_state(&env, added).await, Some(KeyState::DecryptOnly));
    let retired = keys(&env, "retire", &[&added.to_string()]).await;
    assert_eq!(retired.code, Some(0), "{retired:?}");
}

#[tokio::test]
async fn a_rotation_without_an_operator_reports_the_remaining_records() {
    let mut env = start_env().await;
    make_records(&env, 2).await;
    env.stop_operator().await;
    let rotated = keys(&env, "rotate", &[]).await;
    assert_eq!(rotated.code, Some(3), "{rotated:?}");
    assert!(rotated.out.contains("2 records are still encrypted with earlier keys"), "{rotated:?}");
    assert!(rotated.out.contains("an operator is running"), "{rotated:?}");
    let key = keyring(&env).await.primary();
    let late = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        env.launch().await
    };
    let rejected = keys(&env, "rotate", &["--no-wait"]).await;
    assert_eq!(rejected.code, Some(3), "{rejected:?}");
    assert!(rejected.out.contains("no rotation was started: 2 records are still encrypted"), "{rejected:?}");
    let (followed, _operator) = tokio::join!(keys(&env, "rotate", &["--follow"]), late);
    assert_eq!(followed.code, Some(0), "{followed:?}");
    assert_eq!(keyring(&env).await.primary(), key, "no other key was added: {followed:?}");
}

#[tokio::test]
async fn an_undecryptable_record_blocks_no_other_record_and_no_retired_key() {
    let cluster = crate::harness::own_cluster().await;
    prepare(cluster).await;
    let mut env = TestEnv::on(cluster).await;
    env.serves_all = true;
    env.start_operator().await;
    make_records(&env, 4).await;
    let all = records(&env).await;
    edit(&env, &all[0], json!({"envelope": all[1].spec.envelope})).await;
    let old = keyring(&env).await.primary();
    let rotated = keys(&env, "rotate", &[]).await;
    assert_eq!(rotated.code, Some(3), "{rotated:?}");
    assert!(rotated.out.contains("1 records are still encrypted with earlier keys"), "{rotated:?}");
    let rejected = keys(&env, "retire", &[&old.to_string()]).await;
    assert!(rejected.error.contains("still decrypts 1 records"), "{rejected:?}");
    let again = keys(&env, "rotate", &["--fresh"]).await;
    assert_eq!(again.code, Some(3), "{again:?}");
    let now = keyring(&env).await;
    let first = now.keys().map(|key| key.id).find(|id| *id != old && *id != now.primary()).unwrap();
    let ended = keys(&env, "retire", &[&first.to_string()]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let retired: Vec<KeyId> = keyring(&env)
        .await
        .keys()
        .filter(|key| matches!(key.state, KeyState::Retired(_)))
        .map(|key| key.id)
        .collect();
    assert_eq!(retired.len(), 1, "the key of the first rotation");
    retired_long_ago(&env, retired[0]).await;
    env.stop_operator().await;
    env.start_operator().await;
    eventually("it is deleted all the same", || async {
        if key_state(&env, retired[0]).await.is_none() { Ok(()) } else { Err(env.log()) }
    })
    .await;
    env.wait_for_event(KEYRING, "1 cannot be decrypted").await;
    // Another sweep, for a record that appears under the earlier key.
    let late = all.last().unwrap().clone();
    remove(&env, &late).await;
    let restored = SealedGraphCredential { metadata: bare(&late), ..late };
    env.api().create(&PostParams::default(), &restored).await.unwrap();
    let rotated = keys(&env, "rotate", &["--fresh", "--no-wait"]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let last = keyring(&env).await.primary();
    eventually("all others are re-encrypted", || async {
        let left = left(&env, last).await;
        if left == 1 { Ok(()) } else { Err(format!("{left}\n{}", env.log())) }
    })
    .await;
    let warned = env.log().matches("cannot be decrypted or re-encrypted").count();
    assert_eq!(warned, 1, "it is named once\n{}", env.log());
}

#[tokio::test]
async fn retiring_counts_the_records_of_namespaces_that_are_not_served() {
    let (env, _, _) = sealed(json!({})).await;
    let elsewhere = env.cluster.create_namespace("elsewhere").await.unwrap();
    let left_there = records(&env).await.pop().unwrap();
    let moved = SealedGraphCredential {
        metadata: ObjectMeta { namespace: Some(elsewhere.clone()), ..bare(&left_there) },
        ..left_there
    };
    let api: kube::Api<SealedGraphCredential> = kube::Api::namespaced(env.client.clone(), &elsewhere);
    api.create(&PostParams::default(), &moved).await.unwrap();
    let old = keyring(&env).await.primary();
    assert_eq!(keys(&env, "rotate", &[]).await.code, Some(0));
    let rejected = keys(&env, "retire", &[&old.to_string()]).await;
    assert_eq!(rejected.code, Some(1), "{rejected:?}");
    assert!(rejected.error.contains("still decrypts 1 records"), "{rejected:?}");
}
