use serde_json::json;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-06-01T00:00:00Z")
}

fn state(spec: &Value, status: &Value) -> ObjectState {
    let object = json!({
        "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
        "metadata": {"name": "x", "namespace": "mail", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec, "status": status,
    });
    ObjectState::of(Kind::Credential, serde_json::from_value(object).unwrap(), now())
}

/// A status whose condition `Ready` has had this status and reason since then.
fn status(ready: &str, reason: &str, since: &str) -> Value {
    json!({
        "observedGeneration": 1, "expiresAt": "2027-11-28T23:59:59Z",
        "conditions": [{"type": "Ready", "status": ready, "reason": reason, "message": "m", "lastTransitionTime": since}],
    })
}

const RECENTLY: &str = "2026-05-31T23:50:00Z";
const LONG_AGO: &str = "2026-05-20T00:00:00Z";

#[test]
fn urgency_and_actor_follow_the_condition_ready() {
    for (ready, reason, since, urgency, actor) in [
        ("True", "Ready", LONG_AGO, Urgency::Ready, Actor::Nobody),
        ("False", "InvalidClientSecret", RECENTLY, Urgency::NeedsAction, Actor::User),
        ("False", "InvalidObject", RECENTLY, Urgency::NeedsAction, Actor::User),
        ("False", "ReasonOfALaterVersion", RECENTLY, Urgency::NeedsAction, Actor::User),
        ("Unknown", "WoodpeckerUnavailable", RECENTLY, Urgency::InProgress, Actor::Nobody),
        ("Unknown", "WoodpeckerUnavailable", LONG_AGO, Urgency::NeedsAction, Actor::OperatorAdmin),
        ("Unknown", "AwaitingPropagation", RECENTLY, Urgency::InProgress, Actor::Nobody),
    ] {
        let found = state(&json!({}), &status(ready, reason, since)).assessment;
        assert_eq!((found.urgency, found.actor), (urgency, actor), "{ready} {reason} {since}");
    }
}

#[test]
fn each_reason_of_the_table_names_its_actor_unless_nobody_must_act() {
    for entry in
        ENTRIES.iter().filter(|it| it.kind == Kind::Credential && it.status == ConditionStatus::False)
    {
        let found = state(&json!({}), &status("False", entry.reason.as_str(), RECENTLY)).assessment;
        let needs_action = found.urgency == Urgency::NeedsAction;
        assert_eq!(needs_action, found.actor != Actor::Nobody, "{entry:?}");
        assert!(!needs_action || found.action != "Nothing to do.", "{entry:?}");
    }
}

#[test]
fn the_clock_counts_even_if_the_operator_writes_nothing() {
    let expiring = |at: &str, spec: &Value, ready: &str| {
        let mut status = status(ready, "Ready", LONG_AGO);
        status["expiresAt"] = json!(at);
        state(spec, &status).assessment
    };
    for spec in [json!({}), json!({"suspend": true})] {
        let expired = expiring("2026-05-30T00:00:00Z", &spec, "True");
        assert_eq!((expired.urgency, expired.reason.as_str()), (Urgency::NeedsAction, "Expired"), "{spec}");
        assert_eq!(expiring("2026-06-10T00:00:00Z", &spec, "True").reason, "ExpiresSoon", "{spec}");
    }
    let early = json!({"expiryWarning": "24h"});
    assert_eq!(expiring("2026-06-10T00:00:00Z", &early, "True").urgency, Urgency::Ready);
    // Another problem on which somebody must act comes first.
    assert_eq!(expiring("2026-06-10T00:00:00Z", &json!({}), "False").reason, "Ready");
}

#[test]
fn a_suspended_object_needs_nobody() {
    let found =
        state(&json!({"suspend": true}), &status("False", "InvalidClientSecret", LONG_AGO)).assessment;
    assert_eq!(
        (found.urgency, found.reason.as_str()),
        (Urgency::Suspended, "Suspended (InvalidClientSecret)")
    );
    assert_eq!(found.since, None, "the condition is older than the suspension");
}

#[test]
fn an_object_that_no_operator_reconciles_needs_its_administrator() {
    for status in [json!(null), json!({"observedGeneration": -1})] {
        let found = state(&json!({}), &status).assessment;
        assert_eq!(
            (found.urgency, found.actor, found.reason.as_str()),
            (Urgency::NeedsAction, Actor::OperatorAdmin, "NotReconciled")
        );
    }
}

#[test]
fn a_condition_of_an_earlier_spec_or_of_a_deletion_is_in_progress() {
    let mut object = state(&json!({}), &status("True", "Ready", LONG_AGO)).object;
    object.metadata.generation = Some(2);
    let stale = ObjectState::of(Kind::Credential, object.clone(), now()).assessment;
    assert_eq!((stale.urgency, stale.reason.as_str()), (Urgency::InProgress, "Ready (of an earlier spec)"));
    object.data["status"] = status("False", "InvalidClientSecret", LONG_AGO);
    let fixed = ObjectState::of(Kind::Credential, object.clone(), now()).assessment;
    assert_eq!(
        (fixed.urgency, fixed.actor),
        (Urgency::InProgress, Actor::Nobody),
        "the new spec may solve it"
    );
    object.data["status"] = status("True", "Ready", LONG_AGO);
    object.metadata.generation = Some(1);
    object.metadata.deletion_timestamp = object.metadata.creation_timestamp.clone();
    let deleting = ObjectState::of(Kind::Credential, object.clone(), now()).assessment;
    assert_eq!((deleting.urgency, deleting.reason.as_str()), (Urgency::InProgress, "Deleting (Ready)"));
    object.data["status"] = status("False", "InUse", LONG_AGO);
    let blocked = ObjectState::of(Kind::Credential, object, now()).assessment;
    assert_eq!((blocked.urgency, blocked.actor), (Urgency::NeedsAction, Actor::MailboxManager));
}

#[test]
fn an_unreadable_status_is_reported_and_its_expiry_still_counts() {
    let mut odd = status("True", "Ready", LONG_AGO);
    odd["registration"] = json!({"credentialId": "odd"});
    let found = state(&json!({}), &odd);
    assert_eq!(
        (found.assessment.urgency, found.assessment.reason.as_str()),
        (Urgency::NeedsAction, "StatusUnreadable")
    );
    assert_eq!(found.days_left(now()), Some(545));
    odd["expiresAt"] = json!("2026-05-01T00:00:00Z");
    assert_eq!(state(&json!({}), &odd).assessment.reason, "Expired");
}

#[test]
fn days_are_rounded_towards_now() {
    for (expires_at, days) in [
        ("2026-06-02T23:59:59Z", 1),
        ("2026-06-01T12:00:00Z", 0),
        ("2026-05-31T23:59:59Z", 0),
        ("2026-05-30T23:59:59Z", -1),
    ] {
        assert_eq!(
            state(&json!({}), &json!({"expiresAt": expires_at})).days_left(now()),
            Some(days),
            "{expires_at}"
        );
    }
}

#[test]
fn ages_are_short() {
    let since = at("2026-01-01T00:00:00Z");
    for (now, text) in [
        ("2026-01-01T00:00:09Z", "9s"),
        ("2026-01-01T00:05:03Z", "5m3s"),
        ("2026-01-01T00:15:03Z", "15m"),
        ("2026-01-01T03:05:00Z", "3h5m"),
        ("2026-01-02T06:00:00Z", "30h"),
        ("2026-01-05T03:00:00Z", "4d3h"),
        ("2026-03-01T00:00:00Z", "59d"),
        ("2025-01-01T00:00:00Z", "0s"),
    ] {
        assert_eq!(age(since, at(now)), text);
    }
}

#[test]
fn a_problem_of_the_rotation_needs_action_although_the_credential_is_ready() {
    let with = |ready: &str, type_: &str, condition: &str, reason: &str| {
        let mut status = status(ready, "Ready", LONG_AGO);
        let condition = json!({
            "type": type_, "status": condition, "reason": reason, "message": "what to do", "lastTransitionTime": RECENTLY,
        });
        status["conditions"].as_array_mut().unwrap().push(condition);
        state(&json!({"rotation": {}}), &status)
    };
    for (type_, condition, reason, actor) in [
        ("RotationReady", "False", "WriteForbidden", Actor::TenantAdmin),
        // Another condition has a reason of this name too.
        ("RotationReady", "False", "GrantMissing", Actor::OperatorAdmin),
        ("RotationReady", "False", "RenewalOverdue", Actor::User),
        ("UnknownOwnSecrets", "True", "SecretsNotRecorded", Actor::User),
    ] {
        let found = with("True", type_, condition, reason);
        assert!(found.is_ready, "{reason}");
        let Assessment { urgency, reason: shown, message, since, actor: who, .. } = &found.assessment;
        assert_eq!((*urgency, shown.as_str(), *who), (Urgency::NeedsAction, reason, actor));
        assert_eq!((message.as_str(), *since), ("what to do", Some(at(RECENTLY))));
        let not_ready = with("Unknown", type_, condition, reason);
        assert_eq!((not_ready.is_ready, not_ready.assessment.reason.as_str()), (false, "Ready"), "{reason}");
    }
    for (condition, reason) in [("True", "RotationScheduled"), ("Unknown", "RateLimited")] {
        assert_eq!(with("True", "RotationReady", condition, reason).assessment.urgency, Urgency::Ready);
    }
}
