//! A mailbox that has left the spec.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::UnknownFields;

/// A mailbox that is, or may be, connected although it is no longer in the spec.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftMailbox {
    /// Address of the mailbox.
    #[schemars(length(max = 254))]
    pub email: String,

    /// ID of the mailbox at Woodpecker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,

    /// The credential with which this object submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<i64>,

    /// True if the last listing lacked it, so that it may be connected or not. If it returns to the spec, it is submitted only
    /// after a person requests a reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<bool>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

// === impl LeftMailbox ===

impl LeftMailbox {
    /// A mailbox that is connected.
    pub fn new(email: String, id: Option<i64>, credential_id: Option<i64>) -> Self {
        Self { email, id, credential_id, unlisted: None, unknown: UnknownFields::default() }
    }
}
