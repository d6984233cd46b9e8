//! `WoodpeckerMailboxes`: mailboxes to connect at Woodpecker with a registered credential.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::conditions::Condition;
use crate::api::ids::SUBDOMAIN_RULE;
use crate::api::{AccountName, UnknownFields, timestamp};

pub use self::hold::{ConnectionHold, HoldReason};
pub use self::left::LeftMailbox;

mod hold;
mod left;

/// Mailboxes to connect at Woodpecker with a credential that is registered there. Connecting a mailbox may use a paid
/// slot of the account. Nothing is ever disconnected.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "graph-credentials.io",
    version = "v1alpha1",
    kind = "WoodpeckerMailboxes",
    plural = "woodpeckermailboxes",
    singular = "woodpeckermailboxes",
    shortname = "wpm",
    category = "graph-credentials",
    namespaced,
    status = "WoodpeckerMailboxesStatus",
    derive = "PartialEq",
    doc = "Mailboxes to connect at Woodpecker with a credential that is registered there. Connecting a mailbox may use a paid slot of the account, for which Woodpecker charges whether or not it is used. The operator disconnects no mailbox, whatever happens to the object.",
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
        name = "Connected",
        type_ = "integer",
        json_path = ".status.connected",
        description = "Number of mailboxes that the operator has connected"
    ),
    printcolumn(
        name = "Open",
        type_ = "integer",
        json_path = ".status.open",
        description = "Number of mailboxes that are not connected"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policy", priority = 1),
    printcolumn(name = "Credential", type_ = "string", json_path = ".spec.credentialRef.name", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct WoodpeckerMailboxesSpec {
    /// The credential with which the mailboxes are connected. Immutable. The operator waits until it is registered at
    /// Woodpecker.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("spec.credentialRef is immutable: create a new WoodpeckerMailboxes for the other credential"))]
    pub credential_ref: CredentialRef,

    /// `Plan` (default): nothing is sent, and the status says which mailboxes would be connected. `Connect`: they are
    /// connected, and each one may use a paid slot of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<MailboxPolicy>,

    /// While true, the operator sends nothing for this object. Defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// The mailboxes. One that is removed from the list stays connected: `status.leftConnected` then has it. Their
    /// addresses and names have at most 100,000 characters in all.
    #[schemars(length(min = 1, max = 1000))]
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Map(vec!["email".into()]),
        validation = Rule::new("self.map(it, size(it.email) + (has(it.displayName) ? size(it.displayName) : 0)).sum() <= 100000")
            .message("the addresses and names of spec.mailboxes must have at most 100000 characters in all: use several WoodpeckerMailboxes")
    )]
    pub mailboxes: Vec<MailboxSpec>,
}

/// Reference to a `MicrosoftGraphCredential`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialRef {
    /// Name of the MicrosoftGraphCredential in the same namespace. Its destination must be Woodpecker.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(SUBDOMAIN_RULE)
        .message("spec.credentialRef.name must be the name of a MicrosoftGraphCredential in this namespace: lower-case letters, digits, '-' and '.'"))]
    pub name: String,
}

/// What the operator does with the mailboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MailboxPolicy {
    /// Nothing is sent, and the status says which mailboxes would be connected.
    #[default]
    Plan,
    /// The mailboxes are connected. Each one may use a paid slot of the account.
    Connect,
}

/// A mailbox.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailboxSpec {
    /// Address of the mailbox, in lower case, so that no mailbox is listed twice.
    #[schemars(length(min = 3, max = 254))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9.!#$%&\\'*+/=?^_{|}~-]+@[a-z0-9-]+([.][a-z0-9-]+)+$')")
        .message("spec.mailboxes[].email must be an address in lower case, such as jim@example.com"))]
    pub email: String,

    /// Name that recipients see. If unset, Woodpecker chooses it. It takes effect only when the mailbox is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("!self.matches('[[:cntrl:]]')")
        .message("spec.mailboxes[].displayName must not contain control characters"))]
    pub display_name: Option<String>,
}

