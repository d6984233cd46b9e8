use serde_json::{Value, json};

use super::*;

fn pending(requested: Option<&str>) -> Pending {
    let awaited = requested.map_or(Awaited::Spec, |value| Awaited::Reconcile(value.to_owned()));
    Pending::new(object(&json!({}), &json!({})), awaited)
}

fn object(metadata: &Value, more: &Value) -> DynamicObject {
    let mut object = json!({
        "metadata": {"name": "x", "namespace": "mail", "uid": "u-1", "generation": 1}, "spec": {},
        "status": {"observedGeneration": 1, "conditions": [{
            "type": "Ready", "status": "True", "reason": "Ready", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"
        }]},
    });
    for (part, fields) in [("metadata", metadata), ("status", &more["status"]), ("spec", &more["spec"])] {
        for (field, value) in fields.as_object().into_iter().flatten() {
            object[part][field] = value.clone();
        }
    }
    serde_json::from_value(object).unwrap()
}

/// The results once that object was read; `None` if it still waits.
fn results(pending: Pending, found: Option<DynamicObject>, change: Change, is_late: bool) -> Option<Results> {
    let (mut all, mut results) = (vec![pending], Results::default());
    let found = found.into_iter().map(|object| (NamespacedName::of(&object), object)).collect();
    results.sort(&mut all, found, change, is_late);
    all.is_empty().then_some(results)
}

#[test]
fn a_request_is_done_once_it_or_a_later_one_is_handled() {
    const TIMES: [&str; 4] =
        ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2026-01-01T00:00:01.5Z", "2026-01-01T00:00:02Z"];
    let [earlier, ours, _, later] = TIMES;
    let with = |annotation: Option<&str>, handled: Option<&str>| {
        let metadata = json!({"annotations": {RECONCILE_REQUESTED_AT: annotation}});
        let metadata = if annotation.is_some() { metadata } else { json!({}) };
        let found = object(&metadata, &json!({"status": {"lastHandledReconcileAt": handled}}));
        results(pending(Some(ours)), Some(found), Change::Reconcile, false).is_some()
    };
    for (annotation, handled, is_done) in [
        (Some(ours), None, false),
        (Some(ours), Some(earlier), false),
        (Some(ours), Some(ours), true),
        (Some(later), Some(ours), true),
        (Some(later), Some(earlier), false),
        (Some(later), Some(later), true),
        (None, None, false),
        (Some(earlier), Some(earlier), false),
    ] {
        assert_eq!(with(annotation, handled), is_done, "{annotation:?} {handled:?}");
    }
    assert!(with(Some(TIMES[2]), Some(TIMES[2])), "fractions are compared as times");
}

#[test]
fn an_invalid_object_is_done_without_being_handled() {
    let conditions = json!([{
        "type": "Ready", "status": "False", "reason": "InvalidObject", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"
    }]);
    let found = object(&json!({}), &json!({"status": {"conditions": conditions}}));
    let results = results(pending(Some("2")), Some(found), Change::Reconcile, false).unwrap();
    assert_eq!((results.done.len(), results.exit_code(Change::Reconcile)), (1, ExitCode::from(3)));
}

#[test]
fn a_deleted_or_re_created_object_is_not_ready() {
    let other = object(&json!({"uid": "u-2"}), &json!({}));
    for found in [None, Some(other)] {
        let results = results(pending(None), found, Change::Resume, false).unwrap();
        assert_eq!((results.deleted.len(), results.exit_code(Change::Resume)), (1, ExitCode::from(3)));
    }
}

#[test]
fn a_change_that_was_undone_fails() {
    let results =
        results(pending(None), Some(object(&json!({}), &json!({}))), Change::Suspend, false).unwrap();
    assert_eq!((results.undone.len(), results.exit_code(Change::Suspend)), (1, ExitCode::FAILURE));
}

#[test]
fn at_the_deadline_work_in_progress_is_no_failure_but_silence_is() {
    let conditions = json!([{
        "type": "Ready", "status": "Unknown", "reason": "AwaitingPropagation", "message": "m",
        "lastTransitionTime": Timestamp::now()
    }]);
    let found = object(&json!({}), &json!({"status": {"conditions": conditions}}));
    assert!(results(pending(None), Some(found.clone()), Change::Resume, false).is_none());
    let late = results(pending(None), Some(found), Change::Resume, true).unwrap();
    assert_eq!(late.exit_code(Change::Resume), ExitCode::from(3));
    let silent = object(&json!({"generation": 2}), &json!({}));
    let silent = results(pending(None), Some(silent), Change::Resume, true).unwrap();
    assert_eq!((silent.unfinished.len(), silent.exit_code(Change::Resume)), (1, ExitCode::FAILURE));
}
