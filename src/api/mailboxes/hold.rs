//! Why a request to connect mailboxes waits for a person.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::UnknownFields;

/// Why a request waits for a person.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionHold {
    /// What is unexpected.
    pub reason: HoldReason,

    /// IDs of the mailboxes at Woodpecker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 25))]
    pub ids: Vec<i64>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// What is unexpected about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HoldReason {
    /// Woodpecker said that the mailbox is connected, and a later listing lacks it.
    NotListed,
    /// Woodpecker said that a mailbox is connected whose address was not submitted.
    UnexpectedAddress,
}
