//! `WoodpeckerAccount`: an account at Woodpecker and the API key that opens it.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::UnknownFields;
use super::conditions::Condition;
use super::ids::{REMOTE_ID_RULE, SUBDOMAIN_RULE};

/// Base URL of the vendor's API, used where an account names none.
/// Source: the vendor's authentication guide.
pub const VENDOR_BASE_URL: &str = "https://api.woodpecker.co/rest";

/// An account at Woodpecker, reached with an API key from a Secret of the same namespace.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "graph-credentials.io",
    version = "v1alpha1",
    kind = "WoodpeckerAccount",
    plural = "woodpeckeraccounts",
    singular = "woodpeckeraccount",
    shortname = "wpa",
    category = "graph-credentials",
    namespaced,
    status = "WoodpeckerAccountStatus",
    derive = "PartialEq",
    doc = "An account at Woodpecker, reached with an API key from a Secret of the same namespace.",
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
        name = "Managed",
        type_ = "integer",
        json_path = ".status.managed",
        description = "Credentials that objects of this cluster have registered"
    ),
    printcolumn(
        name = "Remote",
        type_ = "integer",
        json_path = ".status.remote",
        description = "Credentials that the account holds in all"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Company", type_ = "integer", json_path = ".spec.companyId", priority = 1),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.baseUrl", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.baseUrl) ? self.baseUrl : '') == (has(oldSelf.baseUrl) ? oldSelf.baseUrl : '')")
        .message("spec.baseUrl is immutable: make a new WoodpeckerAccount for the other address")
        .field_path(".baseUrl"),
    validation = Rule::new("(has(self.companyId) ? self.companyId : 0) == (has(oldSelf.companyId) ? oldSelf.companyId : 0)")
        .message("spec.companyId is immutable: make a new WoodpeckerAccount for the other company")
        .field_path(".companyId")
)]
pub struct WoodpeckerAccountSpec {
    /// The Secret, in this namespace, that holds the API key.
    pub api_key_secret_ref: ApiKeySecretRef,

    /// Base URL of Woodpecker's API, which must be on the operator's allow-list. Immutable. Unset means
    /// `https://api.woodpecker.co/rest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^https://[^/?#@]+(/[^?#]*)?$') || self.matches('^http://(127\\\\.0\\\\.0\\\\.1|localhost|\\\\[::1\\\\])(:[0-9]+)?(/[^?#]*)?$')")
        .message("spec.baseUrl must be an https address without user, query or fragment, such as https://api.woodpecker.co/rest (http only for loopback)"))]
    pub base_url: Option<String>,

    /// Agencies: id of the client company to act for, sent as `x-company-id` with every request.
    /// Immutable. Unset means the account that the API key belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(REMOTE_ID_RULE)
        .message("spec.companyId must be a positive number below 2^53: see the id of the company at Woodpecker"))]
    pub company_id: Option<i64>,

    /// Other namespaces whose credentials may use this account. Unset means none but its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
}

/// A Secret of the account's namespace and the key to read in it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeySecretRef {
    /// Name of the Secret, in the namespace of this object.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(SUBDOMAIN_RULE)
        .message("spec.apiKeySecretRef.name must be the name of a Secret in this namespace: lower-case letters, digits, '-' and '.'"))]
    pub name: String,

    /// Key of the API key. Unset means `api_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("spec.apiKeySecretRef.key must be a key of a Secret: letters, digits, '-', '_' and '.'"))]
    pub key: Option<String>,
}

/// Namespaces that may use an account.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllowedNamespaces {
    /// Their names, exactly.
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Set,
        validation = Rule::new("self.all(name, name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))")
            .message("spec.allowedNamespaces.names must be names of namespaces, each in full: lower-case letters, digits and '-', no patterns")
    )]
    pub names: Vec<String>,
}

/// What is true of the account. Written by the operator alone, and only when something changed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct WoodpeckerAccountStatus {
    /// The `metadata.generation` that the status is about; −1 until the operator has seen the object.
    #[serde(default = "super::unobserved")]
    pub observed_generation: i64,

    /// Credentials that the account holds in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<i32>,

    /// Of these, registered by an object of this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<i32>,

    /// Of these, not registered by an object, though one names the same tenant and client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclaimed: Option<i32>,

    /// Of these, for apps that no object of this cluster names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<i32>,

    /// Keyed fingerprint of the API key with which the account was last found to be the right one, by which
    /// a key of another account is noticed: `<key id>:<hex>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_fingerprint: Option<String>,

    /// Value of the annotation `graph-credentials.io/acknowledge-gone` that was handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_acknowledged: Option<String>,

    /// The conditions: Ready, and while they hold Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

// === impl WoodpeckerAccountSpec ===

impl WoodpeckerAccountSpec {
    /// Base URL without a slash at its end.
    pub fn base_url(&self) -> &str {
        self.base_url.as_deref().unwrap_or(VENDOR_BASE_URL).trim_end_matches('/')
    }

    /// Whether objects of that namespace may use the account, which lives in `own`.
    pub fn allows(&self, own: &str, namespace: &str) -> bool {
        own == namespace
            || self
                .allowed_namespaces
                .as_ref()
                .is_some_and(|allowed| allowed.names.iter().any(|name| name == namespace))
    }
}

// === impl ApiKeySecretRef ===

impl ApiKeySecretRef {
    /// The key to read.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("api_key")
    }
}
