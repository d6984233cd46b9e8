//! The keyring as a file, into another cluster as well; every record checked and proved without being shown.

use std::os::unix::fs::PermissionsExt;

use k8s_openapi::api::core::v1::Namespace;
use kit::cluster::Cluster;
use kube::Api;

use super::rotations::{keys, keys_of};
use super::*;
use crate::administers::run;
use crate::stage::prepare;
use crate::vault::make_records;

#[tokio::test]
async fn a_backup_opens_every_record_in_an_empty_cluster_and_each_object_finds_its_own() {
    let (stage, before, _) = sealed(json!({})).await;
    make_records(&stage, 3).await;
    let exported = keys(&stage, "export", &["--stdout"]).await;
    assert_eq!(exported.code, Some(0), "{}", exported.error);
    let saved = records(&stage).await;

    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.unwrap()));
    prepare(cluster).await;
    let mut other = Stage::on(cluster).await;
    let namespaces: Api<Namespace> = Api::all(other.client.clone());
    let same = Namespace {
        metadata: ObjectMeta { name: Some(stage.namespace.clone()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    namespaces.create(&PostParams::default(), &same).await.unwrap();
    // The operator stands in a namespace of another name there; records open in their own one alone.
    let served = stage.namespace.clone();
    let api: Api<SealedGraphCredential> = Api::namespaced(other.client.clone(), &served);
    for record in saved {
        let restored = SealedGraphCredential { metadata: bare(&record), ..record };
        api.create(&PostParams::default(), &restored).await.unwrap();
    }
    let file = cluster.dir().join("keyring.json");
    std::fs::write(&file, &exported.out).unwrap();
    let imported = keys_of(&other, &served, "import", &["--file", &file.display().to_string()]).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let checked = keys_of(&other, &served, "check", &[]).await;
    assert_eq!((checked.code, checked.out.as_str()), (Some(0), "all 4 records open\n"), "{checked:?}");

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
async fn a_key_that_ended_long_ago_comes_back_for_the_records_of_its_time() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.unwrap()));
    prepare(cluster).await;
    let mut stage = Stage::on(cluster).await;
    // One that deletes keys whose time is over.
    stage.serves_all = true;
    stage.start_operator().await;
    make_records(&stage, 2).await;
    let saved = records(&stage).await;
    let old = keyring(&stage).await.primary();
    assert_eq!(keys(&stage, "rotate", &[]).await.code, Some(0));
    assert_eq!(keys(&stage, "retire", &[&old.to_string()]).await.code, Some(0));
    super::rotations::retired_long_ago(&stage, old).await;
    let exported = keys(&stage, "export", &["--stdout"]).await;
    let deleted = keys(&stage, "retire", &[&old.to_string()]).await;
    assert!(deleted.out.contains("is deleted"), "{deleted:?}");
    let file = stage.cluster.dir().join(format!("{}-old.json", stage.namespace));
    std::fs::write(&file, exported.out).unwrap();
    let imported = keys(&stage, "import", &["--file", &file.display().to_string()]).await;
    assert!(imported.code == Some(0) && imported.out.contains(&old.to_string()), "{imported:?}");
    // The operator looks, and lets the key stay: it counts as retired since its return.
    stage.stop_operator().await;
    stage.start_operator().await;
    tokio::time::sleep(A_WHILE).await;
    assert!(keyring(&stage).await.keys().any(|key| key.id == old), "{}", stage.log());
    for record in records(&stage).await {
        remove(&stage, &record).await;
    }
    for record in saved {
        let restored = SealedGraphCredential { metadata: bare(&record), ..record };
        stage.api().create(&PostParams::default(), &restored).await.unwrap();
    }
    let checked = keys(&stage, "check", &[]).await;
    assert_eq!(checked.out, "all 2 records open\n", "{checked:?}");
}

