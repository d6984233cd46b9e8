//! `EntraIdentity`: how the operator signs in to Microsoft Graph, and for which namespaces and apps.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::conditions::Condition;
use crate::api::ids::{ClientId, GUID_RULE, SUBDOMAIN_RULE, TenantId};
use crate::api::{Cloud, ObservedSecret, UnknownFields, timestamp};

/// An Entra app with which the operator signs in to Microsoft Graph, and the apps that it may manage for each namespace.
/// It works only in the operator's namespace.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "graph-credentials.io",
    version = "v1alpha1",
    kind = "EntraIdentity",
    plural = "entraidentities",
    singular = "entraidentity",
    shortname = "ei",
    category = "graph-credentials",
    namespaced,
    status = "EntraIdentityStatus",
    derive = "PartialEq",
    doc = "An Entra app with which the operator signs in to Microsoft Graph, and the apps that it may manage for each namespace. It works only in the operator's namespace.",
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
        name = "Tenants",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"TenantsReady\")].status",
        description = "Whether Entra issues tokens in every tenant that the grants name"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Client", type_ = "string", json_path = ".spec.clientId", priority = 1),
    printcolumn(name = "Tenant", type_ = "string", json_path = ".spec.tenantId", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct EntraIdentitySpec {
    /// Application (client) ID of the identity's own app registration, a GUID in upper or lower case. Never the app
    /// whose client secret goes to Woodpecker: anyone who has that secret could use the permissions of this identity.
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new(GUID_RULE)
        .message("spec.clientId must be a GUID such as e1c6ac69-480e-4a17-9b85-3467967bd179: see App registrations > your app > Application (client) ID in the Entra admin center"))]
    pub client_id: ClientId,

    /// ID of the home tenant, in which the app is registered, a GUID in upper or lower case.
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new(GUID_RULE)
        .message("spec.tenantId must be a GUID such as bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32: see Overview > Tenant ID in the Entra admin center"))]
    pub tenant_id: TenantId,

    /// Microsoft cloud of the home tenant and of all tenants of the grants: `Global` (includes Microsoft 365 GCC),
    /// `USGovernment` (L4, GCC High), `USGovernmentDoD` (L5) or `China` (21Vianet). Defaults to `Global`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Cloud>,

    /// How the operator authenticates to Entra as the app: exactly one of `federatedToken`, `certificateSecretRef` and
    /// `clientSecretRef`.
    #[x_kube(validation = Rule::new("(has(self.federatedToken) ? 1 : 0) + (has(self.certificateSecretRef) ? 1 : 0) + (has(self.clientSecretRef) ? 1 : 0) == 1")
        .message("spec.auth must have exactly one of federatedToken, certificateSecretRef and clientSecretRef: add one of them, or remove the others"))]
    pub auth: IdentityAuth,

    /// The apps that the identity may manage, and for objects of which namespaces. Defaults to none: then no app is read
    /// or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    pub grants: Vec<Grant>,
}

/// How the operator authenticates to Entra as the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum IdentityAuth {
    /// A token of the operator's ServiceAccount, which a federated credential of the app trusts. It has no settings.
    FederatedToken(FederatedToken),
    /// A certificate with its private key, from a Secret in the operator's namespace.
    CertificateSecretRef(CertificateSecretRef),
    /// A client secret of the app, from a Secret in the operator's namespace. It expires like any other.
    ClientSecretRef(ClientSecretRef),
}

/// A token of the operator's ServiceAccount. It has no settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FederatedToken {}

/// Reference to a certificate and its private key in a Secret.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSecretRef {
    /// Name of the Secret in the operator's namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(SUBDOMAIN_RULE)
        .message("spec.auth.certificateSecretRef.name must be the name of a Secret in this namespace: lower-case letters, digits, '-' and '.'"))]
    pub name: String,

    /// Key in the Secret's data that contains the certificate in PEM; the first one counts. Defaults to `tls.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("spec.auth.certificateSecretRef.certificateKey must be a key of a Secret: letters, digits, '-', '_' and '.'"))]
    pub certificate_key: Option<String>,

    /// Key in the Secret's data that contains the RSA private key in PEM, unencrypted. Defaults to `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("spec.auth.certificateSecretRef.privateKeyKey must be a key of a Secret: letters, digits, '-', '_' and '.'"))]
    pub private_key_key: Option<String>,
}

