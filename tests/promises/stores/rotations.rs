//! `keys rotate` and `keys retire`: another key seals, everything is sealed anew, and the old one ends.

use std::time::Duration;

use graph_credential_operator::store::keyring::Standing;
use kit::cluster::Cluster;

use super::*;
use crate::administers::{Printed, run};
use crate::stage::prepare;
use crate::vault::{left, make_records};

/// Runs a command of `keys` beside the stage's operator.
pub(super) async fn keys(stage: &Stage, command: &str, more: &[&str]) -> Printed {
    keys_of(stage, &stage.namespace, command, more).await
}

/// The same for the records of another namespace than that of the operator.
pub(super) async fn keys_of(stage: &Stage, served: &str, command: &str, more: &[&str]) -> Printed {
    let scale = stage.time_scale.to_string();
    let place = ["keys", command, "--operator-namespace", &stage.namespace, "--namespace", served];
    let args = [&place[..], &["--time-scale", &scale], more].concat();
    let printed = run(stage, &args).await;
    if !more.contains(&"--stdout") {
        holds_no_key(stage, &printed).await;
    }
    printed
}

/// Checks that no key of the keyring is in what a command printed.
async fn holds_no_key(stage: &Stage, printed: &Printed) {
    let secret: Option<Secret> = stage.api().get_opt(KEYRING).await.unwrap();
    let Some(data) = secret.and_then(|secret| secret.data) else { return };
    let Ok(json) = serde_json::from_slice::<Value>(&data["keyring.json"].0) else { return };
    for key in json["keys"].as_array().into_iter().chain(json["fingerprintKeys"].as_array()).flatten() {
        let bytes = key["bytes"].as_str().unwrap();
        assert!(!printed.out.contains(bytes) && !printed.error.contains(bytes), "{printed:?}");
    }
}

/// Checks that every record that was made opens to its own secret.
pub(super) async fn all_open(stage: &Stage, number: usize) {
    let all = records(stage).await;
    assert_eq!(all.len(), number);
    let keyring = keyring(stage).await;
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

async fn standing(stage: &Stage, key: KeyId) -> Option<Standing> {
    keyring(stage).await.keys().find(|known| known.id == key).map(|known| known.standing)
}

/// Changes the keyring so that a retired key has been so for eight days.
pub(super) async fn retired_long_ago(stage: &Stage, key: KeyId) {
    let json = keyring(stage).await.to_json().unwrap();
    let mut json: Value = serde_json::from_slice(json.expose()).unwrap();
    let long_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(8 * 24);
    let keys = json["keys"].as_array_mut().unwrap();
    let retired = keys.iter_mut().find(|it| it["id"] == key.to_string()).unwrap();
    assert!(retired["retiredAt"].is_string(), "{key} is retired");
    retired["retiredAt"] = json!(format!("{long_ago:.0}"));
    stage.secret(KEYRING, &[("keyring.json", &json.to_string())]).await;
}

#[tokio::test]
async fn a_rotation_seals_every_record_anew_and_shows_how_far_it_has_come() {
    let (stage, before, _) = sealed(json!({})).await;
    make_records(&stage, 40).await;
    let old = keyring(&stage).await.primary();
    let mark = stage.cluster.audit_mark().unwrap();
    let rotated = keys(&stage, "rotate", &[]).await;
    let new = keyring(&stage).await.primary();
    assert_ne!(new, old);
    assert_eq!(rotated.code, Some(0), "{rotated:?}\n{}", stage.log());
    for line in [
        format!("key {new} is added as the primary one"),
        format!("every replica seals under key {new}"),
        format!("41 records are sealed under key {new}"),
    ] {
        assert!(rotated.out.contains(&line), "{line}: {rotated:?}");
    }
    assert_eq!(left(&stage, new).await, 0);
    all_open(&stage, 41).await;
    assert_eq!(standing(&stage, old).await, Some(Standing::DecryptOnly));
    let status = stage.read("sales-eu").await.status.unwrap();
    assert_eq!((status.credential_id, status.registration), (before.credential_id, before.registration));
    // A status that is written meanwhile makes a write a conflict, which is repeated.
    let records_written = stage
        .cluster
        .audit_since(mark)
        .unwrap()
        .into_iter()
        .filter(|entry| entry.resource == "sealedgraphcredentials" && entry.subresource.is_none())
        .filter(|entry| entry.is_write() && entry.code == Some(200))
        .filter(|entry| entry.namespace.as_deref() == Some(&stage.namespace))
        .count();
    assert_eq!(records_written, 41, "each record is written once");

    let listed = keys(&stage, "list", &["--output", "json"]).await;
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed["keys"][0]["id"], new.to_string());
    assert_eq!(
        (&listed["keys"][0]["standing"], &listed["keys"][0]["records"]),
        (&json!("primary"), &json!(41))
    );
    assert_eq!(
        (&listed["keys"][1]["standing"], &listed["keys"][1]["records"]),
        (&json!("opens only"), &json!(0))
    );
    eventually("metrics tell", || async {
        let (_, metrics) = stage.get("/metrics").await;
        let lines = [format!("mgc_sealed_records{{key_id=\"{new}\"}} 41"), "mgc_reseal_remaining 0".into()];
        if lines.iter().all(|line| metrics.contains(line)) { Ok(()) } else { Err(metrics) }
    })
    .await;
    let told = eventually("events tell of its end", || async {
        let told = stage.events(KEYRING).await.join("\n");
        if told.contains("Resealed: ") { Ok(told) } else { Err(told) }
    })
    .await;
    assert!(told.contains("Resealing: 41 records are sealed anew"), "{told}");
}