/// Observed state of the mailboxes. Only the operator writes it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct WoodpeckerMailboxesStatus {
    /// The `metadata.generation` that the status reflects; −1 until the operator has reconciled the object.
    #[serde(default = "super::unobserved")]
    pub observed_generation: i64,

    /// Number of mailboxes of the spec that the operator has connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<i32>,

    /// Number of mailboxes of the spec that were there before, so that nothing was sent for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub already_connected: Option<i32>,

    /// Number of mailboxes of the spec that are not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<i32>,

    /// The mailboxes of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub mailboxes: Vec<MailboxStatus>,

    /// Mailboxes that are no longer in the spec, and that the operator has connected, or with `unlisted` that a person had to
    /// look for. Those that are connected stay so: disconnect them in Woodpecker if you no longer need them. At most 1000, and
    /// at most 64 KiB of addresses: the latest ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub left_connected: Vec<LeftMailbox>,

    /// The request that is in progress, or got no clear response. Written before it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingConnection>,

    /// The credential of which a listing has shown a connected mailbox. While it differs from the registered one, mailboxes
    /// are submitted one by one, and nothing more after one is connected before a listing shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_credential_id: Option<i64>,

    /// Number of connected mailboxes that the last listing lacked. It was not applied, because it may be incomplete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<i32>,

    /// Their IDs, at most 25.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 25))]
    pub missing_ids: Vec<i64>,

    /// When the mailboxes at Woodpecker were last listed for this object.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub last_listed_time: Option<Time>,

    /// What Woodpecker said when it last refused a whole request, shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_refusal: Option<String>,

    /// Requests in a row that connected no mailbox. After three, the operator sends no further one until the spec changes or
    /// a reconcile is requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<i32>,

    /// When the next request may be sent after such a request.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub next_attempt_time: Option<Time>,

    /// Last handled value of the annotation `graph-credentials.io/reconcile-requested-at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,

    /// Conditions of the object: Ready, and, only while True, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// State of a mailbox of the spec.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailboxStatus {
    /// Address of the mailbox.
    #[schemars(length(max = 254))]
    pub email: String,

    /// Whether it is connected.
    pub state: ConnectionState,

    /// ID of the mailbox at Woodpecker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,

    /// The credential with which this object submitted it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<i64>,

    /// True if a listing lacks it although it was connected, submitted, or listed before. If it is not connected, it is
    /// submitted again only after a person requests a reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<bool>,

    /// What Woodpecker said when it refused the mailbox, shortened; absent if there is no more room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,

    /// How often it was submitted without being connected, since the spec changed or a reconcile was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,

    /// When it may be submitted again.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub next_attempt_time: Option<Time>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// Whether a mailbox is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConnectionState {
    /// The account does not have it, by the last listing.
    NotConnected,
    /// It was submitted, and the outcome is not known yet.
    Submitted,
    /// The operator has connected it.
    Connected,
    /// The account had it before. It may have been connected in another way.
    AlreadyConnected,
    /// Woodpecker has refused it. The operator tries again later.
    Refused,
    /// It was submitted, there was no clear response, and a later listing lacks it. The operator tries again later.
    Unconfirmed,
    /// It was submitted three times without being connected, or, with `unlisted`, a person has to look for it in
    /// Woodpecker. The operator submits it again only after the spec changed, or, with `unlisted`, if a reconcile is requested.
    Stopped,
}

/// A request to connect mailboxes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingConnection {
    /// When the request began.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub start_time: Time,

    /// The credential at Woodpecker.
    pub credential_id: i64,

    /// The `WoodpeckerAccount` to which the request was sent: the mailboxes are looked up there.
    pub account: AccountName,

    /// UID of the account, because another one may have its name later.
    pub account_uid: String,

    /// Base URL of Woodpecker's API.
    pub base_url: String,

    /// For agencies: ID of the company for which the mailboxes were submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company_id: Option<i64>,

    /// Addresses of the submitted mailboxes.
    #[schemars(length(max = 25), inner(length(max = 254)))]
    pub emails: Vec<String>,

    /// Why the operator waits for a person, who requests a reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<ConnectionHold>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// What an account lets WoodpeckerMailboxes do.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountMailboxes {
    /// `Allowed`: WoodpeckerMailboxes with `policy: Connect` may connect mailboxes at this account, in the namespaces that may
    /// use it. Each mailbox may use a paid slot of the account. `Denied` (default): nothing is connected; plans work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<ConnectPermission>,
}

/// Whether mailboxes may be connected at an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConnectPermission {
    /// Nothing is connected.
    #[default]
    Denied,
    /// Mailboxes may be connected, which may use paid slots of the account.
    Allowed,
}

// === impl WoodpeckerMailboxesSpec ===

impl WoodpeckerMailboxesSpec {
    /// What the operator does with the mailboxes.
    pub fn policy(&self) -> MailboxPolicy {
        self.policy.unwrap_or_default()
    }

    /// Whether nothing is sent.
    pub fn is_suspended(&self) -> bool {
        self.suspend.unwrap_or(false)
    }
}

// === impl MailboxStatus ===

impl MailboxStatus {
    /// A mailbox of which nothing is known yet.
    pub fn new(email: &str) -> Self {
        Self {
            email: email.to_owned(),
            state: ConnectionState::NotConnected,
            id: None,
            credential_id: None,
            unlisted: None,
            error: None,
            attempts: None,
            next_attempt_time: None,
            unknown: UnknownFields::default(),
        }
    }

    /// Whether nothing needs to be sent for it.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, ConnectionState::Connected | ConnectionState::AlreadyConnected)
    }
}
