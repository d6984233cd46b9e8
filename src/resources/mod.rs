//! The resources of the group `graph-credentials.io`, their defaults, and the CRDs generated from them.

mod account;
pub mod catalogue;
pub mod conditions;
pub mod crds;
mod credential;
mod defaults;
pub mod duration;
mod ids;
mod sealed;
mod status;

pub use self::account::{
    AllowedNamespaces, ApiKeySecretRef, VENDOR_BASE_URL, WoodpeckerAccount, WoodpeckerAccountSpec,
    WoodpeckerAccountStatus,
};
pub use self::credential::{
    AccountRef, Adoption, AdoptionPolicy, Cloud, DeletionPolicy, Destination, MicrosoftGraphCredential,
    MicrosoftGraphCredentialSpec, SecretRef, StoreDestination, Verification, VerificationPolicy,
    WoodpeckerDestination,
};
pub use self::ids::{ClientId, NotAGuid, TenantId, is_guid};
pub use self::sealed::{SealedGraphCredential, SealedGraphCredentialSpec, SealedGraphCredentialStatus};
pub use self::status::{
    AccountName, Candidate, ExpirySource, MicrosoftGraphCredentialStatus, Ownership, Pending, Registration,
};

/// The API group of all resources, and the prefix of our annotations and finalizers.
pub const GROUP: &str = "graph-credentials.io";

/// Finalizer on credentials whose deletion must remove something at the destination.
pub const FINALIZER: &str = "graph-credentials.io/registration";

/// Annotation that asks for a pass now: any value other than the last one handled.
pub const RECONCILE_REQUESTED_AT: &str = "graph-credentials.io/reconcile-requested-at";

/// The same from Flux's tools (`flux reconcile`), honoured where ours is absent.
pub const FLUX_RECONCILE_REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";

/// The field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = "graph-credential-operator";
