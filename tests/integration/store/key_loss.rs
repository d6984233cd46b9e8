//! A lost keyring: what breaks, what recovers, and what does not.

use graph_credential_operator::api::SealedGraphCredentialSpec;

use super::rotations::keys;
use super::*;
use crate::admin_cli::run;
use crate::harness::API_KEY;
use crate::keyring_access::make_records;

/// A credential at Woodpecker, one in the store, and a record without an object. The keyring is exported into
/// a file and deleted, and no operator runs.
async fn env_with_lost_keyring()
-> (TestEnv, String, MicrosoftGraphCredentialStatus, MicrosoftGraphCredentialStatus) {
    let mut env = start_env().await;
    env.account("agency", json!({})).await;
    env.credential("at-woodpecker", json!({})).await;
    env.credential("sales-eu", store(json!({}))).await;
    let remote = env.wait_until_ready("at-woodpecker").await.status.unwrap();
    let sealed = is_sealed(&env, "sales-eu").await;
    make_records(&env, 1).await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    let backup = env.cluster.dir().join(format!("{}.json", env.namespace)).display().to_string();
    let exported = keys(&env, "export", &["--file", &backup]).await;
    assert_eq!(exported.code, Some(0), "{exported:?}");
    env.stop_operator().await;
    env.delete_secret(KEYRING).await;
    (env, backup, remote, sealed)
}

/// The specs of the records. The record without an object gets no status.
async fn specs(env: &TestEnv) -> Vec<SealedGraphCredentialSpec> {
    records(env).await.into_iter().map(|record| record.spec).collect()
}

fn posts_and_patches(env: &TestEnv) -> (usize, usize) {
    let requests = env.woodpecker.requests("agency");
    let count = |op| requests.iter().filter(|request| request.op == op).count();
    (count(kit::woodpecker::Op::Create), count(kit::woodpecker::Op::Update))
}

