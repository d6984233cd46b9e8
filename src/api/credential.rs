//! `MicrosoftGraphCredential`: its spec. The status is in [`super::status`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::duration::{self, KubeDuration};
use crate::api::entra::EntraSettings;
use crate::api::ids::{ClientId, GUID_RULE, REMOTE_ID_RULE, SUBDOMAIN_RULE, TenantId};
use crate::api::rotation::Rotation;
use crate::api::status::MicrosoftGraphCredentialStatus;
use crate::api::timestamp;

/// A Microsoft Graph app-only credential: an Entra app's client secret, which the operator verifies at Microsoft and
/// keeps registered at Woodpecker or stored encrypted in the cluster.
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
    doc = "A Microsoft Graph app-only credential: an Entra app's client secret, which the operator verifies at Microsoft and keeps registered at Woodpecker or stored encrypted in the cluster.",
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
        description = "ID of the credential at the destination"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".status.expiresAt",
        description = "Expiry of the registered secret"
    ),
    printcolumn(
        name = "Verified",
        type_ = "date",
        json_path = ".status.lastVerifiedTime",
        description = "Time since Microsoft last issued a token for the secret"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Destination",
        type_ = "string",
        json_path = ".spec.destination.woodpecker.accountRef.name",
        priority = 1,
        description = "Name of the WoodpeckerAccount; empty for the store"
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
        .message("spec.cloud is immutable: create a new object for the other cloud and delete this one")
        .field_path(".cloud"),
    validation = Rule::new("!has(self.cloud) || self.cloud == 'Global' || has(self.destination.store)")
        .message("spec.cloud other than Global works only with destination.store, because Woodpecker connects to the global cloud: remove cloud or use store")
        .field_path(".cloud"),
    validation = Rule::new("has(self.destination.store) == has(oldSelf.destination.store)")
        .message("the kind of spec.destination is immutable: create a new object for the other destination and delete this one")
        .field_path(".destination"),
    validation = Rule::new("has(self.secretRef) != has(self.rotation)")
        .message("spec must have exactly one of secretRef and rotation: add one of them, or remove the other"),
    validation = Rule::new("!has(self.rotation) || has(self.entra)")
        .message("spec.rotation requires spec.entra.identityRef: name the EntraIdentity with which the operator creates client secrets")
        .field_path(".rotation"),
    validation = Rule::new("!has(self.rotation) || has(self.destination.woodpecker)")
        .message("spec.rotation works only with destination.woodpecker, because nothing could use a client secret that only the store has: use secretRef")
        .field_path(".rotation"),
    validation = Rule::new("!has(self.rotation) || !has(self.secretExpiresAt)")
        .message("spec.secretExpiresAt has no meaning with spec.rotation, because Microsoft Entra sets the expiry: remove it")
        .field_path(".secretExpiresAt"),
    validation = Rule::new(duration::rule("self.expiryWarning", "1h", "8760h"))
        .message("spec.expiryWarning must be a duration between 1h and 8760h in hours, minutes and seconds, such as 720h or 36h30m")
        .field_path(".expiryWarning")
)]
pub struct MicrosoftGraphCredentialSpec {
    /// ID of the Entra tenant of the app, a GUID in upper or lower case. Immutable. The Entra admin center shows it
    /// under Overview as "Tenant ID".
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new(GUID_RULE).message("spec.tenantId must be a GUID such as bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32: see Overview > Tenant ID in the Entra admin center"),
        validation = Rule::new("self.lowerAscii() == oldSelf.lowerAscii()").message("spec.tenantId is immutable: create a new object for the other tenant and delete this one")
    )]
    pub tenant_id: TenantId,

    /// Application (client) ID of the app registration, a GUID in upper or lower case. Immutable. The Entra admin
    /// center shows it under App registrations > your app > Overview.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new(GUID_RULE).message("spec.clientId must be a GUID such as e1c6ac69-480e-4a17-9b85-3467967bd179: see App registrations > your app > Application (client) ID in the Entra admin center"),
        validation = Rule::new("self.lowerAscii() == oldSelf.lowerAscii()").message("spec.clientId is immutable: create a new object for the other app and delete this one")
    )]
    pub client_id: ClientId,

    /// The tenant's cloud; the schema has the description of [`Cloud`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Cloud>,

    /// Name of the credential at the destination. Defaults to `<namespace>/<name>`, truncated to 253 characters; at
    /// Woodpecker an idempotency token in brackets follows. If unset, an adopted credential keeps its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(validation = Rule::new("self.trim() == self && !self.matches('[\\\\x00-\\\\x1f\\\\x7f]')")
        .message("spec.displayName must not begin or end with white space or contain control characters"))]
    pub display_name: Option<String>,

    /// Reference to the Secret, in the same namespace, that contains the client secret and its expiry. Exactly one of
    /// `secretRef` and `rotation` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,

    /// The operator creates the client secret at Microsoft Entra itself, replaces it before it expires, and removes the
    /// earlier one. Exactly one of `secretRef` and `rotation` is required. `rotation` requires `entra` and
    /// `destination.woodpecker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Box<Rotation>>,

    /// Expiry of the client secret, RFC 3339 with offset, such as `2027-11-28T23:59:59Z`. Used only if the Secret has
    /// no expiry key: the expiry in the Secret takes precedence, because it changes together with the client secret.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub secret_expires_at: Option<Time>,

    /// Destination of the credential: exactly one of `woodpecker` and `store`. The choice between them is immutable.
    #[x_kube(validation = Rule::new("has(self.woodpecker) != has(self.store)")
        .message("spec.destination must have exactly one of woodpecker and store: add one of them, or remove the other"))]
    pub destination: Destination,

    /// How the client secret is verified at Microsoft. Defaults to policy `Required` with interval 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Box<Verification>>,

    /// How the operator uses what Microsoft Entra knows about the app. If unset, it reads nothing there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entra: Option<Box<EntraSettings>>,

    /// How long before the expiry the condition `Expiring` becomes True, such as `720h`; from 1h to 8760h. Defaults to
    /// 720h (30 days).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub expiry_warning: Option<KubeDuration>,

    /// What happens on deletion; the schema has the description of [`DeletionPolicy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,

    /// If true, the operator sends no requests for this object and does not update its conditions. If the object is
    /// deleted while suspended, its credential stays at the destination. Defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Microsoft cloud of the tenant: `Global` (includes Microsoft 365 GCC), `USGovernment` (L4, GCC High),
