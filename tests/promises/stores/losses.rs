//! The keyring is lost: what breaks, what heals, and what does not.

use graph_credential_operator::resources::SealedGraphCredentialSpec;

use super::rotations::keys;
use super::*;
use crate::administers::run;
use crate::stage::API_KEY;
use crate::vault::make_records;

/// A credential at Woodpecker and one in the store, and a record that no object has; the keyring is exported into a
/// file and lost, and no operator runs.
async fn lost() -> (Stage, String, MicrosoftGraphCredentialStatus, MicrosoftGraphCredentialStatus) {
    let mut stage = set().await;
    stage.account("agency", json!({})).await;
    stage.credential("at-woodpecker", json!({})).await;
    stage.credential("sales-eu", store(json!({}))).await;
    let remote = stage.wait_until_ready("at-woodpecker").await.status.unwrap();
    let sealed = is_sealed(&stage, "sales-eu").await;
    make_records(&stage, 1).await;
    stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    let backup = stage.cluster.dir().join(format!("{}.json", stage.namespace)).display().to_string();
    let exported = keys(&stage, "export", &["--file", &backup]).await;
    assert_eq!(exported.code, Some(0), "{exported:?}");
    stage.stop_operator().await;
    stage.delete_secret(KEYRING).await;
    (stage, backup, remote, sealed)
}

/// What the records hold; that of no object gets a status.
async fn specs(stage: &Stage) -> Vec<SealedGraphCredentialSpec> {
    records(stage).await.into_iter().map(|record| record.spec).collect()
}

fn posts_and_patches(stage: &Stage) -> (usize, usize) {
    let requests = stage.woodpecker.requests("agency");
    let count = |op| requests.iter().filter(|request| request.op == op).count();
    (count(kit::woodpecker::Op::Create), count(kit::woodpecker::Op::Update))
}