#[tokio::test]
async fn a_lost_keyring_stops_all_writes_and_a_backup_restores_everything() {
    let (mut env, backup, _, _) = env_with_lost_keyring().await;
    let before = (env.read("at-woodpecker").await, env.read("sales-eu").await, specs(&env).await);
    let (sent, requests) = (posts_and_patches(&env), env.entra.requests().len());
    env.spawn_operator().await;
    eventually("it reports what is missing, and what to do", || async {
        let (status, text) = env.get("/readyz").await;
        let words = ["is missing", "depends on it", "keys import", "keys create --accept-loss"];
        if status == 503 && words.iter().all(|word| text.contains(word)) { Ok(()) } else { Err(text) }
    })
    .await;
    let waits = "graph_credential_operator_not_ready{component=\"keyring\"} 1";
    let (_, metrics) = env.get("/metrics").await;
    assert!(metrics.contains(waits) && !metrics.contains("graph_credential_ready{"), "{metrics}");
    let rejected = keys(&env, "create", &[]).await;
    assert_eq!(rejected.code, Some(1), "{rejected:?}");
    assert!(rejected.error.contains("depends on the previous keyring"), "{rejected:?}");
    let secret: Option<Secret> = env.api().get_opt(KEYRING).await.unwrap();
    assert!(secret.is_none(), "nothing is created");

    let imported = keys(&env, "import", &["--file", &backup]).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    eventually("the operator continues", || async {
        let (status, text) = env.get("/readyz").await;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await;
    let (_, metrics) = env.get("/metrics").await;
    assert!(!metrics.contains("graph_credential_operator_not_ready{"), "{metrics}");
    tokio::time::sleep(QUIET_TIME).await;
    let after = (env.read("at-woodpecker").await, env.read("sales-eu").await, specs(&env).await);
    assert_eq!(after, before, "nothing was written");
    assert_eq!(posts_and_patches(&env), sent, "nothing was sent");
    let more = env.entra.requests().len() - requests;
    assert!(more <= 1, "only the record without an object is verified: {more}");
    assert_eq!(keys(&env, "verify", &[]).await.code, Some(0));
}

#[tokio::test]
async fn an_accepted_key_loss_re_encrypts_each_record_that_has_a_secret() {
    let (mut env, backup, remote, sealed) = env_with_lost_keyring().await;
    let (posts, patches) = posts_and_patches(&env);
    let created = keys(&env, "create", &["--accept-loss"]).await;
    assert_eq!(created.code, Some(3), "{created:?}");
    let lost = format!(
        "lost: {}/r-1 (credential 1 \"credential 1\"): it belongs to no MicrosoftGraphCredential",
        env.namespace
    );
    assert!(created.out.contains(&lost), "{created:?}");
    assert!(
        created
            .out
            .contains("the operator re-encrypts 1 records from their Secrets, once Microsoft accepts these"),
        "{created:?}"
    );
    let again = keys(&env, "create", &["--accept-loss"]).await;
    assert!(again.code == Some(1) && again.error.contains("already"), "{again:?}");

    env.start_operator().await;
    let new = keyring(&env).await.fingerprint_keys().ids().next().unwrap();
    for (name, before) in [("at-woodpecker", &remote), ("sales-eu", &sealed)] {
        let after = env
            .wait_until(name, "a fingerprint under the new key", |object| {
                let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
                registration.is_some_and(|it| it.fingerprint.starts_with(&new.to_string()))
            })
            .await;
        assert_eq!(after.status.unwrap().credential_id, before.credential_id);
        env.wait_until_ready(name).await;
    }
    assert_eq!(posts_and_patches(&env), (posts, patches + 1), "one update, and nothing created");
    let checked = keys(&env, "verify", &[]).await;
    assert_eq!(checked.code, Some(3), "{checked:?}");
    assert!(
        checked.out.contains(&format!("{}/r-1: the envelope is encrypted with key", env.namespace)),
        "{checked:?}"
    );
    assert!(checked.out.ends_with("1 of 2 records cannot be decrypted\n"), "{checked:?}");

    // The operator runs while the backup is imported.
    let imported = keys(&env, "import", &["--file", &backup]).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert!(
        imported.out.contains("were added for decryption")
            && imported.out.contains("were added for fingerprints"),
        "{imported:?}"
    );
    let primary = keyring(&env).await.primary();
    eventually("the record is re-encrypted under the key in use", || async {
        let record = records(&env).await.into_iter().find(|record| record.name_any() == "r-1").unwrap();
        let envelope = Envelope::from_base64(&record.spec.envelope).unwrap();
        if envelope.key_id() == primary { Ok(()) } else { Err(env.log()) }
    })
    .await;
    let checked = keys(&env, "verify", &[]).await;
    assert_eq!((checked.code, checked.out.as_str()), (Some(0), "all 2 records can be decrypted\n"));
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(posts_and_patches(&env), (posts, patches + 1), "the backup changes nothing at Woodpecker");
}

#[tokio::test]
async fn records_that_a_key_loss_may_destroy_are_named() {
    let mut env = start_env().await;
    for name in ["well", "wrong", "gone", "paused"] {
        let secret = format!("{name}-graph");
        env.secret(&secret, &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
        env.credential(name, store(json!({"secretRef": {"name": secret}}))).await;
        is_sealed(&env, name).await;
    }
    env.secret("wrong-graph", &[("client_secret", "wr0ng")]).await;
    env.wait_until("wrong", "the wrong secret is refused", |object| {
        condition(object, ConditionType::Ready).is_some_and(|it| it.status != ConditionStatus::True)
    })
    .await;
    env.credential("paused", store(json!({"secretRef": {"name": "paused-graph"}, "suspend": true}))).await;
    env.stop_operator().await;
    env.delete_secret("gone-graph").await;
    env.delete_secret(KEYRING).await;
    let created = keys(&env, "create", &["--accept-loss"]).await;
    assert_eq!(created.code, Some(3), "{created:?}");
    assert!(created.out.contains("the operator re-encrypts 1 records from their Secrets"), "{created:?}");
    for (name, word, why) in [
        ("wrong", "in doubt: ", "was not Ready"),
        ("paused", "in doubt: ", "is suspended"),
        ("gone", "lost: ", "its Secret gone-graph does not exist"),
    ] {
        let title = format!("\"{}/{name}\"", env.namespace);
        let line = created.out.lines().find(|line| line.contains(&title));
        assert!(line.is_some_and(|line| line.starts_with(word) && line.contains(why)), "{name}: {created:?}");
    }
}

#[tokio::test]
async fn a_keyring_is_created_only_on_request() {
    let mut env = start_env().await;
    let exported = keys(&env, "export", &["--stdout"]).await;
    env.stop_operator().await;
    let file = env.cluster.dir().join(format!("{}-placed.json", env.namespace));
    std::fs::write(&file, exported.out).unwrap();
    let import =
        ["keys", "import", "--keyring-secret", "not-there", "--watch-namespace", &env.namespace, "--file"];
    let path = file.display().to_string();
    for args in [
        &[&import[..], &[&path]].concat()[..],
        &["keys", "create", "--keyring-secret", "not-there", "--accept-loss"],
    ] {
        let rejected = run(&env, args).await;
        assert_eq!(rejected.code, Some(1), "{rejected:?}");
        assert!(rejected.error.contains("add --operator-namespace"), "{rejected:?}");
    }
}

#[tokio::test]
async fn an_account_with_a_fingerprint_prevents_a_new_keyring() {
    let mut env = TestEnv::bare().await;
    env.start_operator().await;
    env.account("agency", json!({})).await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    env.stop_operator().await;
    env.delete_secret(KEYRING).await;
    let rejected = keys(&env, "create", &[]).await;
    assert!(rejected.error.contains(&format!("WoodpeckerAccount {}/agency", env.namespace)), "{rejected:?}");
    env.spawn_operator().await;
    eventually("the operator names the account", || async {
        let (status, text) = env.get("/readyz").await;
        if status == 503 && text.contains("WoodpeckerAccount") { Ok(()) } else { Err(text) }
    })
    .await;
    assert!(!env.log().contains(API_KEY));
    let created = keys(&env, "create", &["--accept-loss"]).await;
    assert_eq!(created.code, Some(0), "{created:?}");
    eventually("it continues", || async {
        let (status, text) = env.get("/readyz").await;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await;
    env.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
}

#[tokio::test]
async fn a_damaged_keyring_is_neither_replaced_nor_printed() {
    let (mut env, _, _) = sealed(json!({})).await;
    env.stop_operator().await;
    let canary = "bm90IHRoaXJ0eS10d28gYnl0ZXM=";
    let damaged = json!({"primary": "0a1b2c3d", "keys": [{"id": "0a1b2c3d", "created": EXPIRY, "bytes": canary}], "fingerprintKeys": []});
    env.secret(KEYRING, &[("keyring.json", &damaged.to_string())]).await;
    env.spawn_operator().await;
    eventually("it reports the damage and what to do", || async {
        let (status, text) = env.get("/readyz").await;
        let is_reported = text.contains("is damaged")
            && text.contains("keys import")
            && text.contains("fingerprintKeys is empty");
        if status == 503 && is_reported && !text.contains(canary) { Ok(()) } else { Err(text) }
    })
    .await;
    for command in [&["list"][..], &["verify"], &["rotate"], &["create", "--accept-loss"]] {
        let rejected = keys(&env, command[0], &command[1..]).await;
        assert_eq!(rejected.code, Some(1), "{rejected:?}");
        assert!(rejected.error.contains("is damaged"), "{rejected:?}");
        assert!(!rejected.error.contains(canary), "{rejected:?}");
    }
    assert!(!env.log().contains(canary));
}
