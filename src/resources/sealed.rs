//! `SealedGraphCredential`: a record of the encrypted store. The ciphertext lives in a resource of our own,
//! so that no right to write Secrets is needed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::UnknownFields;
use super::conditions::Condition;
use super::credential::Cloud;
use super::date_time;
use super::ids::{ClientId, GUID_RULE, RECORD_ID_RULE, RecordId, TenantId};

/// Longest name of a credential, in characters: as the schema of its record has it, and as the REST API takes it.
pub const MAX_NAME_LENGTH: usize = 253;

/// A client secret sealed under the operator's keyring. Made and kept by the operator.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "graph-credentials.io",
    version = "v1alpha1",
    kind = "SealedGraphCredential",
    plural = "sealedgraphcredentials",
    singular = "sealedgraphcredential",
    shortname = "sgc",
    category = "graph-credentials",
    namespaced,
    status = "SealedGraphCredentialStatus",
    derive = "PartialEq",
    doc = "A client secret sealed under the operator's keyring. Made and kept by the operator.",
    printcolumn(name = "Credential", type_ = "integer", json_path = ".spec.credentialId"),
    printcolumn(name = "Name", type_ = "string", json_path = ".spec.name"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.secretExpiresAt"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Tenant", type_ = "string", json_path = ".spec.tenantId", priority = 1),
    printcolumn(name = "Client", type_ = "string", json_path = ".spec.clientId", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.cloud) ? self.cloud : 'Global') == (has(oldSelf.cloud) ? oldSelf.cloud : 'Global')")
        .message("spec.cloud is immutable: delete the record and let its owner make a new one")
        .field_path(".cloud")
)]
pub struct SealedGraphCredentialSpec {
    /// 128 random bits in hexadecimal that bind the envelope to this record. Immutable.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new(RECORD_ID_RULE).message("spec.recordId must be 32 lower-case hexadecimal digits: records are made by the operator"),
        validation = Rule::new("self == oldSelf").message("spec.recordId is immutable: the envelope opens only under its own record id")
    )]
    pub record_id: RecordId,

    /// Id of the credential, below 2^53, unique in the namespace. Immutable.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.credentialId is immutable: delete the record and let its owner make a new one"))]
    pub credential_id: i64,

    /// Id of the Entra tenant, a GUID. Immutable.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new(GUID_RULE).message("spec.tenantId must be a GUID such as bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32: see Overview > Tenant ID in the Entra admin center"),
        validation = Rule::new("self.lowerAscii() == oldSelf.lowerAscii()").message("spec.tenantId is immutable: delete the record and let its owner make a new one")
    )]
    pub tenant_id: TenantId,

    /// Client id of the Entra app, a GUID. Immutable.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new(GUID_RULE).message("spec.clientId must be a GUID such as e1c6ac69-480e-4a17-9b85-3467967bd179: see App registrations > your app > Application (client) ID in the Entra admin center"),
        validation = Rule::new("self.lowerAscii() == oldSelf.lowerAscii()").message("spec.clientId is immutable: delete the record and let its owner make a new one")
    )]
    pub client_id: ClientId,

    /// Microsoft cloud of the tenant. Immutable. Unset means `Global`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Cloud>,

    /// When the sealed secret expires, RFC 3339.
    #[serde(deserialize_with = "date_time::required")]
    #[schemars(schema_with = "date_time::schema")]
    pub secret_expires_at: Time,

    /// Name of the credential, for people.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The sealed secret: the envelope in base64.
    #[schemars(length(min = 1, max = 16384))]
    pub envelope: String,
}

/// What is true of the record. Written by the operator alone.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct SealedGraphCredentialStatus {
    /// The `metadata.generation` that the status is about; −1 until the operator has seen the record.
    #[serde(default = "super::unobserved")]
    pub observed_generation: i64,

    /// When Microsoft last issued a token for the sealed secret.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "date_time::optional")]
    #[schemars(schema_with = "date_time::optional_schema")]
    pub verified_at: Option<Time>,

    /// Which notice of the expiry was given last, in days before it: 30, 14, 7, 1 or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_notice_days: Option<i32>,

    /// The conditions: Ready, Verified, Expiring.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}