/// `USGovernmentDoD` (L5) or `China` (21Vianet). Values other than `Global` require `destination.store`. Immutable.
/// Defaults to `Global`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Cloud {
    /// The worldwide cloud, including Microsoft 365 GCC.
    #[default]
    Global,
    /// US Government L4 (GCC High).
    USGovernment,
    /// US Government L5 (DoD).
    USGovernmentDoD,
    /// China, operated by 21Vianet.
    China,
}

impl Cloud {
    /// Its name in a spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "Global",
            Self::USGovernment => "USGovernment",
            Self::USGovernmentDoD => "USGovernmentDoD",
            Self::China => "China",
        }
    }
}

/// What happens to the credential at the destination when this object is deleted. `Retain` keeps it; `Delete` deletes
/// it if this object created it or took ownership of it. Defaults to `Retain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The credential stays.
    #[default]
    Retain,
    /// The credential is deleted if this object created it or took ownership of it.
    Delete,
}

/// Reference to keys of a Secret in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(SUBDOMAIN_RULE)
        .message("spec.secretRef.name must be the name of a Secret in this namespace: lower-case letters, digits, '-' and '.'"))]
    pub name: String,

    /// Key in the Secret's data that contains the client secret. Defaults to `client_secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("spec.secretRef.clientSecretKey must be a key of a Secret: letters, digits, '-', '_' and '.'"))]
    pub client_secret_key: Option<String>,

    /// Key in the Secret's data that contains the expiry, in RFC 3339 or as a date (which means 23:59:59 UTC). Defaults to
    /// `secret_expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("spec.secretRef.expiresAtKey must be a key of a Secret: letters, digits, '-', '_' and '.'"))]
    pub expires_at_key: Option<String>,
}

