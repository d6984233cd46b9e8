//! `MicrosoftGraphCredential`: what a person declares. Its status is in [`super::status`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::date_time;
use super::duration::{self, KubeDuration};
use super::ids::{ClientId, GUID_RULE, REMOTE_ID_RULE, SUBDOMAIN_RULE, TenantId};
use super::status::MicrosoftGraphCredentialStatus;

/// A Microsoft Graph app-only credential: an Entra app's client secret, proved at Microsoft and kept
/// registered at Woodpecker or sealed in the cluster.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "graph-credentials.io",
    version = "v1alpha1",
    kind = "MicrosoftGraphCredential",
    plural = "microsoftgraphcredentials",
    singular = "microsoftgraphcredential",
    shortname = "mgc",
    category = "graph-credentials",
    namespaced,
    status = "MicrosoftGraphCredentialStatus",
    derive = "PartialEq",
    doc = "A Microsoft Graph app-only credential: an Entra app's client secret, proved at Microsoft and kept registered at Woodpecker or sealed in the cluster.",
    selectable = ".spec.tenantId",
    selectable = ".spec.clientId",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Credential",
        type_ = "integer",
        json_path = ".status.credentialId",
        description = "The id at the destination"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".status.expiresAt",
        description = "When the registered secret expires"
    ),
    printcolumn(
        name = "Verified",
        type_ = "date",
        json_path = ".status.verifiedAt",
        description = "How long ago Microsoft last issued a token for the secret"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Destination",
        type_ = "string",
        json_path = ".spec.destination.woodpecker.accountRef.name",
        priority = 1,
        description = "The WoodpeckerAccount; empty for the store"
    ),
    printcolumn(
        name = "Ownership",
        type_ = "string",
        json_path = ".status.registration.ownership",
        priority = 1
    ),
    printcolumn(name = "Tenant", type_ = "string", json_path = ".spec.tenantId", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.cloud) ? self.cloud : 'Global') == (has(oldSelf.cloud) ? oldSelf.cloud : 'Global')")
        .message("spec.cloud is immutable: make a new object for the other cloud and delete this one")
        .field_path(".cloud"),
    validation = Rule::new("!has(self.cloud) || self.cloud == 'Global' || has(self.destination.store)")
        .message("spec.cloud other than Global works only with destination.store, for Woodpecker connects to the global cloud: remove cloud or use store")
        .field_path(".cloud"),
    validation = Rule::new("has(self.destination.store) == has(oldSelf.destination.store)")
        .message("the kind of spec.destination is immutable: make a new object for the other destination and delete this one")
        .field_path(".destination"),
    validation = Rule::new(duration::rule("self.expiryWarning", "1h", "8760h"))
        .message("spec.expiryWarning must be a duration between 1h and 8760h in hours, minutes and seconds, such as 720h or 36h30m")
        .field_path(".expiryWarning")
)]
pub struct MicrosoftGraphCredentialSpec {
    /// Id of the Entra tenant that the app belongs to, a GUID in any case. Immutable. Shown in the Entra
    /// admin center under Overview as "Tenant ID".
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new(GUID_RULE).message("spec.tenantId must be a GUID such as bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32: see Overview > Tenant ID in the Entra admin center"),
        validation = Rule::new("self.lowerAscii() == oldSelf.lowerAscii()").message("spec.tenantId is immutable: make a new object for the other tenant and delete this one")
    )]
    pub tenant_id: TenantId,

    /// Application (client) id of the app registration, a GUID in any case. Immutable. Shown in the Entra
    /// admin center under App registrations > your app > Overview.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new(GUID_RULE).message("spec.clientId must be a GUID such as e1c6ac69-480e-4a17-9b85-3467967bd179: see App registrations > your app > Application (client) ID in the Entra admin center"),
        validation = Rule::new("self.lowerAscii() == oldSelf.lowerAscii()").message("spec.clientId is immutable: make a new object for the other app and delete this one")
    )]
    pub client_id: ClientId,

    /// Microsoft cloud of the tenant; the schema shows the text of [`Cloud`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Cloud>,

    /// Name of the credential at the destination. Unset: `<namespace>/<name>` for what this object creates, cut off after 253
    /// characters; at Woodpecker its idempotency token follows in brackets. An adopted credential keeps its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(validation = Rule::new("self.trim() == self && !self.matches('[\\\\x00-\\\\x1f\\\\x7f]')")
        .message("spec.displayName must not begin or end with white space nor hold control characters"))]
    pub display_name: Option<String>,

    /// The Secret, in this namespace, that holds the client secret and when it expires.
    pub secret_ref: SecretRef,

    /// When the client secret expires, RFC 3339 with offset, such as `2027-11-28T23:59:59Z`. Used only where
    /// the Secret has no expiry key: the Secret's own wins, for it changes together with the secret.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "date_time::optional")]
    #[schemars(schema_with = "date_time::optional_schema")]
    pub secret_expires_at: Option<Time>,

    /// Where the credential goes: exactly one of `woodpecker` and `store`. The kind is immutable.
    #[x_kube(validation = Rule::new("has(self.woodpecker) != has(self.store)")
        .message("spec.destination must have exactly one of woodpecker and store: add one of them, or remove the other"))]
    pub destination: Destination,

    /// How the secret is proved at Microsoft. Unset means policy `Required`, every 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Box<Verification>>,

    /// How long before the expiry condition `Expiring` turns True, such as `720h`; 1h to 8760h. Unset means
    /// 720h (thirty days).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub expiry_warning: Option<KubeDuration>,

    /// What happens on deletion; the schema shows the text of [`DeletionPolicy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,

    /// While true nothing is sent anywhere and the conditions stand still. Unset means false. An object
    /// deleted while suspended leaves its credential at the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Microsoft cloud of the tenant: `Global` (with Microsoft 365 GCC), `USGovernment` (L4, GCC High),
