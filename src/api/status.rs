//! The status of a `MicrosoftGraphCredential`: its conditions, and the persisted registration state.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;
use kube::{KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::conditions::Condition;
use crate::api::entra::EntraStatus;
use crate::api::rotation::RotationStatus;
use crate::api::{UnknownFields, timestamp};

/// Observed state of the credential. Only the operator writes it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct MicrosoftGraphCredentialStatus {
    /// The `metadata.generation` that the status reflects; −1 until the operator has reconciled the object.
    #[serde(default = "super::unobserved")]
    pub observed_generation: i64,

    /// ID of the credential at the destination, copied from `registration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<i64>,

    /// Expiry of the registered secret, copied from `registration`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub expires_at: Option<Time>,

    /// Source of `expiresAt`: the Secret, the spec or Entra.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_source: Option<ExpirySource>,

    /// Last expiry notice, in days before the expiry: 30, 14, 7, 1, or 0 for the expiry itself. Absent until the first
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_notice_days: Option<i32>,

    /// Time when Microsoft last issued a token for the secret.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub last_verified_time: Option<Time>,

    /// Application roles in that token; absent if they could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_roles: Option<Vec<String>>,

    /// What the operator last read about the secret at Microsoft Entra; absent without `spec.entra`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entra: Option<Box<EntraStatus>>,

    /// The client secrets that the operator created for the app; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Box<RotationStatus>>,

    /// Rejections of a secret for which Microsoft issued a token before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejections: Option<Box<Rejections>>,

    /// The credential that is registered at the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,

    /// Previous registrations that are still to be deleted, at most four.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub previous_registrations: Vec<Registration>,

    /// A create in progress, persisted before the request is sent. Recovery uses the account named here, even if the
    /// spec has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_create: Option<Box<PendingCreate>>,

    /// A new client secret that is not accepted yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_secret: Option<Box<PendingSecret>>,

    /// Time of the next verification after one that failed, unless the spec or the Secret changes first.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub next_verification_time: Option<Time>,

    /// Time of the next attempt at the destination after a failure there, unless the spec or the Secret changes first.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub next_attempt_time: Option<Time>,

    /// Number of consecutive failures since the last success or change. Absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<i32>,

    /// Last handled value of the annotation `graph-credentials.io/reconcile-requested-at` (or
    /// `reconcile.fluxcd.io/requestedAt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,

    /// Conditions of the credential: Ready, SecretReady, Verified, Registered, Expiring, `ExpiryConfirmed` (only with
    /// `spec.entra`), `RotationReady` (only with `spec.rotation`), and, only while True, `UnknownOwnSecrets`, Reconciling
    /// and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Version of the Secret that was last found to contain the registered secret. The operator does not read this
    /// version again before a verification is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_secret: Option<ObservedSecret>,

    /// Version of the SealedGraphCredential that was last found to contain the secret of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_record: Option<Box<ObservedRecord>>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// Source of `expiresAt`: the expiry key of the Secret, `spec.secretExpiresAt`, or Microsoft Entra.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExpirySource {
    /// The expiry key of the Secret.
    Secret,
    /// `spec.secretExpiresAt`.
    Spec,
    /// Microsoft Entra.
    Entra,
}