/// Destination of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Destination {
    /// Registers the credential at Woodpecker.
    Woodpecker(WoodpeckerDestination),
    /// Stores the credential encrypted in the cluster, as a `SealedGraphCredential`.
    Store(StoreDestination),
}

/// Registration at Woodpecker.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WoodpeckerDestination {
    /// Reference to the `WoodpeckerAccount` to register at.
    pub account_ref: AccountRef,

    /// What to do if the account already has a credential for this app. Defaults to policy `AdoptOrCreate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,
}

/// Encrypted storage in the cluster. It has no settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreDestination {}

/// Reference to a `WoodpeckerAccount`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountRef {
    /// Name of the `WoodpeckerAccount`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(SUBDOMAIN_RULE)
        .message("spec.destination.woodpecker.accountRef.name must be the name of a WoodpeckerAccount: lower-case letters, digits, '-' and '.'"))]
    pub name: String,

    /// Namespace of the `WoodpeckerAccount`, which must list this object's namespace in `allowedNamespaces`. Defaults
    /// to this object's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("spec.destination.woodpecker.accountRef.namespace must be the name of a namespace: lower-case letters, digits and '-'; omit it for this namespace"))]
    pub namespace: Option<String>,
}

/// What to do if the account already has a credential for this app.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.policy) || self.policy != 'CreateOnly' || !has(self.credentialId)")
    .message("adoption.credentialId names a credential to adopt, which policy CreateOnly forbids: remove one of the two")
    .field_path(".credentialId"))]
pub struct Adoption {
    /// Whether to adopt, create or both; the schema has the description of [`AdoptionPolicy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<AdoptionPolicy>,

    /// ID of the credential to adopt, required if the account has several for the app. If unset, the only one is
    /// adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(REMOTE_ID_RULE)
        .message("adoption.credentialId must be a positive number below 2^53: see the ID of the credential in Woodpecker's listing"))]
    pub credential_id: Option<i64>,

    /// Whether `deletionPolicy: Delete` also applies to an adopted credential. Defaults to false: a credential that
    /// this object did not create is never deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take_ownership: Option<bool>,
}

/// `AdoptOrCreate` adopts the existing credential for the app, or creates one if there is none; `AdoptOnly` never
/// creates; `CreateOnly` never adopts. Defaults to `AdoptOrCreate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdoptionPolicy {
    /// Adopts the existing credential, or creates one.
    #[default]
    AdoptOrCreate,
    /// Adopts the existing credential, and never creates.
    AdoptOnly,
    /// Creates a credential, and never adopts.
    CreateOnly,
}

/// How the client secret is verified at Microsoft.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(duration::rule("self.interval", "15m", "720h"))
    .message("spec.verification.interval must be a duration between 15m and 720h in hours, minutes and seconds, such as 24h or 1h30m")
    .field_path(".interval"))]
pub struct Verification {
    /// Whether verification is required; the schema has the description of [`VerificationPolicy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<VerificationPolicy>,

    /// How often the registered secret is verified again, such as `24h`; from 15m to 720h. Defaults to 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub interval: Option<KubeDuration>,

    /// Application roles that Microsoft's token must contain, such as `Mail.Send`. Defaults to none: with Exchange's
    /// RBAC for Applications a token needs no roles. Set it only if you grant the permissions in Entra.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub required_roles: Option<Vec<String>>,
}

/// `Required`: nothing is registered before Microsoft issued a token. `BestEffort`: the credential is also registered
/// if Microsoft cannot be reached or Conditional Access blocks the operator, but not if Microsoft rejects the secret.
/// `Disabled`: no verification; it takes effect only if the operator runs with `--allow-unverified`, and otherwise
/// means `Required`. Defaults to `Required`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VerificationPolicy {
    /// A token must be issued.
    #[default]
    Required,
    /// A token must be issued if Microsoft can be reached and Conditional Access allows it.
    BestEffort,
    /// No verification, if the operator allows that.
    Disabled,
}