/// `USGovernmentDoD` (L5) or `China` (21Vianet). Immutable. Others than `Global` only with
/// `destination.store`. Unset means `Global`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Cloud {
    /// The worldwide cloud, and Microsoft 365 GCC.
    #[default]
    Global,
    /// US Government L4 (GCC High).
    USGovernment,
    /// US Government L5 (DoD).
    USGovernmentDoD,
    /// China, operated by 21Vianet.
    China,
}

/// What happens at the destination when this object is deleted: `Retain` leaves the credential there,
/// `Delete` removes it if this object created it or took its ownership. Unset means `Retain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The credential stays.
    #[default]
    Retain,
    /// The credential is removed, if this object created it or took its ownership.
    Delete,
}

/// A Secret of the object's own namespace and the keys to read in it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret, in the namespace of this object.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(SUBDOMAIN_RULE)
        .message("spec.secretRef.name must be the name of a Secret in this namespace: lower-case letters, digits, '-' and '.'"))]
    pub name: String,

    /// Key of the client secret. Unset means `client_secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("spec.secretRef.clientSecretKey must be a key of a Secret: letters, digits, '-', '_' and '.'"))]
    pub client_secret_key: Option<String>,

    /// Key of the expiry: RFC 3339, or a plain date (taken as 00:00 UTC). Unset means `secret_expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("spec.secretRef.expiresAtKey must be a key of a Secret: letters, digits, '-', '_' and '.'"))]
    pub expires_at_key: Option<String>,
}

/// Where the credential goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Destination {
    /// Registered at Woodpecker.
    Woodpecker(WoodpeckerDestination),
    /// Sealed in the cluster as a `SealedGraphCredential`.
    Store(StoreDestination),
}

/// Registration at Woodpecker.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WoodpeckerDestination {
    /// The `WoodpeckerAccount` to register at.
    pub account_ref: AccountRef,

    /// What to do where the account already holds a credential for this app. Unset means `AdoptOrCreate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,
}

/// Sealed storage in the cluster. It has no settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreDestination {}

/// A reference to a `WoodpeckerAccount`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountRef {
    /// Name of the `WoodpeckerAccount`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(SUBDOMAIN_RULE)
        .message("spec.destination.woodpecker.accountRef.name must be the name of a WoodpeckerAccount: lower-case letters, digits, '-' and '.'"))]
    pub name: String,

    /// Namespace of the `WoodpeckerAccount`, which must list the object's namespace in
    /// `allowedNamespaces`. Unset means the namespace of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("spec.destination.woodpecker.accountRef.namespace must be the name of a namespace: lower-case letters, digits and '-'; leave it out for this one"))]
    pub namespace: Option<String>,
}

/// What to do where the account already holds a credential for this app.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.policy) || self.policy != 'CreateOnly' || !has(self.credentialId)")
    .message("adoption.credentialId names a credential to adopt, which policy CreateOnly forbids: remove one of the two")
    .field_path(".credentialId"))]
pub struct Adoption {
    /// Whether to take over, create or both; the schema shows the text of [`AdoptionPolicy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<AdoptionPolicy>,

    /// Id of the credential to adopt, needed where the account holds several for the app. Unset means the
    /// only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(REMOTE_ID_RULE)
        .message("adoption.credentialId must be a positive number below 2^53: see the id of the credential in Woodpecker's listing"))]
    pub credential_id: Option<i64>,

    /// Whether deletion policy `Delete` applies to an adopted credential too. Unset means false: what this
    /// object did not create is never deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take_ownership: Option<bool>,
}

/// `AdoptOrCreate` takes over the one credential that exists for the app, or creates one; `AdoptOnly` never
/// creates; `CreateOnly` never takes over. Unset means `AdoptOrCreate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdoptionPolicy {
    /// Take over the one that exists, else create.
    #[default]
    AdoptOrCreate,
    /// Take over the one that exists, never create.
    AdoptOnly,
    /// Create, never take over.
    CreateOnly,
}

/// How the secret is proved at Microsoft.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(duration::rule("self.interval", "15m", "720h"))
    .message("spec.verification.interval must be a duration between 15m and 720h in hours, minutes and seconds, such as 24h or 1h30m")
    .field_path(".interval"))]
pub struct Verification {
    /// Whether a proof is needed; the schema shows the text of [`VerificationPolicy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<VerificationPolicy>,

    /// How often the registered secret is proved again, such as `24h`; 15m to 720h. Unset means 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub interval: Option<KubeDuration>,

    /// Application roles that Microsoft's token must carry, such as `Mail.Send`. Unset means none: with
    /// Exchange's RBAC for Applications a token needs no roles. Leave it empty unless you grant in Entra.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub required_roles: Option<Vec<String>>,
}

/// `Required`: nothing is registered before Microsoft has issued a token. `BestEffort`: goes on where
/// Microsoft cannot be reached or Conditional Access blocks the operator; a refused secret still stops.
/// `Disabled`: no proof, only where the operator runs with `--allow-unverified`, else like `Required`.
/// Unset means `Required`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VerificationPolicy {
    /// Always.
    #[default]
    Required,
    /// Where it can be had.
    BestEffort,
    /// Not at all, where the operator's administrator allows that.
    Disabled,
}
