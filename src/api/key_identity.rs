//! Who an API key belongs to at Woodpecker, in the status of an account.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Who an API key belongs to, as Woodpecker says. Every field may be absent, because Woodpecker does not document the
/// response.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyIdentity {
    /// ID of the firm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firm_id: Option<i64>,

    /// Name of the firm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firm_name: Option<String>,

    /// ID of the user who created the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<i64>,

    /// Name of that user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
}
