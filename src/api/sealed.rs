//! `SealedGraphCredential`: a record of the encrypted store. The ciphertext is in a custom resource, so the operator
//! needs no permission to write Secrets.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::api::conditions::Condition;
use crate::api::credential::Cloud;
use crate::api::ids::{ClientId, GUID_RULE, RECORD_ID_RULE, RecordId, TenantId};
use crate::api::{CreatedSecret, Rejections, UnknownFields, timestamp};

/// Maximum length of the name of a credential, in characters, in the schema and in the REST API.
pub const MAX_NAME_LENGTH: usize = 253;

/// A client secret encrypted with the operator's keyring. The operator creates and maintains it.
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
    doc = "A client secret encrypted with the operator's keyring. The operator creates and maintains it.",
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
        .message("spec.cloud is immutable: delete the record so that its owner creates a new one")
        .field_path(".cloud")
)]
pub struct SealedGraphCredentialSpec {
    /// ID of the record: 128 random bits in hexadecimal that bind the envelope to this record. Immutable.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new(RECORD_ID_RULE).message("spec.recordId must be 32 lower-case hexadecimal digits: the operator creates records"),
        validation = Rule::new("self == oldSelf").message("spec.recordId is immutable: the envelope can be decrypted only with its own record ID")
    )]
    pub record_id: RecordId,

    /// ID of the credential, below 2^53 and unique in the namespace. Immutable.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.credentialId is immutable: delete the record so that its owner creates a new one"))]
    pub credential_id: i64,

    /// ID of the Entra tenant, a GUID. Immutable.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new(GUID_RULE).message("spec.tenantId must be a GUID such as bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32: see Overview > Tenant ID in the Entra admin center"),
        validation = Rule::new("self.lowerAscii() == oldSelf.lowerAscii()").message("spec.tenantId is immutable: delete the record so that its owner creates a new one")
    )]
    pub tenant_id: TenantId,

    /// Client ID of the Entra app, a GUID. Immutable.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new(GUID_RULE).message("spec.clientId must be a GUID such as e1c6ac69-480e-4a17-9b85-3467967bd179: see App registrations > your app > Application (client) ID in the Entra admin center"),
        validation = Rule::new("self.lowerAscii() == oldSelf.lowerAscii()").message("spec.clientId is immutable: delete the record so that its owner creates a new one")
    )]
    pub client_id: ClientId,

    /// Microsoft cloud of the tenant. Immutable. Defaults to `Global`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Cloud>,

    /// Expiry of the encrypted secret, RFC 3339.
    #[serde(deserialize_with = "timestamp::required")]
    #[schemars(schema_with = "timestamp::schema")]
    pub secret_expires_at: Time,

    /// Human-readable name of the credential.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The encrypted secret: the envelope in base64.
    #[schemars(length(min = 1, max = 16384))]
    pub envelope: String,

    /// The entry of the secret at Microsoft Entra, if the operator created it. It is not for the REST API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_secret: Option<CreatedSecret>,

    /// The entry of a new secret at Microsoft Entra, which the envelope contains beside the one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_secret: Option<CreatedSecret>,
}

/// Observed state of the record. Only the operator writes it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct SealedGraphCredentialStatus {
    /// The `metadata.generation` that the status reflects; −1 until the operator has reconciled the record.
    #[serde(default = "super::unobserved")]
    pub observed_generation: i64,

    /// Time when Microsoft last issued a token for the encrypted secret.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "timestamp::optional")]
    #[schemars(schema_with = "timestamp::optional_schema")]
    pub last_verified_time: Option<Time>,

    /// Rejections of the encrypted secret, if Microsoft issued a token for it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejections: Option<Rejections>,

    /// Last expiry notice, in days before the expiry: 30, 14, 7, 1 or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_notice_days: Option<i32>,

    /// Conditions of the record: Ready, Verified and Expiring.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// Annotation on a record of the REST API. `A-B` means that generations A to B have the same secret, because it was
/// only re-encrypted. Without it, each rotation of the keyring would cause all secrets to be verified again at once.
pub const SAME_SECRET: &str = "graph-credentials.io/same-secret";

// === impl SealedGraphCredential ===

impl SealedGraphCredential {
    /// Whether the record has the same secret as in that generation.
    pub fn holds_secret_of(&self, generation: i64) -> bool {
        self.metadata.generation == Some(generation)
            || self.same_secret().is_some_and(|(first, last)| (first..=last).contains(&generation))
    }

    /// The first and the last generation with the current secret, if they are annotated.
    pub fn same_secret(&self) -> Option<(i64, i64)> {
        let (first, last) = self.metadata.annotations.as_ref()?.get(SAME_SECRET)?.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        // It is valid only if it was written together with this generation.
        (self.metadata.generation == Some(last)).then_some((first, last))
    }
}