/// The object's credential at a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// The `WoodpeckerAccount` of the registration; absent for the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountName>,
    /// Base URL of Woodpecker's API when it was registered; absent for the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// For agencies: ID of the company that it was registered for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company_id: Option<i64>,
    /// Name of the `SealedGraphCredential`; absent for Woodpecker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// ID of the credential at the destination, a positive number.
    pub credential_id: i64,
    /// Whether this object created or adopted the credential.
    pub ownership: Ownership,
    /// Keyed fingerprint, `<key id>:<hex>`, of the registered secret and expiry; `unknown` if it is not known which
    /// secret the destination has, for example during an update.
    pub fingerprint: String,
    /// Name at the destination; empty if it is not known.
    pub name: String,
    /// Expiry at the destination.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub expires_at: Time,
    /// Time when the registration was created or last changed.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub registration_time: Time,
    /// Idempotency token in the name with which it was created; absent if it was adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_token: Option<String>,
    /// Time when an update without a known response was sent: it may still take effect and overwrite a later one.
    /// Absent after a response, or once the update can no longer take effect.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub update_sent_time: Option<Time>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// Whether the object created or adopted the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Ownership {
    /// The object created it.
    Created,
    /// It existed, and the object adopted it.
    Adopted,
}

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct NamespacedName {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

/// Namespace and name of a `WoodpeckerAccount`.
pub type AccountName = NamespacedName;

/// An account at the time of a registration: the same name may mean another account later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLocation {
    /// The `WoodpeckerAccount`.
    pub account: AccountName,
    /// Base URL of Woodpecker's API.
    pub base_url: String,
    /// For agencies: ID of the company.
    pub company_id: Option<i64>,
}

/// A create whose outcome is not persisted yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingCreate {
    /// Idempotency token in the name of the credential: 12 random letters and digits.
    pub idempotency_token: String,
    /// Time when the create was first persisted.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub start_time: Time,
    /// IDs of the credentials that the account had for the same tenant and client before the create.
    pub existing_ids: Vec<i64>,
    /// The `WoodpeckerAccount` to create the credential at.
    pub account: AccountName,
    /// Base URL of Woodpecker's API.
    pub base_url: String,
    /// For agencies: ID of the company to create it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company_id: Option<i64>,
    /// Fingerprint of the secret and expiry that are sent.
    pub fingerprint: String,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// A new client secret that is not accepted yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingSecret {
    /// Fingerprint of the secret and expiry.
    pub fingerprint: String,
    /// Time when it was first seen.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub first_seen_time: Time,
    /// Number of attempts at Microsoft or Woodpecker.
    pub attempts: i32,
    /// Reason of the last result: `TokenIssued` if only the registration is missing.
    pub reason: String,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// Rejections of a secret for which Microsoft issued a token before. The fourth in a row counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rejections {
    /// Fingerprint of the secret and expiry; absent in a SealedGraphCredential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Time of the first rejection.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub first_time: Time,
    /// Number of rejections in a row, at most 4; 0 after Microsoft issued a token again, until it issues another one.
    pub count: i32,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// A version of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedSecret {
    /// UID of the Secret, which changes if it is deleted and re-created.
    pub uid: String,
    /// Resource version of the Secret.
    pub resource_version: String,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// A version of a SealedGraphCredential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedRecord {
    /// UID of the SealedGraphCredential.
    pub uid: String,
    /// Its `metadata.generation`, which changes with its spec.
    pub generation: i64,
    /// Its `spec.recordId`, which binds its envelope.
    pub record_id: String,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

// === impl Registration ===

impl Registration {
    /// The fingerprint if it is not known which secret the destination has. No secret matches it, so the current one is
    /// verified and sent again.
    pub const UNKNOWN: &str = "unknown";

    /// Its account; `None` for the store.
    pub fn location(&self) -> Option<AccountLocation> {
        let (account, base_url) = (self.account.clone()?, self.base_url.clone()?);
        Some(AccountLocation { account, base_url, company_id: self.company_id })
    }
}

// === impl PendingCreate ===

impl PendingCreate {
    /// The account to create the credential at.
    pub fn location(&self) -> AccountLocation {
        let (account, base_url) = (self.account.clone(), self.base_url.clone());
        AccountLocation { account, base_url, company_id: self.company_id }
    }
}

// === impl NamespacedName ===

impl NamespacedName {
    /// The name of an object.
    pub fn of(object: &impl ResourceExt) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }

    /// The name in that metadata.
    pub fn of_meta(meta: &ObjectMeta) -> Self {
        let (namespace, name) = (meta.namespace.clone(), meta.name.clone());
        Self { namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() }
    }
}

impl std::fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
