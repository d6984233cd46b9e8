//! The resources of the group `graph-credentials.io`, their defaults, and the CRDs generated from them.

mod account;
pub mod catalogue;
pub mod conditions;
pub mod crds;
mod credential;
pub mod date_time;
mod defaults;
pub mod duration;
mod ids;
mod sealed;
mod status;
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
pub use self::ids::{ClientId, NotAGuid, NotARecordId, RecordId, TenantId, is_guid};
pub use self::sealed::{
    MAX_NAME_LENGTH, SealedGraphCredential, SealedGraphCredentialSpec, SealedGraphCredentialStatus,
};
pub use self::status::{
    AccountName, Candidate, ExpirySource, MicrosoftGraphCredentialStatus, Named, ObservedRecord,
    ObservedSecret, Ownership, Pending, Place, Registration,
};
pub use self::unknown_fields::UnknownFields;

/// The `observedGeneration` of an object that the operator has not seen yet.
fn unobserved() -> i64 {
    -1
}

/// The API group of all resources, and the prefix of our annotations and finalizers.
pub const GROUP: &str = "graph-credentials.io";

/// Finalizer on credentials whose deletion must remove something at the destination.
pub const FINALIZER: &str = "graph-credentials.io/registration";

/// Keeps a deleted account until the credentials are gone that have something removed there.
pub const IN_USE_FINALIZER: &str = "graph-credentials.io/in-use";

/// Annotation that asks for a pass now: any value other than the last one handled. On an account it asks for
/// a new listing.
pub const RECONCILE_REQUESTED_AT: &str = "graph-credentials.io/reconcile-requested-at";

/// The same from Flux's tools (`flux reconcile`), honoured where ours is absent.
pub const FLUX_RECONCILE_REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";

/// Annotation by which a person says that what is missing at Woodpecker is gone indeed. On a credential its
/// value is the id in question; on an account any value other than the last one handled, for all that is
/// missing there now.
pub const ACKNOWLEDGE_GONE: &str = "graph-credentials.io/acknowledge-gone";

/// The field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = "graph-credential-operator";
