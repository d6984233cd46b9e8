//! What the status of an object says about its state: whether somebody must act, who, and since when. Objects are read
//! untyped, so that invalid ones are not missed.

use jiff::Timestamp;
use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::Value;

use crate::api::conditions::{Condition, ConditionStatus, ConditionType, find};
use crate::api::reasons::{Actor, ENTRIES, Entry, Kind};
use crate::api::{AccountName, MicrosoftGraphCredentialStatus, NamespacedName};
use crate::cli::output::Style;

/// The object and its state.
#[derive(Debug)]
pub(super) struct ObjectState {
    pub(super) kind: Kind,
    pub(super) name: NamespacedName,
    pub(super) object: DynamicObject,
    pub(super) conditions: Vec<Condition>,
    /// Empty for an account, or if the status cannot be read.
    pub(super) status: MicrosoftGraphCredentialStatus,
}

/// How urgent an object is, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// It is not ready, and somebody must act.
    NeedsAction,
    /// Its secret expires soon.
    ExpiresSoon,
    /// It is not ready, and the operator continues automatically.
    InProgress,
    /// The operator does nothing, as the object says.
    Suspended,
    Ready,
}

// === impl ObjectState ===

impl ObjectState {
    pub(super) fn of(kind: Kind, object: DynamicObject) -> Self {
        let conditions = object.data.pointer("/status/conditions").cloned().unwrap_or_default();
        let status = match kind {
            Kind::Credential => object.data.get("status").and_then(|it| Deserialize::deserialize(it).ok()),
            Kind::Account => None,
        };
        Self {
            kind,
            name: NamespacedName::of(&object),
            conditions: serde_json::from_value(conditions).unwrap_or_default(),
            status: status.unwrap_or_default(),
            object,
        }
    }

    pub(super) fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        find(&self.conditions, type_)
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.object.data.pointer(path).and_then(Value::as_str)
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.object.data.pointer("/spec/suspend") == Some(&Value::Bool(true))
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// Whether the conditions describe the current spec.
    pub(super) fn is_current(&self) -> bool {
        let observed = self.object.data.pointer("/status/observedGeneration").and_then(Value::as_i64);
        observed.is_some() && observed == self.object.metadata.generation
    }

    /// The account that the spec references.
    pub(super) fn account(&self) -> Option<AccountName> {
        let reference = "/spec/destination/woodpecker/accountRef";
        let name = self.text(&format!("{reference}/name"))?.to_owned();
        let namespace = self.text(&format!("{reference}/namespace")).unwrap_or(&self.name.namespace);
        Some(AccountName { namespace: namespace.to_owned(), name })
    }

    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        Some(self.status.expires_at.as_ref()?.0)
    }

    /// The days until the secret expires, rounded down.
    pub(super) fn days_left(&self, now: Timestamp) -> Option<i64> {
        let seconds = self.expires_at()?.as_second() - now.as_second();
        Some(seconds.div_euclid(24 * 60 * 60))
    }

    pub(super) fn urgency(&self) -> Urgency {
        let ready = self.condition(ConditionType::Ready).map(|ready| ready.status);
        let is_expiring = self
            .condition(ConditionType::Expiring)
            .is_some_and(|expiring| expiring.status == ConditionStatus::True);
        let is_anyone_to_act = self.actor() != Actor::Nobody;
        match ready {
            Some(ConditionStatus::False) if is_anyone_to_act => Urgency::NeedsAction,
            _ if is_expiring => Urgency::ExpiresSoon,
            _ if self.is_suspended() => Urgency::Suspended,
            Some(ConditionStatus::True) if self.is_current() && !self.is_deleted() => Urgency::Ready,
            _ => Urgency::InProgress,
        }
    }

    /// The condition that explains the state.
    pub(super) fn cause(&self) -> Option<&Condition> {
        let ready = self.condition(ConditionType::Ready);
        let expiring = self.condition(ConditionType::Expiring);
        let is_ready = ready.is_some_and(|ready| ready.status == ConditionStatus::True);
        expiring.filter(|it| is_ready && it.status == ConditionStatus::True).or(ready)
    }

    /// What the reason table says about the cause.
    pub(super) fn entry(&self) -> Option<&'static Entry> {
        let cause = self.cause()?;
        let is_it = |entry: &&Entry| entry.kind == self.kind && entry.reason.as_str() == cause.reason;
        ENTRIES.iter().find(is_it)
    }

    pub(super) fn actor(&self) -> Actor {
        self.entry().map_or(Actor::Nobody, |entry| entry.actor)
    }

    /// The name as `kubectl -o name` prints it.
    pub(super) fn resource_name(&self) -> String {
        let resource = match self.kind {
            Kind::Credential => "microsoftgraphcredential",
            Kind::Account => "woodpeckeraccount",
        };
        format!("{resource}.graph-credentials.io/{}", self.name.name)
    }
}

