//! What a `MicrosoftGraphCredential` says about its app at Microsoft Entra: its settings, and what the operator read
//! there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::ids::SUBDOMAIN_RULE;
use crate::api::{UnknownFields, timestamp};

/// How the operator uses what Microsoft Entra knows about the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntraSettings {
    /// Reference to the `EntraIdentity` with which the operator reads the app. One of its grants must name this
    /// namespace, `tenantId` and `clientId`.
    pub identity_ref: IdentityRef,

    /// What the expiry at Entra is used for; the schema has the description of [`ExpiryMode`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<ExpiryMode>,
}

/// Reference to an `EntraIdentity` in the operator's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityRef {
    /// Name of the `EntraIdentity`, which is in the operator's namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(SUBDOMAIN_RULE)
        .message("spec.entra.identityRef.name must be the name of an EntraIdentity in the operator's namespace: lower-case letters, digits, '-' and '.'"))]
    pub name: String,
}

/// `Check`: the operator compares the given expiry with the one at Entra, and reports the result in the condition
/// `ExpiryConfirmed`. `Follow`: the expiry at Entra is used, and a given one is ignored; nothing is registered before it
/// is known. Defaults to `Check`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExpiryMode {
    /// The given expiry is compared with the one at Entra.
    #[default]
    Check,
    /// The expiry at Entra is used.
    Follow,
}

/// What the operator last read about the client secret at Microsoft Entra.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntraStatus {
    /// Keyed fingerprint, `<key id>:<hex>`, of the client secret that this is about.
    pub fingerprint: String,
    /// ID of the secret's entry at Entra, which the Entra admin center calls "Secret ID". Absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Where the entry is: at the application, or at its service principal in the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<SecretHolder>,
    /// Expiry at Entra. Absent until it was read.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub expires_at: Option<Time>,
    /// Time when the app was last read.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub last_read_time: Option<Time>,
    /// An earlier expiry, or the absence of the entry. It counts after three readings over five minutes, because
    /// readings may be outdated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_change: Option<Box<PendingExpiryChange>>,
    /// Time of the next reading after one that failed, unless the spec or the Secret changes first.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub next_attempt_time: Option<Time>,
    /// Number of consecutive readings that failed or did not find the secret. Absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<i32>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// The object that has the entry of a client secret at Entra.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SecretHolder {
    /// The application, shown under App registrations.
    Application,
    /// The service principal of the application in the tenant.
    ServicePrincipal,
}

/// An earlier expiry, or the absence of the entry, that was read fewer than three times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingExpiryChange {
    /// The earlier expiry; absent if Entra no longer shows the entry.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub expires_at: Option<Time>,
    /// Time of the first reading of it.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub first_read_time: Time,
    /// Time of the last reading of it.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub last_read_time: Time,
    /// Number of readings of it in a row, at most 3.
    pub count: i32,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

// === impl SecretHolder ===

impl SecretHolder {
    /// The object in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "the application",
            Self::ServicePrincipal => "the service principal",
        }
    }
}
