//! `WoodpeckerAccount`: an account at Woodpecker and its API key.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::api::UnknownFields;
use crate::api::conditions::Condition;
use crate::api::ids::{REMOTE_ID_RULE, SUBDOMAIN_RULE};
use crate::api::key_identity::KeyIdentity;
use crate::api::mailbox_health::{MailboxHealth, MailboxHealthStatus};
use crate::api::mailboxes::{AccountMailboxes, ConnectPermission};
use crate::api::namespace_selector::{Labels, NamespaceSelector};

/// Base URL of Woodpecker's API, the default of `spec.baseUrl`.
/// Source: the vendor's authentication guide.
pub const VENDOR_BASE_URL: &str = "https://api.woodpecker.co/rest";

/// An account at Woodpecker, accessed with an API key from a Secret in the same namespace.
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
    doc = "An account at Woodpecker, accessed with an API key from a Secret in the same namespace.",
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
        description = "Number of credentials that objects in this cluster manage"
    ),
    printcolumn(
        name = "Remote",
        type_ = "integer",
        json_path = ".status.remote",
        description = "Number of credentials in the account"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Company", type_ = "integer", json_path = ".spec.companyId", priority = 1),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.baseUrl", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.baseUrl) ? self.baseUrl : '') == (has(oldSelf.baseUrl) ? oldSelf.baseUrl : '')")
        .message("spec.baseUrl is immutable: create a new WoodpeckerAccount for the other URL")
        .field_path(".baseUrl"),
    validation = Rule::new("(has(self.companyId) ? self.companyId : 0) == (has(oldSelf.companyId) ? oldSelf.companyId : 0)")
        .message("spec.companyId is immutable: create a new WoodpeckerAccount for the other company")
        .field_path(".companyId")
)]
pub struct WoodpeckerAccountSpec {
    /// Reference to the Secret, in the same namespace, that contains the API key.
    pub api_key_secret_ref: ApiKeySecretRef,

    /// Base URL of Woodpecker's API, which the operator's `--allowed-woodpecker-url` must allow. Immutable. Defaults to
    /// `https://api.woodpecker.co/rest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^https://[^/?#@]+(/[^?#]*)?$') || self.matches('^http://(127\\\\.0\\\\.0\\\\.1|localhost|\\\\[::1\\\\])(:[0-9]+)?(/[^?#]*)?$')")
        .message("spec.baseUrl must be an https address without user, query or fragment, such as https://api.woodpecker.co/rest (http only for loopback)"))]
    pub base_url: Option<String>,

    /// For agencies: ID of the client company to act for, sent as the header `x-company-id` with every request.
    /// Immutable. If unset, the credentials belong to the account of the API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(REMOTE_ID_RULE)
        .message("spec.companyId must be a positive number below 2^53: see the id of the company at Woodpecker"))]
    pub company_id: Option<i64>,

    /// Other namespaces whose credentials may use this account. If unset, only the account's own namespace may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,

    /// Reports the health of the account's mailboxes in the condition `MailboxesHealthy`. If unset, the operator does not
    /// list them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox_health: Option<MailboxHealth>,

    /// What WoodpeckerMailboxes may do at this account. If unset, they connect nothing: their plans work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailboxes: Option<AccountMailboxes>,
}

/// Reference to a key of a Secret in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeySecretRef {
    /// Name of the Secret in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(SUBDOMAIN_RULE)
        .message("spec.apiKeySecretRef.name must be the name of a Secret in this namespace: lower-case letters, digits, '-' and '.'"))]
    pub name: String,

    /// Key in the Secret's data that contains the API key. Defaults to `api_key`.
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
    /// Full names of the namespaces. Patterns are not supported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Set,
        validation = Rule::new("self.all(name, name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))")
            .message("spec.allowedNamespaces.names must be full names of namespaces: lower-case letters, digits and '-', no patterns")
    )]
    pub names: Vec<String>,

    /// Namespaces with these labels, besides those in `names`. Everybody who may label namespaces then decides which of
    /// them may use the account. Requires that the operator may list and watch namespaces (the chart's
    /// `rbac.namespaceSelectors`): otherwise the selector lets nobody in, and the account reports
    /// `NamespacesForbidden`. If a namespace loses a label, that is as if it was removed from `names`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
}

/// Observed state of the account. Only the operator writes it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct WoodpeckerAccountStatus {
    /// The `metadata.generation` that the status reflects; −1 until the operator has reconciled the object.
    #[serde(default = "super::unobserved")]
    pub observed_generation: i64,

    /// Number of credentials in the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<i32>,

    /// Number of these that an object in this cluster manages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<i32>,

    /// Number of these that no object manages although one names the same tenant and client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoptable: Option<i32>,

    /// Number of these for apps that no object in this cluster names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged: Option<i32>,

    /// Keyed fingerprint, `<key id>:<hex>`, of the API key that was last found to belong to this account. It detects a
    /// key of another account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_fingerprint: Option<String>,

    /// Who the API key belongs to, for information: as Woodpecker said when it was last asked, at most once a day for a
    /// key. It may be absent, and of an earlier key until Woodpecker responds for the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_identity: Option<KeyIdentity>,

    /// Last handled value of the annotation `graph-credentials.io/confirm-deleted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_confirmation: Option<String>,

    /// IDs of missing credentials of which that annotation has confirmed the deletion, until they are registered again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100_000))]
    pub confirmed_deleted_ids: Vec<i64>,

    /// The account's mailboxes, by the last listing. Absent without `spec.mailboxHealth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox_health: Option<MailboxHealthStatus>,

    /// Conditions of the account: Ready, with `spec.mailboxHealth` `MailboxesHealthy`, and, only while True, Reconciling
    /// and Stalled.
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

    /// Whether objects in `namespace` may use the account, which is in `own`. `labels` are those of the namespace, if they
    /// are known.
    pub fn allows(&self, own: &str, namespace: &str, labels: Option<&Labels>) -> bool {
        let is_selected = || {
            let selector = self.namespace_selector();
            selector.zip(labels).is_some_and(|(selector, labels)| selector.matches(labels))
        };
        let names = self.allowed_namespaces.as_ref().map(|allowed| &allowed.names);
        let is_named = names.is_some_and(|names| names.iter().any(|name| name == namespace));
        own == namespace || is_named || is_selected()
    }

    /// Whether mailboxes may be connected, which may use paid slots.
    pub fn allows_connecting(&self) -> bool {
        let connect = self.mailboxes.as_ref().and_then(|mailboxes| mailboxes.connect);
        connect.unwrap_or_default() == ConnectPermission::Allowed
    }

    /// The labels of namespaces that may use the account.
    pub fn namespace_selector(&self) -> Option<&NamespaceSelector> {
        self.allowed_namespaces.as_ref()?.selector.as_ref()
    }
}

// === impl ApiKeySecretRef ===

impl ApiKeySecretRef {
    /// The key to read.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("api_key")
    }
}
