use clap::Parser;
use jiff::Timestamp;

use super::*;
use crate::api::reasons::Kind;
use crate::cli::{Cli, Command};

const REQUESTED: &str = "2026-06-01T00:00:00Z";
const BEFORE: &str = "2026-01-01T00:00:00Z";

/// At once, and after a problem has lasted.
const WAITS: [Duration; 2] = [Duration::ZERO, UNCHANGED];

fn created(key_id: &str) -> Value {
    json!({
        "keyId": key_id, "displayName": "graph-credentials.io/u/1", "creationTime": BEFORE,
        "expiresAt": "2027-11-28T23:59:59Z",
    })
}

fn condition_of(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": BEFORE})
}

fn object(spec: &Value, rotation: &Value, conditions: &[Value]) -> ObjectState {
    let object = json!({
        "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
        "metadata": {
            "name": "x", "namespace": "mail", "generation": 1, "annotations": {ROTATE_REQUESTED_AT: REQUESTED},
        },
        "spec": spec,
        "status": {"observedGeneration": 1, "rotation": rotation, "conditions": conditions},
    });
    ObjectState::of(Kind::Credential, serde_json::from_value(object).unwrap(), Timestamp::now())
}

/// An object that rotates its client secret, with the conditions `Ready` and `RotationReady`.
fn rotating(rotation: &Value, ready: (&str, &str), rotation_ready: (&str, &str)) -> ObjectState {
    let conditions = [
        condition_of("Ready", ready.0, ready.1, "of Ready"),
        condition_of("RotationReady", rotation_ready.0, rotation_ready.1, "of RotationReady"),
    ];
    object(&json!({"rotation": {}}), rotation, &conditions)
}

const READY: (&str, &str) = ("True", "Ready");
const SCHEDULED: (&str, &str) = ("True", "RotationScheduled");

fn using(key_id: &str) -> Value {
    json!({"current": created(key_id), "lastHandledRotateAt": BEFORE})
}

/// The status once the request is handled.
fn handled(current: &str, more: &Value) -> Value {
    let mut rotation = json!({"current": created(current), "lastHandledRotateAt": REQUESTED});
    for (field, value) in more.as_object().unwrap() {
        rotation[field] = value.clone();
    }
    rotation
}

fn progressed(before: &ObjectState, after: &ObjectState, waited: Duration) -> Progressed {
    Request::new(REQUESTED, before).progressed_after(after, waited)
}

fn is_failed(progressed: &Progressed, words: &str) -> bool {
    matches!(progressed, Progressed::Failed(why) if why.contains(words))
}

fn continues(progressed: &Progressed, words: &str) -> bool {
    matches!(progressed, Progressed::Continues(why) if why.contains(words))
}

#[test]
fn a_rotation_is_done_once_another_client_secret_is_registered() {
    let before = rotating(&using("k-1"), READY, SCHEDULED);
    let attempt = json!({"displayName": "graph-credentials.io/u/2", "startTime": REQUESTED});
    for waited in WAITS {
        let of = |rotation: &Value, ready| progressed(&before, &rotating(rotation, ready, SCHEDULED), waited);
        assert_eq!(of(&using("k-1"), READY), Progressed::No, "it is not handled");
        assert_eq!(of(&handled("k-2", &json!({})), READY), Progressed::Done);
        for (rotation, ready) in [
            (handled("k-1", &json!({"attempt": attempt})), READY),
            (handled("k-1", &json!({"pending": created("k-2")})), READY),
            // Its response was lost.
            (handled("k-1", &json!({"earlierAttempts": [attempt]})), READY),
            (handled("k-2", &json!({})), ("Unknown", "Queued")),
        ] {
            let found = of(&rotation, ready);
            assert!(continues(&found, "no new client secret is registered yet"), "{rotation}: {found:?}");
        }
    }
}

#[test]
fn the_first_client_secret_is_a_new_one_too() {
    let before = rotating(&json!({}), ("Unknown", "CreationPending"), ("Unknown", "CreationPending"));
    let found = progressed(&before, &before, UNCHANGED);
    assert!(continues(&found, "of RotationReady (CreationPending)"), "{found:?}");
    let after = rotating(&handled("k-1", &json!({})), READY, SCHEDULED);
    assert_eq!(progressed(&before, &after, Duration::ZERO), Progressed::Done);
}

#[test]
fn a_new_problem_ends_the_wait_and_one_from_before_only_if_it_lasts() {
    let well = rotating(&using("k-1"), READY, SCHEDULED);
    let forbidden = rotating(&using("k-1"), READY, ("False", "WriteForbidden"));
    let limited = rotating(&using("k-1"), READY, ("Unknown", "RateLimited"));
    let failed = |before, waited| is_failed(&progressed(before, &forbidden, waited), "(WriteForbidden)");
    assert!(failed(&well, Duration::ZERO));
    assert!(!failed(&forbidden, Duration::ZERO));
    assert!(failed(&forbidden, UNCHANGED));
    assert!(continues(&progressed(&well, &limited, UNCHANGED), "(RateLimited)"));

    // The intent is persisted with the conditions from before.
    let overdue = rotating(&using("k-1"), READY, ("False", "RenewalOverdue"));
    for before in [&forbidden, &overdue] {
        let was = before.condition(ConditionType::RotationReady).unwrap().reason.clone();
        let after = rotating(&handled("k-1", &json!({})), READY, ("False", &was));
        assert!(continues(&progressed(before, &after, UNCHANGED), &was), "{was}");
    }
    let unsaved = rotating(&handled("k-1", &json!({})), READY, ("False", "StorageForbidden"));
    assert!(is_failed(&progressed(&well, &unsaved, Duration::ZERO), "(StorageForbidden)"));
}

