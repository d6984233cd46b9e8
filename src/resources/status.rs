//! The status of a `MicrosoftGraphCredential`: what is true, and what the operator must remember.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;
use kube::{KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::Condition;
use super::{UnknownFields, date_time};

/// What is true of the credential. Written by the operator alone.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct MicrosoftGraphCredentialStatus {
    /// The `metadata.generation` that the status is about; −1 until the operator has seen the object.
    #[serde(default = "super::unobserved")]
    pub observed_generation: i64,

    /// Id of the credential at the destination; mirrors `registration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<i64>,

    /// When the registered secret expires; mirrors `registration`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "date_time::optional")]
    #[schemars(schema_with = "date_time::optional_schema")]
    pub expires_at: Option<Time>,

    /// Where `expiresAt` comes from: the Secret or the object's spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_source: Option<ExpirySource>,

    /// The smallest expiry notice already given, in days before the expiry; 0 for the one of the expiry
    /// itself. Absent while none was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_notice_days: Option<i32>,

    /// When Microsoft last issued a token for the secret.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "date_time::optional")]
    #[schemars(schema_with = "date_time::optional_schema")]
    pub verified_at: Option<Time>,

    /// Application roles seen in that token; absent where it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_roles: Option<Vec<String>>,

    /// What is registered at the destination now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,

    /// Earlier registrations that still have to be removed, at most four.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub retiring: Vec<Registration>,

    /// A create that is under way, written before the request is sent. Recovery works on the account named
    /// here, whatever the spec says by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Box<Pending>>,

    /// A secret that was seen and is not accepted yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Box<Candidate>>,

    /// When the operator tries again after a failure, unless spec or Secret change first.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "date_time::optional")]
    #[schemars(schema_with = "date_time::optional_schema")]
    pub next_attempt_at: Option<Time>,

    /// Failures in a row since something last worked or changed. Absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<i32>,

    /// Value of the annotation `graph-credentials.io/reconcile-requested-at` (or
    /// `reconcile.fluxcd.io/requestedAt`) that was handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,

    /// The conditions: Ready, SourceReady, Verified, Registered, Expiring, and while they hold Reconciling
    /// and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The Secret as it was last read and found to hold what is registered. While it stays that version, nothing reads
    /// it again before a verification is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_secret: Option<ObservedSecret>,

    /// The SealedGraphCredential as it was last written or read, and found to hold what the Secret holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_record: Option<Box<ObservedRecord>>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// Where `expiresAt` comes from: the expiry key of the Secret, or `spec.secretExpiresAt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExpirySource {
    /// The expiry key of the Secret.
    Secret,
    /// `spec.secretExpiresAt`.
    Spec,
}

/// A credential that a destination holds for the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// The `WoodpeckerAccount` that it is registered at; absent for the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountName>,
    /// Base URL of Woodpecker's API at that time; absent for the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Company on whose behalf it was registered, for agencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company_id: Option<i64>,
    /// Name of the `SealedGraphCredential`; absent for Woodpecker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Id of the credential at the destination, positive.
    pub credential_id: i64,
    /// Whether this object made it or took it over.
    pub ownership: Ownership,
    /// Keyed fingerprint of the secret and expiry that are registered: `<key id>:<hex>`; `unknown` where it is
    /// not known which secret it holds, as while an update is under way.
    pub fingerprint: String,
    /// Name that it has at the destination; empty where that is not known.
    pub name: String,
    /// Expiry that it has at the destination.
    #[serde(deserialize_with = "date_time::required")]
    #[schemars(schema_with = "date_time::schema")]
    pub expires_at: Time,
    /// When the registration was made or last changed.
    #[serde(deserialize_with = "date_time::required")]
    #[schemars(schema_with = "date_time::schema")]
    pub registered_at: Time,
    /// The mark that its name carried while it was created; absent when adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// When a change was about to be sent of which no answer is known: it may still take effect, over what is
    /// sent later. Absent once it has settled, or was answered.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "date_time::optional")]
    #[schemars(schema_with = "date_time::optional_schema")]
    pub change_sent_at: Option<Time>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// Whether the object made the remote credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Ownership {
    /// The object created it.
    Created,
    /// It existed and the object took it over.
    Adopted,
}

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Named {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Namespace and name of a `WoodpeckerAccount`.
pub type AccountName = Named;

/// An account as it was when something was registered there: the same name may stand for another one later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The `WoodpeckerAccount`.
    pub account: AccountName,
    /// Base URL of Woodpecker's API.
    pub base_url: String,
    /// Company acted for.
    pub company_id: Option<i64>,
}

/// A create whose outcome is not recorded yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// Mark in the name of the credential, 12 random letters and digits.
    pub token: String,
    /// When the create was first written down.
    #[serde(deserialize_with = "date_time::required")]
    #[schemars(schema_with = "date_time::schema")]
    pub since: Time,
    /// Ids that the account held for the same tenant and client before.
    pub ids: Vec<i64>,
    /// The `WoodpeckerAccount` that the create goes to.
    pub account: AccountName,
    /// Base URL of Woodpecker's API.
    pub base_url: String,
    /// Company on whose behalf it is made, for agencies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company_id: Option<i64>,
    /// Fingerprint of the secret and expiry that are sent.
    pub fingerprint: String,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// A secret that was seen and is not accepted yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Fingerprint of the secret and expiry.
    pub fingerprint: String,
    /// When it was first seen.
    #[serde(deserialize_with = "date_time::required")]
    #[schemars(schema_with = "date_time::schema")]
    pub first_seen_at: Time,
    /// How often it was tried at Microsoft or Woodpecker.
    pub attempts: i32,
    /// Reason of the last verdict: `TokenIssued` where only the registration is missing.
    pub reason: String,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// A version of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedSecret {
    /// Its uid: another one means that it was deleted and created again.
    pub uid: String,
    /// Its resource version.
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
    /// Its uid.
    pub uid: String,
    /// Its `metadata.generation`: whatever changes its spec changes this.
    pub generation: i64,
    /// Its `spec.recordId`, to which its envelope is bound.
    pub record_id: String,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

// === impl Registration ===

impl Registration {
    /// The fingerprint of a registration of which it is not known which secret it holds. No secret matches
    /// it, so whatever the Secret holds is proved and sent again.
    pub const UNKNOWN: &str = "unknown";

    /// Where it is; nothing for the store.
    pub fn place(&self) -> Option<Place> {
        let (account, base_url) = (self.account.clone()?, self.base_url.clone()?);
        Some(Place { account, base_url, company_id: self.company_id })
    }
}

// === impl Pending ===

impl Pending {
    /// Where the create goes to.
    pub fn place(&self) -> Place {
        let (account, base_url) = (self.account.clone(), self.base_url.clone());
        Place { account, base_url, company_id: self.company_id }
    }
}

// === impl Named ===

impl Named {
    /// Of an object.
    pub fn of(object: &impl ResourceExt) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }

    /// Of the object with that metadata.
    pub fn of_meta(meta: &ObjectMeta) -> Self {
        let (namespace, name) = (meta.namespace.clone(), meta.name.clone());
        Self { namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