#[tokio::test]
async fn an_export_is_for_its_owner_alone_and_overwrites_nothing() {
    let stage = set().await;
    let path = stage.cluster.dir().join(format!("{}-export.json", stage.namespace));
    let file = path.display().to_string();
    assert_eq!(keys(&stage, "export", &["--file", &file]).await.code, Some(0));
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let written = Keyring::from_json(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(written.primary(), keyring(&stage).await.primary());
    let again = keys(&stage, "export", &["--file", &file]).await;
    assert!(again.code == Some(1) && again.error.contains("there is a file"), "{again:?}");
    let nowhere = keys(&stage, "export", &["--file", "/no/such/directory/keyring.json"]).await;
    assert!(nowhere.code == Some(1) && nowhere.error.contains("may write to"), "{nowhere:?}");
    let neither = keys(&stage, "export", &[]).await;
    assert_eq!(neither.code, Some(2), "{neither:?}");
}

#[tokio::test]
async fn what_is_no_keyring_is_not_imported_and_not_shown() {
    const CANARY: &str = "canary-in-a-file";
    let stage = set().await;
    let before: Secret = stage.api().get(KEYRING).await.unwrap();
    let path = stage.cluster.dir().join(format!("{}-odd.json", stage.namespace));
    let file = path.display().to_string();
    let mut contradiction: Value =
        serde_json::from_slice(keyring(&stage).await.to_json().unwrap().expose()).unwrap();
    contradiction["keys"][0]["bytes"] = json!(STANDARD.encode([7; 32]));
    for (content, problem) in [
        (CANARY.to_owned(), "is not JSON"),
        (json!({"primary": CANARY}).to_string(), "a field is missing"),
        (json!({"primary": CANARY, "keys": [], "fingerprintKeys": []}).to_string(), "primary is not the id"),
        ("x".repeat(1024 * 1024 + 1), "longer than 1 MiB"),
        (contradiction.to_string(), "another key under the id"),
    ] {
        std::fs::write(&path, content).unwrap();
        let refused = keys(&stage, "import", &["--file", &file]).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.error.contains(problem), "{problem}: {refused:?}");
        assert!(!refused.error.contains(CANARY), "{refused:?}");
    }
    let missing = keys(&stage, "import", &["--file", "/no/such/file"]).await;
    assert!(missing.code == Some(1) && missing.error.contains("failed to read /no/such/file"), "{missing:?}");
    let after: Secret = stage.api().get(KEYRING).await.unwrap();
    assert_eq!(after, before, "nothing was changed");
}

#[tokio::test]
async fn check_names_what_does_not_open_and_shows_nothing() {
    let mut stage = set().await;
    make_records(&stage, 4).await;
    stage.stop_operator().await;
    let all = records(&stage).await;
    let mut bytes = STANDARD_NO_PAD.decode(all[0].spec.envelope.trim_end_matches('=')).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    edit(&stage, &all[0], json!({"envelope": STANDARD.encode(bytes)})).await;
    edit(&stage, &all[1], json!({"envelope": all[2].spec.envelope})).await;
    edit(&stage, &all[3], json!({"envelope": "bm9uc2Vuc2U="})).await;
    let checked = keys(&stage, "check", &[]).await;
    assert_eq!(checked.code, Some(3), "{checked:?}");
    for (record, problem) in [
        (&all[0], "it was changed"),
        (&all[1], "it was changed, or it belongs to another record"),
        (&all[3], "envelope"),
    ] {
        let line = checked.out.lines().find(|line| line.contains(&format!("/{}:", record.name_any())));
        assert!(line.is_some_and(|line| line.contains(problem)), "{problem}: {checked:?}");
    }
    assert!(checked.out.ends_with("3 of 4 records do not open\n"), "{checked:?}");
    assert!(!checked.out.contains("secret of"), "{checked:?}");
    let json = keys(&stage, "check", &["--output", "json"]).await;
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json["records"].as_u64(), json["faults"].as_array().unwrap().len()), (Some(4), 3));
    let elsewhere = keys_of(&stage, "no-such-namespace", "check", &[]).await;
    assert_eq!(elsewhere.code, Some(1), "{elsewhere:?}");
    assert!(elsewhere.error.contains("there is no namespace no-such-namespace"), "{elsewhere:?}");
}

#[tokio::test]
async fn verify_proves_a_record_at_microsoft_and_shows_nothing() {
    let (mut stage, _, record) = sealed(json!({})).await;
    let name = format!("{}/{}", stage.namespace, record.name_any());
    let authority = stage.entra.url();
    let namespace = stage.namespace.clone();
    let verify = async |stage: &Stage, name: &str| {
        let args = ["verify", "--record", name, "--operator-namespace", &namespace];
        let network = ["--microsoft-authority", &authority, "--dns-server", "127.0.0.1:9"];
        run(stage, &[&args[..], &network].concat()).await
    };
    let asked = stage.entra.requests().len();
    let issued = verify(&stage, &name).await;
    assert_eq!(issued.code, Some(0), "{issued:?}");
    assert_eq!(stage.entra.requests().len(), asked + 1);
    stage.entra.set_secrets(TENANT, CLIENT, &["another"]);
    let refused = verify(&stage, &name).await;
    assert!(refused.code == Some(3) && refused.out.contains("InvalidClientSecret"), "{refused:?}");
    let missing = verify(&stage, &format!("{namespace}/c-0")).await;
    assert!(
        missing.code == Some(1) && missing.error.contains("there is no SealedGraphCredential"),
        "{missing:?}"
    );
    stage.stop_operator().await;
    edit(&stage, &record, json!({"envelope": "bm9uc2Vuc2U="})).await;
    let broken = verify(&stage, &name).await;
    assert!(broken.code == Some(1) && broken.error.contains("does not open"), "{broken:?}");
    let both = run(&stage, &["verify", "--record", &name, "--tenant-id", TENANT]).await;
    assert_eq!(both.code, Some(2), "{both:?}");
}
