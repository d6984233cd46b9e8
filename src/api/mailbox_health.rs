//! The health of an account's mailboxes: the setting and what is observed.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::duration::{self, KubeDuration};
use crate::api::{UnknownFields, timestamp};

/// Default of `spec.mailboxHealth.interval`.
pub const MAILBOX_INTERVAL: Duration = Duration::from_mins(30);

/// The bound that the schema also has: adding the interval to a timestamp must not overflow.
const MAX_INTERVAL: Duration = Duration::from_hours(24);

/// How the operator watches the mailboxes of an account.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(duration::rule("self.interval", "10m", "24h"))
    .message("spec.mailboxHealth.interval must be a duration between 10m and 24h in hours, minutes and seconds, such as 30m or 1h30m")
    .field_path(".interval"))]
pub struct MailboxHealth {
    /// How often the operator lists the mailboxes, such as `30m`; from 10m to 24h. Defaults to 30m. Each listing is one
    /// request, and every other request to the account goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub interval: Option<KubeDuration>,
}

/// The mailboxes of an account, by its last listing. Woodpecker shows several objects for some mailboxes: those of one
/// address count as one mailbox, in the worst of their states.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailboxHealthStatus {
    /// When the mailboxes were last listed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub last_listed_time: Option<Time>,

    /// Number of mailboxes about which Woodpecker reports no problem.
    #[serde(default)]
    pub healthy: i32,

    /// Number of mailboxes that are "connected conditionally", in Woodpecker's words.
    #[serde(default)]
    pub degraded: i32,

    /// Number of mailboxes with an error, and of those that must be connected again.
    #[serde(default)]
    pub failing: i32,

    /// Number of mailboxes without a slot, with which Woodpecker does not send or receive.
    #[serde(default)]
    pub inactive: i32,

    /// Number of mailboxes that a person has paused for now.
    #[serde(default)]
    pub frozen: i32,

    /// The failing mailboxes, longest first; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub failing_mailboxes: Vec<FailingMailbox>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// A mailbox that Woodpecker shows with an error.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailingMailbox {
    /// ID of the mailbox at Woodpecker; the lowest one, if it has several objects. `GET /rest/v2/mailboxes/ID` shows its
    /// address and the error.
    pub id: i64,

    /// Since when every listing has shown it as failing.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub first_seen_time: Time,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

// === impl MailboxHealth ===

impl MailboxHealth {
    /// How often the mailboxes are listed.
    pub fn interval(&self) -> Duration {
        self.interval.as_ref().map_or(MAILBOX_INTERVAL, KubeDuration::get).min(MAX_INTERVAL)
    }
}
