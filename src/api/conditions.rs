//! Conditions: their types, and how new ones are merged into those of an object.
//!
//! The text of a condition must not change while its state does not: trace IDs, times and remote texts, which differ on
//! each attempt, would cause endless status writes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::api::reasons::Reason;
use crate::api::{UnknownFields, timestamp};

/// The type of a condition. Conditions are always written in this order, because the API server treats a different order
/// as a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The summary of the others.
    Ready,
    /// The Secret was read and contains a usable client secret and expiry.
    SecretReady,
    /// Microsoft issued a token for the secret.
    Verified,
    /// The destination has the credential.
    Registered,
    /// The operator can sign in in every tenant that an identity's grants name.
    TenantsReady,
    /// The secret expires soon or has expired: True is the abnormal status.
    Expiring,
    /// The expiry matches the one at Microsoft Entra. Present only with `spec.entra`.
    ExpiryConfirmed,
    /// The operator creates and removes client secrets as scheduled. Present only with `spec.rotation`, or while client
    /// secrets from an earlier one are left.
    RotationReady,
    /// The app has client secrets that were created for the object, but that nothing records. Present only while True.
    UnknownOwnSecrets,
    /// No mailbox of the account fails for long. Present only with `spec.mailboxHealth`.
    MailboxesHealthy,
    /// The operator is working on it or retries soon. Present only while True (kstatus).
    Reconciling,
    /// A person must act. Present only while True (kstatus).
    Stalled,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known.
    Unknown,
}

/// One aspect of an object's state, in the form of Kubernetes' `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type of the condition in `CamelCase`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// Status of the condition: True, False or Unknown.
    pub status: ConditionStatus,
    /// Reason for the status, a stable identifier in `CamelCase` for alerts and scripts.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Human-readable description of the state and of what to do.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// Time when `status` last changed.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub last_transition_time: Time,
    /// The `metadata.generation` that the condition reflects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// A condition that an object should have, before it is merged into its current ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Its type.
    pub type_: ConditionType,
    /// Its status.
    pub status: ConditionStatus,
    /// Its reason.
    pub reason: Reason,
    /// The problem and what to do, in one or two sentences.
    pub message: String,
}

/// Merges `desired` into `previous`, in the fixed order. Keeps the transition time of a condition whose status is
/// unchanged, and appends conditions of types that this version does not know.
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

/// The condition of that type, if its status, reason or message changed.
pub fn changed<'a>(
    before: &[Condition],
    after: &'a [Condition],
    type_: ConditionType,
) -> Option<&'a Condition> {
    let says = |it: &Condition| (it.status, it.reason.clone(), it.message.clone());
    find(after, type_).filter(|after| find(before, type_).map(says) != Some(says(after)))
}

/// Truncates a time to whole seconds, because Kubernetes stores no fraction.
pub fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

// === impl ConditionType ===

impl ConditionType {
    /// All types, in the order in which they are written.
    pub const ALL: [Self; 12] = [
        Self::Ready,
        Self::SecretReady,
        Self::Verified,
        Self::Registered,
        Self::TenantsReady,
        Self::Expiring,
        Self::ExpiryConfirmed,
        Self::RotationReady,
        Self::UnknownOwnSecrets,
        Self::MailboxesHealthy,
        Self::Reconciling,
        Self::Stalled,
    ];

    /// The name in the condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::SecretReady => "SecretReady",
            Self::Verified => "Verified",
            Self::Registered => "Registered",
            Self::TenantsReady => "TenantsReady",
            Self::Expiring => "Expiring",
            Self::ExpiryConfirmed => "ExpiryConfirmed",
            Self::RotationReady => "RotationReady",
            Self::UnknownOwnSecrets => "UnknownOwnSecrets",
            Self::MailboxesHealthy => "MailboxesHealthy",
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

    /// The desired condition that leaves this one as it is; `None` if this version does not know its type or reason.
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
    /// A condition with status True.
    pub fn met(type_: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, status: ConditionStatus::True, reason, message: message.into() }
    }

    /// A condition with status False.
    pub fn unmet(type_: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, status: ConditionStatus::False, reason, message: message.into() }
    }

    /// A condition with status Unknown.
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
    fn a_condition_that_is_not_desired_is_removed() {
        let before = merge(&[], vec![ready(ConditionStatus::True, "")], 1, at(1));
        assert_eq!(merge(&before, vec![], 1, at(2)), vec![]);
    }

    #[test]
    fn unknown_conditions_and_fields_are_kept() {
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
    fn a_condition_survives_the_conversion_to_a_desired_one() {
        let before = merge(&[], vec![ready(ConditionStatus::True, "all well")], 1, at(1));
        let kept = before[0].as_desired().map(|desired| merge(&before, vec![desired], 1, at(9)));
        assert_eq!(kept, Some(before));
    }
}
