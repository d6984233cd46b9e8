//! Conditions: their types, their reasons, and the rules by which a new set follows an old one.
//!
//! A condition says what is true now, in words that stay the same while it stays true: nothing that differs
//! on each try (trace ids, times, remote texts) belongs into one, or the object would change for ever.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::catalogue::Reason;
use super::{UnknownFields, date_time};

/// What a condition is about. The order here is the order in which conditions are always written: for the
/// API server another order is a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The summary: everything needed holds.
    Ready,
    /// The Secret could be read and holds a usable secret and expiry.
    SourceReady,
    /// Microsoft has issued a token for the secret.
    Verified,
    /// The destination holds the credential.
    Registered,
    /// The secret expires soon or has expired. True is bad news.
    Expiring,
    /// Work is under way or will be tried again soon. Present only while True (kstatus).
    Reconciling,
    /// Nothing more will happen before a person acts. Present only while True (kstatus).
    Stalled,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

/// One aspect of an object's state, in the form of Kubernetes' `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about, in `CamelCase`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// True, False or Unknown.
    pub status: ConditionStatus,
    /// Why, as one word in `CamelCase`; stable, for alerts and scripts.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// What is so and what to do about it, for people.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When `status` last changed.
    #[serde(deserialize_with = "date_time::required")]
    #[schemars(schema_with = "date_time::schema")]
    pub last_transition_time: Time,
    /// The `metadata.generation` that the condition is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// A condition as a pass wants it, before it is merged into the ones that the object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// What it is about.
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why.
    pub reason: Reason,
    /// Problem and cure, in one or two sentences.
    pub message: String,
}

/// The set that follows `previous`: the `desired` ones in the fixed order, each keeping its transition time where its
/// status stays, and after them those of types that this version does not know.
pub fn merge(
    previous: &[Condition],
    mut desired: Vec<Desired>,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    desired.sort_by_key(|condition| condition.type_);
    let next = desired.into_iter().map(|new| {
        let before = find(previous, new.type_);
        let since = before
            .filter(|old| old.status == new.status)
            .map_or_else(|| Time(whole_second(now)), |old| old.last_transition_time.clone());
        Condition {
            type_: new.type_.as_str().to_owned(),
            status: new.status,
            reason: new.reason.as_str().to_owned(),
            message: new.message,
            last_transition_time: since,
            observed_generation: Some(generation),
            unknown: before.map(|old| old.unknown.clone()).unwrap_or_default(),
        }
    });
    let is_unknown =
        |condition: &&Condition| ConditionType::ALL.iter().all(|known| known.as_str() != condition.type_);
    next.chain(previous.iter().filter(is_unknown).cloned()).collect()
}

/// The condition of that type.
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

/// The condition of that type, where it is another one than before: other words count as well.
pub fn changed<'a>(
    before: &[Condition],
    after: &'a [Condition],
    type_: ConditionType,
) -> Option<&'a Condition> {
    let says = |it: &Condition| (it.status, it.reason.clone(), it.message.clone());
    find(after, type_).filter(|after| find(before, type_).map(says) != Some(says(after)))
}

/// `now` without its fraction: Kubernetes keeps whole seconds, and a fraction would differ when read back.
pub fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

// === impl ConditionType ===

impl ConditionType {
    /// Every type, in the order in which they are written.
    pub const ALL: [Self; 7] = [
        Self::Ready,
        Self::SourceReady,
        Self::Verified,
        Self::Registered,
        Self::Expiring,
        Self::Reconciling,
        Self::Stalled,
    ];

    /// The name as it stands in the condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::SourceReady => "SourceReady",
            Self::Verified => "Verified",
            Self::Registered => "Registered",
            Self::Expiring => "Expiring",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

// === impl Condition ===

impl Condition {
    /// Whether the condition has this reason.
    pub fn is_because(&self, reason: Reason) -> bool {
        self.reason == reason.as_str()
    }

    /// What a pass would have to want for the condition to stay as it is; nothing where this version does
    /// not know its type or reason.
    pub fn as_desired(&self) -> Option<Desired> {
        Some(Desired {
            type_: ConditionType::ALL.into_iter().find(|type_| type_.as_str() == self.type_)?,
            status: self.status,
            reason: Reason::ALL.iter().copied().find(|reason| self.is_because(*reason))?,
            message: self.message.clone(),
        })
    }
}

// === impl Desired ===

impl Desired {
    /// It holds.
    pub fn met(type_: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, status: ConditionStatus::True, reason, message: message.into() }
    }

    /// It does not hold.
    pub fn unmet(type_: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, status: ConditionStatus::False, reason, message: message.into() }
    }

    /// It cannot be told.
    pub fn unknown(type_: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, status: ConditionStatus::Unknown, reason, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: ConditionStatus, message: &str) -> Desired {
        Desired { type_: ConditionType::Ready, status, reason: Reason::Ready, message: message.into() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = merge(&[], vec![ready(ConditionStatus::False, "a")], 1, at(10));
        let second = merge(&first, vec![ready(ConditionStatus::False, "b")], 2, at(20));
        assert_eq!(second[0].last_transition_time.0, at(10));
        assert_eq!((second[0].message.as_str(), second[0].observed_generation), ("b", Some(2)));
        let third = merge(&second, vec![ready(ConditionStatus::True, "b")], 2, at(30));
        assert_eq!(third[0].last_transition_time.0, at(30));
    }

    #[test]
    fn the_order_never_depends_on_the_caller() {
        let stalled = Desired { type_: ConditionType::Stalled, ..ready(ConditionStatus::True, "") };
        let one = merge(&[], vec![stalled.clone(), ready(ConditionStatus::False, "")], 1, at(1));
        let other = merge(&[], vec![ready(ConditionStatus::False, ""), stalled], 1, at(1));
        assert_eq!(one, other);
        assert_eq!(one[0].type_, "Ready");
    }

    #[test]
    fn what_is_not_wanted_any_more_goes() {
        let before = merge(&[], vec![ready(ConditionStatus::True, "")], 1, at(1));
        assert_eq!(merge(&before, vec![], 1, at(2)), vec![]);
    }

    #[test]
    fn what_this_version_does_not_know_is_kept() {
        let mut before = merge(&[], vec![ready(ConditionStatus::True, "")], 1, at(1));
        let newer = serde_json::json!({
            "type": "Newer", "status": "True", "reason": "Later", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "field": {"a": 1}
        });
        before.push(serde_json::from_value(newer.clone()).unwrap());
        before[0].unknown = serde_json::from_value(serde_json::json!({"more": "x"})).unwrap();
        let after = merge(&before, vec![ready(ConditionStatus::False, "b")], 2, at(2));
        assert_eq!(serde_json::to_value(&after[1]).unwrap(), newer);
        assert_eq!(serde_json::to_value(&after[0]).unwrap()["more"], "x");
    }

    #[test]
    fn a_condition_survives_the_way_back_to_what_is_wanted() {
        let before = merge(&[], vec![ready(ConditionStatus::True, "all well")], 1, at(1));
        let kept = before[0].as_desired().map(|desired| merge(&before, vec![desired], 1, at(9)));
        assert_eq!(kept, Some(before));
    }
}
