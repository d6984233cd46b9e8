//! Backups of the keyring, imported into another cluster too; every record is checked and verified without
//! showing it.

use std::os::unix::fs::PermissionsExt;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use super::rotations::{keys, keys_of};
use super::*;
use crate::admin_cli::run;
use crate::harness::prepare;
use crate::keyring_access::make_records;

#[tokio::test]
async fn a_backup_decrypts_every_record_in_an_empty_cluster() {
    let (env, before, _) = sealed(json!({})).await;
    make_records(&env, 3).await;
    let exported = keys(&env, "export", &["--stdout"]).await;
    assert_eq!(exported.code, Some(0), "{}", exported.error);
    let saved = records(&env).await;

    let cluster = crate::harness::own_cluster().await;
    prepare(cluster).await;
    let mut other = TestEnv::on(cluster).await;
    let namespaces: Api<Namespace> = Api::all(other.client.clone());
    let same = Namespace {
        metadata: ObjectMeta { name: Some(env.namespace.clone()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    namespaces.create(&PostParams::default(), &same).await.unwrap();
    // The operator is in a namespace of another name there. Records open only in their own namespace.
    let served = env.namespace.clone();
    let api: Api<SealedGraphCredential> = Api::namespaced(other.client.clone(), &served);
    for record in saved {
        let restored = SealedGraphCredential { metadata: bare(&record), ..record };
        api.create(&PostParams::default(), &restored).await.unwrap();
    }
    let file = cluster.dir().join("keyring.json");
    std::fs::write(&file, &exported.out).unwrap();
    let imported = keys_of(&other, &served, "import", &["--file", &file.display().to_string()]).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let checked = keys_of(&other, &served, "verify", &[]).await;
    assert_eq!(
        (checked.code, checked.out.as_str()),
        (Some(0), "all 4 records can be decrypted\n"),
        "{checked:?}"
    );

    other.extra_args = vec!["--watch-namespace".into(), served.clone()];
    other.start_operator().await;
    let keyring_namespace = std::mem::replace(&mut other.namespace, served);
    put_secret(&other, "s3cret-one", EXPIRY).await;
    other.credential("sales-eu", store(json!({}))).await;
    let after = is_sealed(&other, "sales-eu").await;
    assert_eq!(after.credential_id, before.credential_id, "it has taken its record over");
    assert_eq!(records(&other).await.len(), 4);
    other.namespace = keyring_namespace;
}

#[tokio::test]
async fn a_deleted_key_can_be_imported_again_for_its_records() {
    let cluster = crate::harness::own_cluster().await;
    prepare(cluster).await;
    let mut env = TestEnv::on(cluster).await;
    // An operator that deletes keys whose time is over.
    env.serves_all = true;
    env.start_operator().await;
    make_records(&env, 2).await;
    let saved = records(&env).await;
    let old = keyring(&env).await.primary();
    assert_eq!(keys(&env, "rotate", &[]).await.code, Some(0));
    assert_eq!(keys(&env, "retire", &[&old.to_string()]).await.code, Some(0));
    super::rotations::retired_long_ago(&env, old).await;
    let exported = keys(&env, "export", &["--stdout"]).await;
    let deleted = keys(&env, "retire", &[&old.to_string()]).await;
    assert!(deleted.out.contains("is deleted"), "{deleted:?}");
    let file = env.cluster.dir().join(format!("{}-old.json", env.namespace));
    std::fs::write(&file, exported.out).unwrap();
    let imported = keys(&env, "import", &["--file", &file.display().to_string()]).await;
    assert!(imported.code == Some(0) && imported.out.contains(&old.to_string()), "{imported:?}");
    // The operator checks, and keeps the key: it counts as retired since its import.
    env.stop_operator().await;
    env.start_operator().await;
    tokio::time::sleep(QUIET_TIME).await;
    assert!(keyring(&env).await.keys().any(|key| key.id == old), "{}", env.log());
    for record in records(&env).await {
        remove(&env, &record).await;
    }
    for record in saved {
        let restored = SealedGraphCredential { metadata: bare(&record), ..record };
        env.api().create(&PostParams::default(), &restored).await.unwrap();
    }
    let checked = keys(&env, "verify", &[]).await;
    assert_eq!(checked.out, "all 2 records can be decrypted\n", "{checked:?}");
}

#[tokio::test]
async fn an_export_is_private_and_overwrites_nothing() {
    let env = start_env().await;
    let path = env.cluster.dir().join(format!("{}-export.json", env.namespace));
    let file = path.display().to_string();
    assert_eq!(keys(&env, "export", &["--file", &file]).await.code, Some(0));
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let written = Keyring::from_json(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(written.primary(), keyring(&env).await.primary());
    let again = keys(&env, "export", &["--file", &file]).await;
    assert!(again.code == Some(1) && again.error.contains("already exists"), "{again:?}");
    let nowhere = keys(&env, "export", &["--file", "/no/such/directory/keyring.json"]).await;
    assert!(nowhere.code == Some(1) && nowhere.error.contains("may write to"), "{nowhere:?}");
    let neither = keys(&env, "export", &[]).await;
    assert_eq!(neither.code, Some(2), "{neither:?}");
}

#[tokio::test]
async fn an_invalid_keyring_is_not_imported_and_not_printed() {
    const CANARY: &str = "canary-in-a-file";
    let env = start_env().await;
    let before: Secret = env.api().get(KEYRING).await.unwrap();
    let path = env.cluster.dir().join(format!("{}-odd.json", env.namespace));
    let file = path.display().to_string();
    let mut contradiction: Value =
        serde_json::from_slice(keyring(&env).await.to_json().unwrap().expose()).unwrap();
    contradiction["keys"][0]["bytes"] = json!(STANDARD.encode([7; 32]));
    for (content, problem) in [
        (CANARY.to_owned(), "is not JSON"),
        (json!({"primary": CANARY}).to_string(), "a field is missing"),
        (json!({"primary": CANARY, "keys": [], "fingerprintKeys": []}).to_string(), "primary is not the id"),
        ("x".repeat(1024 * 1024 + 1), "longer than 1 MiB"),
        (contradiction.to_string(), "differs between the keyring and the backup"),
    ] {
        std::fs::write(&path, content).unwrap();
        let rejected = keys(&env, "import", &["--file", &file]).await;
        assert_eq!(rejected.code, Some(1), "{rejected:?}");
        assert!(rejected.error.contains(problem), "{problem}: {rejected:?}");
        assert!(!rejected.error.contains(CANARY), "{rejected:?}");
    }
    let missing = keys(&env, "import", &["--file", "/no/such/file"]).await;
    assert!(missing.code == Some(1) && missing.error.contains("failed to read /no/such/file"), "{missing:?}");
    let after: Secret = env.api().get(KEYRING).await.unwrap();
    assert_eq!(after, before, "nothing was changed");
}

#[tokio::test]
async fn keys_verify_names_undecryptable_records_and_prints_no_secret() {
    let mut env = start_env().await;
    make_records(&env, 4).await;
    env.stop_operator().await;
    let all = records(&env).await;
    let mut bytes = STANDARD_NO_PAD.decode(all[0].spec.envelope.trim_end_matches('=')).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    edit(&env, &all[0], json!({"envelope": STANDARD.encode(bytes)})).await;
    edit(&env, &all[1], json!({"envelope": all[2].spec.envelope})).await;
    edit(&env, &all[3], json!({"envelope": "bm9uc2Vuc2U="})).await;
    let checked = keys(&env, "verify", &[]).await;
    assert_eq!(checked.code, Some(3), "{checked:?}");
    for (record, problem) in [
        (&all[0], "it was changed"),
        (&all[1], "it was changed, or it belongs to a record of another"),
        (&all[3], "envelope"),
    ] {
        let line = checked.out.lines().find(|line| line.contains(&format!("/{}:", record.name_any())));
        assert!(line.is_some_and(|line| line.contains(problem)), "{problem}: {checked:?}");
    }
    assert!(checked.out.ends_with("3 of 4 records cannot be decrypted\n"), "{checked:?}");
    assert!(!checked.out.contains("secret of"), "{checked:?}");
    let json = keys(&env, "verify", &["--output", "json"]).await;
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json["records"].as_u64(), json["faults"].as_array().unwrap().len()), (Some(4), 3));
    let elsewhere = keys_of(&env, "no-such-namespace", "verify", &[]).await;
    assert_eq!(elsewhere.code, Some(1), "{elsewhere:?}");
    assert!(elsewhere.error.contains("there is no namespace no-such-namespace"), "{elsewhere:?}");
}

#[tokio::test]
async fn verify_checks_a_record_at_microsoft_and_prints_no_secret() {
    let (mut env, _, record) = sealed(json!({})).await;
    let name = format!("{}/{}", env.namespace, record.name_any());
    let authority = env.entra.url();
    let namespace = env.namespace.clone();
    let verify = async |env: &TestEnv, name: &str| {
        let args = ["verify", "--record", name, "--operator-namespace", &namespace];
        let network = ["--microsoft-authority", &authority, "--dns-server", "127.0.0.1:9"];
        run(env, &[&args[..], &network].concat()).await
    };
    let requests = env.entra.requests().len();
    let issued = verify(&env, &name).await;
    assert_eq!(issued.code, Some(0), "{issued:?}");
    assert_eq!(env.entra.requests().len(), requests + 1);
    env.entra.set_secrets(TENANT, CLIENT, &["another"]);
    let rejected = verify(&env, &name).await;
    assert!(rejected.code == Some(3) && rejected.out.contains("InvalidClientSecret"), "{rejected:?}");
    let missing = verify(&env, &format!("{namespace}/c-0")).await;
    assert!(
        missing.code == Some(1) && missing.error.contains("there is no SealedGraphCredential"),
        "{missing:?}"
    );
    env.stop_operator().await;
    edit(&env, &record, json!({"envelope": "bm9uc2Vuc2U="})).await;
    let broken = verify(&env, &name).await;
    assert!(broken.code == Some(1) && broken.error.contains("cannot be decrypted"), "{broken:?}");
    let both = run(&env, &["verify", "--record", &name, "--tenant-id", TENANT]).await;
    assert_eq!(both.code, Some(2), "{both:?}");
}