#[tokio::test]
async fn a_lost_keyring_stops_everything_before_anything_is_written_and_a_backup_heals_all_of_it() {
    let (mut stage, backup, _, _) = lost().await;
    let before = (stage.read("at-woodpecker").await, stage.read("sales-eu").await, specs(&stage).await);
    let (sent, asked) = (posts_and_patches(&stage), stage.entra.requests().len());
    stage.spawn_operator().await;
    eventually("it says what is missing, and the cure", || async {
        let (status, text) = stage.get("/readyz").await;
        let words = ["is missing", "depends on it", "keys import", "keys create --accept-loss"];
        if status == 503 && words.iter().all(|word| text.contains(word)) { Ok(()) } else { Err(text) }
    })
    .await;
    let waits = "mgc_waiting{what=\"keyring\"} 1";
    let (_, metrics) = stage.get("/metrics").await;
    assert!(metrics.contains(waits) && !metrics.contains("mgc_credential_ready{"), "{metrics}");
    let refused = keys(&stage, "create", &[]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.error.contains("depends on the keyring that was there"), "{refused:?}");
    let secret: Option<Secret> = stage.api().get_opt(KEYRING).await.unwrap();
    assert!(secret.is_none(), "nothing is made");

    let imported = keys(&stage, "import", &["--file", &backup]).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    eventually("the operator goes on", || async {
        let (status, text) = stage.get("/readyz").await;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await;
    let (_, metrics) = stage.get("/metrics").await;
    assert!(!metrics.contains("mgc_waiting{"), "{metrics}");
    tokio::time::sleep(A_WHILE).await;
    let after = (stage.read("at-woodpecker").await, stage.read("sales-eu").await, specs(&stage).await);
    assert_eq!(after, before, "nothing was written");
    assert_eq!(posts_and_patches(&stage), sent, "nothing was sent");
    let more = stage.entra.requests().len() - asked;
    assert!(more <= 1, "the record that no object has is looked after, and nothing else is proved: {more}");
    assert_eq!(keys(&stage, "check", &[]).await.code, Some(0));
}

#[tokio::test]
async fn an_accepted_loss_costs_one_update_each_and_only_what_has_no_secret_is_lost_until_a_backup_turns_up()
{
    let (mut stage, backup, remote, sealed) = lost().await;
    let (posts, patches) = posts_and_patches(&stage);
    let created = keys(&stage, "create", &["--accept-loss"]).await;
    assert_eq!(created.code, Some(3), "{created:?}");
    let lost = format!(
        "lost: {}/r-1 (credential 1 \"credential 1\"): no MicrosoftGraphCredential has it",
        stage.namespace
    );
    assert!(created.out.contains(&lost), "{created:?}");
    assert!(
        created.out.contains(
            "1 records are sealed anew from their Secrets by the operator, once Microsoft accepts these"
        ),
        "{created:?}"
    );
    let again = keys(&stage, "create", &["--accept-loss"]).await;
    assert!(again.code == Some(1) && again.error.contains("already"), "{again:?}");

    stage.start_operator().await;
    let new = keyring(&stage).await.fingerprint_keys().ids().next().unwrap();
    for (name, before) in [("at-woodpecker", &remote), ("sales-eu", &sealed)] {
        let after = stage
            .wait_until(name, "a fingerprint under the new key", |object| {
                let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
                registration.is_some_and(|it| it.fingerprint.starts_with(&new.to_string()))
            })
            .await;
        assert_eq!(after.status.unwrap().credential_id, before.credential_id);
        stage.wait_until_ready(name).await;
    }
    assert_eq!(posts_and_patches(&stage), (posts, patches + 1), "one update, and nothing created");
    let checked = keys(&stage, "check", &[]).await;
    assert_eq!(checked.code, Some(3), "{checked:?}");
    assert!(
        checked.out.contains(&format!("{}/r-1: the envelope is sealed under key", stage.namespace)),
        "{checked:?}"
    );
    assert!(checked.out.ends_with("1 of 2 records do not open\n"), "{checked:?}");

    // The operator runs, and takes the backup in.
    let imported = keys(&stage, "import", &["--file", &backup]).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert!(
        imported.out.contains("are added and open") && imported.out.contains("are added, for fingerprints"),
        "{imported:?}"
    );
    let primary = keyring(&stage).await.primary();
    eventually("the record is sealed anew under the key in use", || async {
        let record = records(&stage).await.into_iter().find(|record| record.name_any() == "r-1").unwrap();
        let envelope = Envelope::from_base64(&record.spec.envelope).unwrap();
        if envelope.key_id() == primary { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    let checked = keys(&stage, "check", &[]).await;
    assert_eq!((checked.code, checked.out.as_str()), (Some(0), "all 2 records open\n"));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(posts_and_patches(&stage), (posts, patches + 1), "the backup changes nothing at Woodpecker");
}

#[tokio::test]
async fn what_may_not_heal_after_a_loss_is_named() {
    let mut stage = set().await;
    for name in ["well", "wrong", "gone", "paused"] {
        let secret = format!("{name}-graph");
        stage.secret(&secret, &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
        stage.credential(name, store(json!({"secretRef": {"name": secret}}))).await;
        is_sealed(&stage, name).await;
    }
    stage.secret("wrong-graph", &[("client_secret", "wr0ng")]).await;
    stage
        .wait_until("wrong", "the wrong secret is refused", |object| {
            condition(object, ConditionType::Ready).is_some_and(|it| it.status != ConditionStatus::True)
        })
        .await;
    stage.credential("paused", store(json!({"secretRef": {"name": "paused-graph"}, "suspend": true}))).await;
    stage.stop_operator().await;
    stage.delete_secret("gone-graph").await;
    stage.delete_secret(KEYRING).await;
    let created = keys(&stage, "create", &["--accept-loss"]).await;
    assert_eq!(created.code, Some(3), "{created:?}");
    assert!(created.out.contains("1 records are sealed anew from their Secrets"), "{created:?}");
    for (name, word, why) in [
        ("wrong", "in doubt: ", "was not Ready"),
        ("paused", "in doubt: ", "is suspended"),
        ("gone", "lost: ", "Secret gone-graph, from which it was sealed, is gone"),
    ] {
        let title = format!("\"{}/{name}\"", stage.namespace);
        let line = created.out.lines().find(|line| line.contains(&title));
        assert!(line.is_some_and(|line| line.starts_with(word) && line.contains(why)), "{name}: {created:?}");
    }
}

#[tokio::test]
async fn a_keyring_is_made_only_where_somebody_says() {
    let mut stage = set().await;
    let exported = keys(&stage, "export", &["--stdout"]).await;
    stage.stop_operator().await;
    let file = stage.cluster.dir().join(format!("{}-placed.json", stage.namespace));
    std::fs::write(&file, exported.out).unwrap();
    let import =
        ["keys", "import", "--keyring-secret", "not-there", "--namespace", &stage.namespace, "--file"];
    let path = file.display().to_string();
    for args in [
        &[&import[..], &[&path]].concat()[..],
        &["keys", "create", "--keyring-secret", "not-there", "--accept-loss"],
    ] {
        let refused = run(&stage, args).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.error.contains("add --operator-namespace"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_key_of_an_account_alone_keeps_a_new_keyring_from_being_made() {
    let mut stage = Stage::bare().await;
    stage.start_operator().await;
    stage.account("agency", json!({})).await;
    stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
    stage.stop_operator().await;
    stage.delete_secret(KEYRING).await;
    let refused = keys(&stage, "create", &[]).await;
    assert!(refused.error.contains(&format!("WoodpeckerAccount {}/agency", stage.namespace)), "{refused:?}");
    stage.spawn_operator().await;
    eventually("the operator names the account", || async {
        let (status, text) = stage.get("/readyz").await;
        if status == 503 && text.contains("WoodpeckerAccount") { Ok(()) } else { Err(text) }
    })
    .await;
    assert!(!stage.log().contains(API_KEY));
    let created = keys(&stage, "create", &["--accept-loss"]).await;
    assert_eq!(created.code, Some(0), "{created:?}");
    eventually("it goes on", || async {
        let (status, text) = stage.get("/readyz").await;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await;
    stage.wait_for_account("agency", ConditionStatus::True, "Authenticated").await;
}

#[tokio::test]
async fn a_damaged_keyring_is_neither_replaced_nor_shown() {
    let (mut stage, _, _) = sealed(json!({})).await;
    stage.stop_operator().await;
    let canary = "bm90IHRoaXJ0eS10d28gYnl0ZXM=";
    let damaged = json!({"primary": "0a1b2c3d", "keys": [{"id": "0a1b2c3d", "created": EXPIRY, "bytes": canary}], "fingerprintKeys": []});
    stage.secret(KEYRING, &[("keyring.json", &damaged.to_string())]).await;
    stage.spawn_operator().await;
    eventually("it names the damage and the cure", || async {
        let (status, text) = stage.get("/readyz").await;
        let is_told = text.contains("is damaged")
            && text.contains("keys import")
            && text.contains("fingerprintKeys is empty");
        if status == 503 && is_told && !text.contains(canary) { Ok(()) } else { Err(text) }
    })
    .await;
    for command in [&["list"][..], &["check"], &["rotate"], &["create", "--accept-loss"]] {
        let refused = keys(&stage, command[0], &command[1..]).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.error.contains("is damaged"), "{refused:?}");
        assert!(!refused.error.contains(canary), "{refused:?}");
    }
    assert!(!stage.log().contains(canary));
}