#[tokio::test]
async fn a_used_key_is_not_retired_and_an_unused_one_opens_for_a_week_more() {
    let mut stage = set().await;
    stage.credential("sales-eu", store(json!({}))).await;
    is_sealed(&stage, "sales-eu").await;
    let old = keyring(&stage).await.primary();
    let refused = keys(&stage, "retire", &[&old.to_string()]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.error.contains(&format!("key {old} is primary")), "{refused:?}");
    let refused = keys(&stage, "retire", &["00000000"]).await;
    assert!(refused.error.contains("holds no key 00000000"), "{refused:?}");

    // Nobody seals the records anew while no operator runs.
    make_records(&stage, 3).await;
    stage.stop_operator().await;
    let rotated = keys(&stage, "rotate", &["--no-wait"]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let refused = keys(&stage, "retire", &[&old.to_string()]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.error.contains(&format!("key {old} still opens 4 sealed records")), "{refused:?}");
    assert_eq!(standing(&stage, old).await, Some(Standing::DecryptOnly));

    stage.start_operator().await;
    let new = keyring(&stage).await.primary();
    eventually("all are sealed anew", || async {
        let left = left(&stage, new).await;
        if left == 0 { Ok(()) } else { Err(format!("{left} left\n{}", stage.log())) }
    })
    .await;
    let retired = keys(&stage, "retire", &[&old.to_string()]).await;
    assert_eq!(retired.code, Some(0), "{retired:?}");
    assert!(matches!(standing(&stage, old).await, Some(Standing::Retired(_))), "{retired:?}");
    let early = keys(&stage, "retire", &[&old.to_string()]).await;
    assert!(early.code == Some(0) && early.out.contains("nothing was changed"), "{early:?}");
    assert!(matches!(standing(&stage, old).await, Some(Standing::Retired(_))));
    retired_long_ago(&stage, old).await;
    let late = keys(&stage, "retire", &[&old.to_string()]).await;
    assert!(late.code == Some(0) && late.out.contains("is deleted"), "{late:?}");
    assert_eq!(standing(&stage, old).await, None);
    all_open(&stage, 4).await;
}

#[tokio::test]
async fn a_record_that_turns_up_under_a_retired_key_is_sealed_anew() {
    let mut stage = set().await;
    make_records(&stage, 2).await;
    let late = records(&stage).await.pop().unwrap();
    remove(&stage, &late).await;
    let old = keyring(&stage).await.primary();
    assert_eq!(keys(&stage, "rotate", &[]).await.code, Some(0));
    assert_eq!(keys(&stage, "retire", &[&old.to_string()]).await.code, Some(0));
    stage.stop_operator().await;
    let restored = SealedGraphCredential { metadata: bare(&late), ..late };
    stage.api().create(&PostParams::default(), &restored).await.unwrap();
    stage.start_operator().await;
    let new = keyring(&stage).await.primary();
    eventually("it is sealed anew", || async {
        let left = left(&stage, new).await;
        if left == 0 { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    all_open(&stage, 2).await;
}

#[tokio::test]
async fn an_operator_that_is_killed_while_it_seals_anew_goes_on_after_its_restart() {
    const RECORDS: i64 = 800;
    let mut stage = set().await;
    make_records(&stage, RECORDS).await;
    let rotated = keys(&stage, "rotate", &["--no-wait"]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let new = keyring(&stage).await.primary();
    let all = usize::try_from(RECORDS).unwrap();
    eventually("some are sealed anew", || async {
        if left(&stage, new).await < all { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    let mut killed = stage.operator.take().unwrap();
    killed.kill().await.unwrap();
    let left_by_it = left(&stage, new).await;
    assert!((1..all).contains(&left_by_it), "it was in the middle: {left_by_it} left\n{}", killed.log());
    stage.start_operator().await;
    eventually("the rest is sealed anew", || async {
        let left = left(&stage, new).await;
        if left == 0 { Ok(()) } else { Err(format!("{left} left\n{}", stage.log())) }
    })
    .await;
    all_open(&stage, all).await;
}

#[tokio::test]
async fn a_rotation_that_an_earlier_version_did_not_end_is_followed_by_another_one() {
    let (stage, _, _) = sealed(json!({})).await;
    let before = keyring(&stage).await.primary();
    let mut begun = keyring(&stage).await;
    let added = begun.rotate(jiff::Timestamp::now()).unwrap();
    let mut json: Value = serde_json::from_slice(begun.to_json().unwrap().expose()).unwrap();
    (json["primary"], json["next"]) = (json!(before.to_string()), json!(added.to_string()));
    stage.secret(KEYRING, &[("keyring.json", &json.to_string())]).await;
    let rotated = keys(&stage, "rotate", &[]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let primary = keyring(&stage).await.primary();
    assert!(primary != before && primary != added, "{rotated:?}");
    assert_eq!(left(&stage, primary).await, 0);
    assert_eq!(standing(&stage, added).await, Some(Standing::DecryptOnly));
    let retired = keys(&stage, "retire", &[&added.to_string()]).await;
    assert_eq!(retired.code, Some(0), "{retired:?}");
}

#[tokio::test]
async fn without_an_operator_a_rotation_says_what_is_left_and_the_next_one_follows_it() {
    let mut stage = set().await;
    make_records(&stage, 2).await;
    stage.stop_operator().await;
    let rotated = keys(&stage, "rotate", &[]).await;
    assert_eq!(rotated.code, Some(3), "{rotated:?}");
    assert!(rotated.out.contains("2 records are left under earlier keys"), "{rotated:?}");
    assert!(rotated.out.contains("is an operator running"), "{rotated:?}");
    let key = keyring(&stage).await.primary();
    let late = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        stage.launch().await
    };
    let refused = keys(&stage, "rotate", &["--no-wait"]).await;
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.out.contains("nothing was begun: 2 records are left"), "{refused:?}");
    let (followed, _operator) = tokio::join!(keys(&stage, "rotate", &["--follow"]), late);
    assert_eq!(followed.code, Some(0), "{followed:?}");
    assert_eq!(keyring(&stage).await.primary(), key, "no other key was begun: {followed:?}");
}

#[tokio::test]
async fn a_record_that_opens_for_nobody_holds_up_no_other_and_no_key_that_ended() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await.unwrap()));
    prepare(cluster).await;
    let mut stage = Stage::on(cluster).await;
    stage.serves_all = true;
    stage.start_operator().await;
    make_records(&stage, 4).await;
    let all = records(&stage).await;
    edit(&stage, &all[0], json!({"envelope": all[1].spec.envelope})).await;
    let old = keyring(&stage).await.primary();
    let rotated = keys(&stage, "rotate", &[]).await;
    assert_eq!(rotated.code, Some(3), "{rotated:?}");
    assert!(rotated.out.contains("1 records are left under earlier keys"), "{rotated:?}");
    let refused = keys(&stage, "retire", &[&old.to_string()]).await;
    assert!(refused.error.contains("still opens 1 sealed records"), "{refused:?}");
    let again = keys(&stage, "rotate", &["--fresh"]).await;
    assert_eq!(again.code, Some(3), "{again:?}");
    let now = keyring(&stage).await;
    let first = now.keys().map(|key| key.id).find(|id| *id != old && *id != now.primary()).unwrap();
    let ended = keys(&stage, "retire", &[&first.to_string()]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let retired: Vec<KeyId> = keyring(&stage)
        .await
        .keys()
        .filter(|key| matches!(key.standing, Standing::Retired(_)))
        .map(|key| key.id)
        .collect();
    assert_eq!(retired.len(), 1, "the key of the first rotation");
    retired_long_ago(&stage, retired[0]).await;
    stage.stop_operator().await;
    stage.start_operator().await;
    eventually("it is deleted all the same", || async {
        if standing(&stage, retired[0]).await.is_none() { Ok(()) } else { Err(stage.log()) }
    })
    .await;
    let told = stage.events(KEYRING).await.join("\n");
    assert!(told.contains("1 do not open"), "{told}");
    // Another sweep, for a record that turns up under the earlier key.
    let late = all.last().unwrap().clone();
    remove(&stage, &late).await;
    let restored = SealedGraphCredential { metadata: bare(&late), ..late };
    stage.api().create(&PostParams::default(), &restored).await.unwrap();
    let rotated = keys(&stage, "rotate", &["--fresh", "--no-wait"]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let last = keyring(&stage).await.primary();
    eventually("all others are sealed anew", || async {
        let left = left(&stage, last).await;
        if left == 1 { Ok(()) } else { Err(format!("{left}\n{}", stage.log())) }
    })
    .await;
    let warned = stage.log().matches("cannot be sealed anew").count();
    assert_eq!(warned, 1, "it is named once\n{}", stage.log());
}

#[tokio::test]
async fn retiring_counts_the_records_of_namespaces_that_are_not_served() {
    let (stage, _, _) = sealed(json!({})).await;
    let elsewhere = stage.cluster.create_namespace("elsewhere").await.unwrap();
    let left_there = records(&stage).await.pop().unwrap();
    let moved = SealedGraphCredential {
        metadata: ObjectMeta { namespace: Some(elsewhere.clone()), ..bare(&left_there) },
        ..left_there
    };
    let api: kube::Api<SealedGraphCredential> = kube::Api::namespaced(stage.client.clone(), &elsewhere);
    api.create(&PostParams::default(), &moved).await.unwrap();
    let old = keyring(&stage).await.primary();
    assert_eq!(keys(&stage, "rotate", &[]).await.code, Some(0));
    let refused = keys(&stage, "retire", &[&old.to_string()]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.error.contains("still opens 1 sealed records"), "{refused:?}");
}
