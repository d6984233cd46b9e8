//! Rotation of the client secret by the operator: its settings, and what it did at Microsoft Entra.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::duration::{self, KubeDuration};
use crate::api::{UnknownFields, timestamp};

/// How the operator creates and replaces the client secret of the app at Microsoft Entra.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(duration::rule("self.validity", "1h", "17520h"))
        .message("spec.rotation.validity must be a duration between 1h and 17520h (two years) in hours, minutes and seconds, such as 4320h")
        .field_path(".validity"),
    validation = Rule::new(duration::rule("self.renewBefore", "10m", "8760h"))
        .message("spec.rotation.renewBefore must be a duration between 10m and 8760h in hours, minutes and seconds, such as 720h")
        .field_path(".renewBefore"),
    validation = Rule::new(duration::rule("self.overlap", "0s", "720h"))
        .message("spec.rotation.overlap must be a duration between 0s and 720h in hours, minutes and seconds, such as 24h")
        .field_path(".overlap"),
    validation = Rule::new("duration(has(self.validity) ? self.validity : '4320h') > duration(has(self.renewBefore) ? self.renewBefore : '720h') + duration(has(self.overlap) ? self.overlap : '24h')")
        .message("spec.rotation.validity must be longer than renewBefore and overlap together: lengthen validity, or shorten one of the others")
        .field_path(".validity")
)]
pub struct Rotation {
    /// How long a new client secret is valid, such as `4320h`; from 1h to 17520h (two years). A policy of the tenant may
    /// allow less. Defaults to 4320h (180 days).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub validity: Option<KubeDuration>,

    /// How long before its expiry the client secret is replaced, such as `720h`; from 10m to 8760h. Defaults to 720h (30
    /// days).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub renew_before: Option<KubeDuration>,

    /// How long the earlier client secret stays valid after the new one is registered, such as `24h`; from 0s to 720h.
    /// Defaults to 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub overlap: Option<KubeDuration>,
}

/// The client secrets that the operator created for the app. It removes no others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// The client secret in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<CreatedSecret>,
    /// A new client secret that is not registered yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<CreatedSecret>,
    /// Value of the annotation `graph-credentials.io/rotate-requested-at` that led to the rotation in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<String>,
    /// Overlap of the rotation in progress, such as `0s`, if its request set one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub requested_overlap: Option<String>,
    /// Earlier client secrets that are still to be removed at Entra, at most sixteen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub earlier: Vec<EarlierSecret>,
    /// A request to create a client secret whose outcome is not known, persisted before the request is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<CreateAttempt>,
    /// Earlier such requests. What they created may show up at Entra within 48 hours, and is then removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub earlier_attempts: Vec<CreateAttempt>,
    /// Readings of the app that showed the client secret in use, before an earlier one is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observations: Option<Observations>,
    /// Time when the client secrets of the app were last read.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub last_read_time: Option<Time>,
    /// Number of client secrets of others at an app that has room for two, so that the next one cannot be created. Absent
    /// if there is room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocking_secrets: Option<i32>,
    /// Client secrets of the app that this object created according to their names, but that nothing records; at most
    /// eight. They are removed only on request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub unknown_secrets: Vec<UnknownSecret>,
    /// Reason of the last failure. Absent after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Time of the next attempt after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub next_attempt_time: Option<Time>,
    /// Number of consecutive failures. Absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<i32>,
    /// Last handled value of the annotation `graph-credentials.io/rotate-requested-at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_rotate_at: Option<String>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// A client secret that the operator created, as Entra knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedSecret {
    /// ID of its entry at Entra, which the Entra admin center calls "Secret ID".
    #[schemars(length(max = 64))]
    pub key_id: String,
    /// Description of its entry at Entra, which names this object's UID.
    #[schemars(length(max = 128))]
    pub display_name: String,
    /// Its expiry at Entra.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub expires_at: Time,
    /// Time when the operator requested it.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub creation_time: Time,
    /// Whether it is never removed, because a registration that this object no longer manages has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// An earlier client secret that the operator created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EarlierSecret {
    /// ID of its entry at Entra.
    pub key_id: String,
    /// Description of its entry at Entra.
    pub display_name: String,
    /// Its expiry at Entra.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub expires_at: Time,
    /// Time from which it may be removed: the registration of its successor and the overlap. Absent until the successor
    /// is registered.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub remove_after_time: Option<Time>,
    /// Time when Entra confirmed the removal. It stays here until a later reading no longer shows it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub removal_time: Option<Time>,
    /// Whether nothing uses it, so that it is removed without a check of its successor: its text was lost, it was not
    /// accepted, or its registration was deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unused: bool,
    /// Whether it is never removed, because a registration that this object no longer manages has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// A request to create a client secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateAttempt {
    /// Description of the client secret that was requested.
    pub display_name: String,
    /// Time when the request was persisted.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub start_time: Time,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// Readings in a row that showed a client secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observations {
    /// ID of the client secret's entry.
    pub key_id: String,
    /// Number of readings, at most 3.
    pub count: i32,
    /// Time of the first reading.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub first_time: Time,
    /// Time of the last reading.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub last_time: Time,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// A client secret that this object created according to its name, but that nothing records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnknownSecret {
    /// ID of its entry at Entra.
    pub key_id: String,
    /// Expiry at Entra, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub expires_at: Option<Time>,
    /// Time of the reading that first showed it. The client secret in use is sent to Woodpecker again after that, before
    /// this one is removed on request.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub first_seen_time: Option<Time>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

// === impl RotationStatus ===

impl RotationStatus {
    /// Whether a client secret of the object is or may be at Entra.
    pub fn has_secrets(&self) -> bool {
        self.current.is_some()
            || self.pending.is_some()
            || self.attempt.is_some()
            || !self.earlier.is_empty()
            || !self.earlier_attempts.is_empty()
    }
}

// === impl CreatedSecret ===

impl CreatedSecret {
    /// The same as an earlier one, to be removed once its successor is registered.
    pub fn into_earlier(self, remove_after_time: Option<Time>) -> EarlierSecret {
        EarlierSecret {
            key_id: self.key_id,
            display_name: self.display_name,
            expires_at: self.expires_at,
            remove_after_time,
            removal_time: None,
            unused: false,
            kept: self.kept,
            unknown: self.unknown,
        }
    }
}