/// Reference to a client secret in a Secret.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientSecretRef {
    /// Name of the Secret in the operator's namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(SUBDOMAIN_RULE)
        .message("spec.auth.clientSecretRef.name must be the name of a Secret in this namespace: lower-case letters, digits, '-' and '.'"))]
    pub name: String,

    /// Key in the Secret's data that contains the client secret. Defaults to `client-secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("spec.auth.clientSecretRef.key must be a key of a Secret: letters, digits, '-', '_' and '.'"))]
    pub key: Option<String>,
}

/// Apps of one tenant that the identity may manage for objects of some namespaces.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Full names of the namespaces. Patterns are not supported.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 63)))]
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Set,
        validation = Rule::new("self.all(name, name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))")
            .message("spec.grants[].namespaces must be full names of namespaces: lower-case letters, digits and '-', no patterns")
    )]
    pub namespaces: Vec<String>,

    /// ID of the tenant in which the apps are registered, a GUID in upper or lower case.
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new(GUID_RULE).message("spec.grants[].tenantId must be a GUID such as bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32"))]
    pub tenant_id: TenantId,

    /// Application (client) IDs of the apps, each a GUID in upper or lower case. Patterns are not supported.
    #[schemars(length(min = 1, max = 64), inner(length(max = 36)))]
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Set,
        validation = Rule::new("self.all(id, id.matches('^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'))")
            .message("spec.grants[].clientIds must be GUIDs such as e1c6ac69-480e-4a17-9b85-3467967bd179, no patterns")
    )]
    pub client_ids: Vec<ClientId>,
}

/// Observed state of the identity. Only the operator writes it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct EntraIdentityStatus {
    /// The `metadata.generation` that the status reflects; −1 until the operator has reconciled the object.
    #[serde(default = "super::unobserved")]
    pub observed_generation: i64,

    /// When the operator last checked that Entra issues tokens in every tenant; about once a day while nothing changes.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub last_checked_time: Option<Time>,

    /// Version of the Secret that the operator last signed in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_secret: Option<ObservedSecret>,

    /// Number of tenants that the operator signs in to: the home tenant and those that the grants name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_count: Option<i32>,

    /// The tenants in which something is missing, at most 100 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["tenantId".into()]))]
    pub tenants: Vec<TenantProblem>,

    /// Conditions of the identity: Ready, TenantsReady, and, only while True, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// What is missing in a tenant.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantProblem {
    /// ID of the tenant.
    #[schemars(length(max = 64))]
    pub tenant_id: String,

    /// Reason, as of a condition `Ready`.
    #[schemars(length(max = 1024))]
    pub reason: String,

    /// What is missing and what to do.
    #[schemars(length(max = 4096))]
    pub message: String,

    /// Where an admin of the tenant consents to the identity's app, if that is what is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub consent_url: Option<String>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

// === impl EntraIdentitySpec ===

impl EntraIdentitySpec {
    /// The cloud of all its tenants.
    pub fn cloud(&self) -> Cloud {
        self.cloud.unwrap_or_default()
    }
}

// === impl CertificateSecretRef ===

impl CertificateSecretRef {
    /// Key of the certificate.
    pub fn certificate_key(&self) -> &str {
        self.certificate_key.as_deref().unwrap_or("tls.crt")
    }

    /// Key of the private key.
    pub fn private_key_key(&self) -> &str {
        self.private_key_key.as_deref().unwrap_or("tls.key")
    }
}

// === impl ClientSecretRef ===

impl ClientSecretRef {
    /// Key of the client secret.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("client-secret")
    }
}