// === impl Urgency ===

impl Urgency {
    pub(super) fn style(self) -> Style {
        match self {
            Self::NeedsAction => Style::Bad,
            Self::ExpiresSoon | Self::InProgress => Style::Warning,
            Self::Suspended => Style::Plain,
            Self::Ready => Style::Good,
        }
    }

    /// Whether a person should look at it.
    pub(super) fn needs_attention(self) -> bool {
        matches!(self, Self::NeedsAction | Self::ExpiresSoon)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NeedsAction => "NeedsAction",
            Self::ExpiresSoon => "ExpiresSoon",
            Self::InProgress => "InProgress",
            Self::Suspended => "Suspended",
            Self::Ready => "Ready",
        }
    }
}

/// A duration as kubectl shows ages, such as `5d3h`.
pub(super) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = (now.as_second() - since.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, 1..=9) => format!("{minutes}m{}s", seconds % 60),
        (0, 0, _) => format!("{minutes}m"),
        (0, 1..=7, _) => format!("{hours}h{}m", minutes % 60),
        (0 | 1, ..) => format!("{hours}h"),
        (2..=7, ..) => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// The description of a reason that an older or newer version wrote.
pub(super) fn action_of(entry: Option<&'static Entry>) -> &'static str {
    entry.map_or("Run `kubectl describe` on the object: this version does not know the reason.", |entry| {
        entry.action
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn state(spec: &Value, status: &Value) -> ObjectState {
        let object = json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
            "metadata": {"name": "x", "namespace": "mail", "generation": 1}, "spec": spec, "status": status,
        });
        ObjectState::of(Kind::Credential, serde_json::from_value(object).unwrap())
    }

    fn conditions(list: &[(&str, &str, &str)]) -> Value {
        let condition = |(type_, status, reason): &(&str, &str, &str)| json!({"type": type_, "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        json!({"observedGeneration": 1, "conditions": list.iter().map(condition).collect::<Vec<_>>()})
    }

    #[test]
    fn urgency_follows_the_conditions() {
        for (spec, list, expected) in [
            (json!({}), vec![("Ready", "True", "Ready")], Urgency::Ready),
            (json!({}), vec![("Ready", "False", "InvalidClientSecret")], Urgency::NeedsAction),
            (json!({}), vec![("Ready", "False", "InvalidObject")], Urgency::NeedsAction),
            (json!({}), vec![("Ready", "Unknown", "WoodpeckerUnavailable")], Urgency::InProgress),
            (
                json!({}),
                vec![("Ready", "True", "Ready"), ("Expiring", "True", "ExpiresSoon")],
                Urgency::ExpiresSoon,
            ),
            (json!({"suspend": true}), vec![("Ready", "True", "Ready")], Urgency::Suspended),
            (json!({}), vec![], Urgency::InProgress),
        ] {
            assert_eq!(state(&spec, &conditions(&list)).urgency(), expected, "{list:?}");
        }
    }

    #[test]
    fn a_ready_condition_of_an_earlier_spec_does_not_count() {
        let mut state = state(&json!({}), &conditions(&[("Ready", "True", "Ready")]));
        state.object.metadata.generation = Some(2);
        assert_eq!(state.urgency(), Urgency::InProgress);
    }

    #[test]
    fn an_expiring_credential_names_the_expiry_as_its_cause() {
        let list = [("Ready", "True", "Ready"), ("Expiring", "True", "ExpiresSoon")];
        let state = state(&json!({}), &conditions(&list));
        assert_eq!((state.cause().unwrap().reason.as_str(), state.actor()), ("ExpiresSoon", Actor::User));
    }

    #[test]
    fn an_unreadable_status_is_no_failure() {
        let state = state(&json!({}), &json!({"conditions": "odd", "expiresAt": 7}));
        assert_eq!((state.urgency(), state.expires_at()), (Urgency::InProgress, None));
    }

    #[test]
    fn days_are_rounded_down_and_negative_after_the_expiry() {
        let state = state(&json!({}), &json!({"expiresAt": "2026-01-03T00:00:00Z"}));
        for (now, days) in
            [("2026-01-01T00:00:01Z", 1), ("2026-01-02T12:00:00Z", 0), ("2026-01-03T00:00:01Z", -1)]
        {
            assert_eq!(state.days_left(at(now)), Some(days), "{now}");
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
}