#[test]
fn a_credential_that_needs_a_person_gets_no_client_secret() {
    let stalled = |rotation: &Value| {
        let conditions = [
            condition_of("Ready", "False", "AccountNotFound", "of Ready"),
            condition_of("Stalled", "True", "AccountNotFound", "of Ready"),
        ];
        object(&json!({"rotation": {}}), rotation, &conditions)
    };
    let before = rotating(&using("k-1"), READY, SCHEDULED);
    let found = progressed(&before, &stalled(&using("k-1")), UNCHANGED);
    assert!(is_failed(&found, "of Ready (AccountNotFound)"), "{found:?}");
    let found = progressed(&before, &stalled(&handled("k-1", &json!({}))), Duration::ZERO);
    assert!(is_failed(&found, "of Ready (AccountNotFound)"), "{found:?}");
}

#[test]
fn a_removal_is_done_once_the_status_no_longer_has_the_client_secrets() {
    let with = |keys: &[&str], rotation_ready| {
        let unknown: Vec<Value> = keys.iter().map(|key| json!({"keyId": key})).collect();
        rotating(&json!({"current": created("k-1"), "unknownSecrets": unknown}), READY, rotation_ready)
    };
    let before = with(&["k-8", "k-9"], SCHEDULED);
    assert_eq!(unknown_keys(&before), ["k-8", "k-9"]);
    assert_eq!(Change::RemoveUnknown.problem(&before), None);
    assert!(Change::RemoveUnknown.problem(&with(&[], SCHEDULED)).is_some());
    let patch = Change::RemoveUnknown.patch(REQUESTED, &before);
    assert_eq!(
        patch["metadata"]["annotations"],
        json!({"graph-credentials.io/remove-unknown-secrets": "k-8,k-9"})
    );
    let question = Change::RemoveUnknown.question(std::slice::from_ref(&before));
    assert!(question.contains("k-8, k-9") && question.contains("mail/x"), "{question}");

    let of = |keys: &[&str], rotation_ready| {
        Removal::new(&before).progressed_after(&with(keys, rotation_ready), Duration::ZERO)
    };
    assert_eq!(of(&["k-8", "k-9"], SCHEDULED), Progressed::No);
    assert_eq!(of(&["k-7"], SCHEDULED), Progressed::Done, "another one was not requested");
    let found = of(&["k-9"], ("False", "WriteRejected"));
    assert!(is_failed(&found, "k-9 are not removed yet"), "{found:?}");
    assert!(continues(&of(&["k-9"], ("Unknown", "RateLimited")), "RateLimited"));
}

#[test]
fn only_an_object_with_a_rotation_gets_a_new_client_secret() {
    let of = |spec: &Value| {
        Change::Rotate { without_overlap: false }
            .problem(&object(spec, &Value::Null, &[]))
            .unwrap_or_default()
    };
    assert_eq!(of(&json!({"rotation": {}})), "");
    assert!(of(&json!({"secretRef": {"name": "x"}})).contains("spec.rotation"));
    assert!(of(&json!({"rotation": {}, "suspend": true})).contains("resume it first"));
}

#[test]
fn a_request_sets_the_overlap_or_removes_that_of_an_earlier_one() {
    let state = rotating(&using("k-1"), READY, SCHEDULED);
    for (without_overlap, overlap) in [(true, json!("0s")), (false, Value::Null)] {
        let change = Change::Rotate { without_overlap };
        let annotations = &change.patch(REQUESTED, &state)["metadata"]["annotations"];
        assert_eq!(
            *annotations,
            json!({
                "graph-credentials.io/rotate-requested-at": REQUESTED, "graph-credentials.io/rotate-overlap": overlap,
            })
        );
        let question = change.question(std::slice::from_ref(&state));
        assert_eq!(question.contains("remove the one in use"), without_overlap, "{question}");
    }
}

#[test]
fn the_two_flags_exclude_each_other() {
    let parse = |flags: &[&str]| {
        let args = [&["graph-credential-operator", "rotate", "x"], flags].concat();
        match Cli::try_parse_from(args).ok()?.command {
            Command::Rotate(args) => Some(args.change()),
            _ => None,
        }
    };
    assert_eq!(parse(&[]), Some(Change::Rotate { without_overlap: false }));
    assert_eq!(parse(&["--without-overlap"]), Some(Change::Rotate { without_overlap: true }));
    assert_eq!(parse(&["--remove-unknown"]), Some(Change::RemoveUnknown));
    assert_eq!(parse(&["--remove-unknown", "--without-overlap"]), None);
}
