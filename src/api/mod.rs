//! The types of the API group `graph-credentials.io`, their defaults, and the generated CRDs.

mod account;
pub mod conditions;
pub mod crds;
mod credential;
mod defaults;
pub mod duration;
mod entra;
mod identity;
mod ids;
mod key_identity;
mod mailbox_health;
mod mailboxes;
mod namespace_selector;
pub mod reasons;
mod rotation;
mod sealed;
mod status;
pub mod timestamp;
mod unknown_fields;

pub use self::account::{
    AllowedNamespaces, ApiKeySecretRef, VENDOR_BASE_URL, WoodpeckerAccount, WoodpeckerAccountSpec,
    WoodpeckerAccountStatus,
};
pub use self::credential::{
    AccountRef, Adoption, AdoptionPolicy, Cloud, DeletionPolicy, Destination, MicrosoftGraphCredential,
    MicrosoftGraphCredentialSpec, SecretRef, StoreDestination, Verification, VerificationPolicy,
    WoodpeckerDestination,
};
pub use self::defaults::{EXPIRY_WARNING, VERIFICATION_INTERVAL};
pub use self::entra::{
    EntraSettings, EntraStatus, ExpiryMode, IdentityRef, PendingExpiryChange, SecretHolder,
};
pub use self::identity::{
    CertificateSecretRef, ClientSecretRef, EntraIdentity, EntraIdentitySpec, EntraIdentityStatus,
    FederatedToken, Grant, IdentityAuth, TenantProblem,
};
pub use self::ids::{ClientId, ParseGuidError, ParseRecordIdError, RecordId, TenantId, is_guid};
pub use self::key_identity::KeyIdentity;
pub use self::mailbox_health::{FailingMailbox, MailboxHealth, MailboxHealthStatus};
pub use self::mailboxes::{
    AccountMailboxes, ConnectPermission, ConnectionHold, ConnectionState, CredentialRef, HoldReason,
    LeftMailbox, MailboxPolicy, MailboxSpec, MailboxStatus, PendingConnection, WoodpeckerMailboxes,
    WoodpeckerMailboxesSpec, WoodpeckerMailboxesStatus,
};
pub use self::namespace_selector::{LabelOperator, LabelRequirement, Labels, NamespaceSelector};
pub use self::rotation::{
    CreateAttempt, CreatedSecret, EarlierSecret, Observations, Rotation, RotationStatus, UnknownSecret,
};
pub use self::sealed::{
    MAX_NAME_LENGTH, SAME_SECRET, SealedGraphCredential, SealedGraphCredentialSpec,
    SealedGraphCredentialStatus,
};
pub use self::status::{
    AccountLocation, AccountName, ExpirySource, MicrosoftGraphCredentialStatus, NamespacedName,
    ObservedRecord, ObservedSecret, Ownership, PendingCreate, PendingSecret, Registration, Rejections,
};
pub use self::unknown_fields::UnknownFields;

/// The `observedGeneration` of an object that the operator has not reconciled yet.
fn unobserved() -> i64 {
    -1
}

/// The API group of all resources, and the prefix of annotations and finalizers.
pub const GROUP: &str = "graph-credentials.io";

/// Finalizer on credentials that are to be deleted at the destination.
pub const FINALIZER: &str = "graph-credentials.io/registration";

/// Finalizer that keeps a deleted account until all credentials that must be deleted there are.
pub const ACCOUNT_PROTECTION_FINALIZER: &str = "graph-credentials.io/account-protection";

/// Finalizer that keeps a deleted `EntraIdentity` until credentials have removed their client secrets with it.
pub const IDENTITY_PROTECTION_FINALIZER: &str = "graph-credentials.io/identity-protection";

/// Annotation that requests a reconcile with any new value. On an account it requests a new listing.
pub const RECONCILE_REQUESTED_AT: &str = "graph-credentials.io/reconcile-requested-at";

/// The same annotation of Flux (`flux reconcile`), used if the operator's is absent.
pub const FLUX_RECONCILE_REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";

/// Annotation that confirms the deletion of credentials that are missing at Woodpecker. On a credential the value is
/// the ID or the idempotency token; on an account any new value confirms all that are missing.
pub const CONFIRM_DELETED: &str = "graph-credentials.io/confirm-deleted";

/// Annotation that requests a new client secret with any new value, for an object with `spec.rotation`.
pub const ROTATE_REQUESTED_AT: &str = "graph-credentials.io/rotate-requested-at";

/// Annotation that says how long the earlier client secret stays valid after the requested rotation: a duration that
/// replaces `spec.rotation.overlap`, such as `0s` after an incident.
pub const ROTATE_OVERLAP: &str = "graph-credentials.io/rotate-overlap";

/// Annotation with the IDs, separated by commas, of client secrets in `status.rotation.unknownSecrets` to remove at
/// Entra.
pub const REMOVE_UNKNOWN_SECRETS: &str = "graph-credentials.io/remove-unknown-secrets";

/// The field manager of all writes.
pub const FIELD_MANAGER: &str = "graph-credential-operator";
