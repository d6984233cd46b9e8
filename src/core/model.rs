//! The state of a credential as a reconcile observed it: plain values without secrets or handles. `plan::next_step` and
//! `status::credential::report` read nothing else.

#[cfg(test)]
pub(crate) mod fixtures;
pub mod reading;
pub mod record;
pub mod registration;
pub mod rotation;

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::Reason;
use crate::api::{
    AccountLocation, AccountName, ExpirySource, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus,
    NamespacedName, ObservedRecord, ObservedSecret, Ownership, Registration,
};
use crate::core::app_reading::{AppAccess, Reading};
use crate::core::event::EventBody;
use crate::core::failure::Failure;
use crate::core::remote::{Entry, split_token};
use crate::core::secret_form::SecretForm;
use crate::core::timing::Timing;
use crate::core::token_result::TokenResult;

pub use self::reading::ReadingSubject;
pub use self::record::{Content, Record, SealedRecord};
pub use self::rotation::{OwnSecrets, RotationResults};

/// An object and everything that its reconciliation depends on, as observed and as changed by the steps.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object, read at the beginning of the reconcile.
    pub object: MicrosoftGraphCredential,
    /// The status in the API server.
    pub written: MicrosoftGraphCredentialStatus,
    /// The status with the changes of this reconcile.
    pub status: MicrosoftGraphCredentialStatus,
    pub source: Source,
    /// The version of the Secret, if it was read.
    pub source_version: Option<ObservedSecret>,
    /// When the Secret changed last, if it was read.
    pub source_changed_at: Option<Timestamp>,
    /// The destination of the next step: that of a pending create, of the spec, or, for a deleted object, of its
    /// registration.
    pub target: Target,
    /// The previous registration to delete next: one whose account is reachable, if there is one.
    pub previous_registration: Option<PreviousRegistration>,
    /// The record of the object, if the target is the store.
    pub record: Option<Record>,
    /// The version of the record, if it was read or written.
    pub record_version: Option<ObservedRecord>,
    /// The app's credentials in the target's last listing, if there is one.
    pub cached_entries: Option<Vec<Entry>>,
    /// How long until the pending create can no longer take effect, counted from when this process first saw it.
    pub settles_in: Duration,
    /// The same for an update of the registration.
    pub change_settles_in: Duration,
    /// Whether this object may register its app at the target.
    pub claim: Claim,
    /// When the deletion of its namespace was requested, if the object is being deleted.
    pub namespace_deleted_at: Option<Timestamp>,
    /// The client secrets that the operator created for the object; `None` if it neither rotates one nor has one left.
    pub own_secrets: Option<OwnSecrets>,
    /// Whether its app may be read at Microsoft Entra; `None` without `spec.entra`.
    pub app_access: Option<AppAccess>,
    /// Whether the app, which could not be read, must be read again, because the identity changed.
    pub is_reading_requested: bool,
    /// Whether the account changed since it rejected a step, for example because it got another key.
    pub account_changed: bool,
    /// Whether `status` holds a change at the destination that is not persisted yet.
    pub has_unpersisted_changes: bool,
    /// The results of the steps of this reconcile.
    pub results: StepResults,
}

/// The Secret that the object points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Not read, because the object is suspended or being deleted.
    NotRead,
    /// It cannot be used.
    Unusable(ConditionFailure),
    /// It holds a secret and an expiry.
    Usable(UsableSource),
}

/// Why a condition is not met, for a problem that a person can fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionFailure {
    pub reason: Reason,
    /// The problem and what to do.
    pub message: String,
}

/// A secret and its expiry, identified by their fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsableSource {
    /// Fingerprint under the newest key.
    pub fingerprint: String,
    /// `None` if the spec follows the expiry at Entra, which is not known yet.
    pub expires_at: Option<Timestamp>,
    /// Where the expiry comes from.
    pub expiry_source: ExpirySource,
    /// Whether exactly this secret and expiry are registered.
    pub is_registered: bool,
    /// Whether it is the pending secret of an earlier reconcile.
    pub is_pending: bool,
    /// What the secret looks like, if it was read and is probably not a client secret.
    pub form: Option<SecretForm>,
    /// `None` without `spec.entra`.
    pub reading: Option<ReadingSubject>,
}

/// The destination and whether it can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Store,
    /// A `WoodpeckerAccount` that was not reconciled since the operator started.
    NotReconciled(AccountName),
    /// A `WoodpeckerAccount` that could not be reached since the operator started or its key changed: the key may
    /// belong to another account.
    NotReached(AccountName),
    /// A `WoodpeckerAccount` that does not exist.
    Missing(AccountName),
    /// A `WoodpeckerAccount` in a namespace that the operator does not serve.
    NotServed(AccountName),
    /// A `WoodpeckerAccount` that does not allow this namespace.
    NotAllowed(AccountName),
    /// A `WoodpeckerAccount` that cannot be used now.
    NotReady(AccountName),
    /// A `WoodpeckerAccount` that works.
    Ready(ReadyTarget),
}

/// A `WoodpeckerAccount` that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyTarget {
    pub location: AccountLocation,
    /// Whether its listing is complete enough to create credentials.
    pub may_create: bool,
    /// Whether credentials may be adopted: all objects are known, so none belongs to another object.
    pub may_adopt: bool,
}

/// A previous registration that is still to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousRegistration {
    pub registration: Registration,
    pub target: Target,
    /// Whether it can be deleted now.
    pub is_reachable: bool,
}

/// Whether this object may register its app at the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    Granted,
    /// Another object, `<namespace>/<name>`, manages the app.
    Conflict(String),
}

/// The results of the steps of a reconcile.
#[derive(Clone, Debug, Default)]
pub struct StepResults {
    pub verification: Option<VerificationResult>,
    /// The reading of the app at Microsoft Entra.
    pub reading: Option<Reading>,
    /// Whether too many other readings are in progress. The object is enqueued when one ends.
    pub is_reading_deferred: bool,
    /// The results of the steps of a rotation.
    pub rotation: RotationResults,
    /// The account's credentials for the app.
    pub listed: Option<Listed>,
    pub failure: Option<Failure>,
    /// Whether nothing of the registration is left to delete at the destination.
    pub is_deletion_done: bool,
    /// The object that also has the registration, which was therefore not deleted.
    pub other_owner: Option<NamespacedName>,
    /// Whether the secret was encrypted into its record.
    pub encrypted: bool,
    /// Events about what the steps did, to emit once the status is written.
    pub events: Vec<EventBody>,
    /// The result of the request for a registration that the listing lacks.
    pub existence: Option<Existence>,
    /// Why a previous registration could not be deleted, which does not stop the reconcile.
    pub previous_failure: Option<Failure>,
    /// Late duplicates that could not be deleted, which does not stop the reconcile.
    pub failed_duplicates: Vec<i64>,
}

/// Whether a registration that the listing lacks exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    /// It exists: the listing is incomplete.
    Present,
    /// The request returned 404, and a new listing lacks it too.
    Deleted,
}

/// The account's credentials for the app, according to a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub entries: Vec<Entry>,
    pub max_age: MaxAge,
}

/// The maximum age of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MaxAge {
    /// The account's last one, of any age. Nothing is changed because of it.
    Cached,
    /// Recent enough to create or adopt.
    Recent,
    /// Fetched by this reconcile: requests from before it have taken effect.
    Live,
}

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationResult {
    /// When Microsoft responded.
    pub at: Timestamp,
    pub result: TokenResult,
}

/// Settings of the operator that apply to all objects.
#[derive(Clone, Copy, Debug)]
pub struct OperatorPolicy {
    /// Whether `verification.policy: Disabled` takes effect.
    pub allow_unverified: bool,
    /// Whether the operator adds finalizers.
    pub sets_finalizers: bool,
    pub timing: Timing,
}

// === impl Target ===

impl Target {
    /// Whether it is usable and is where the registration is.
    pub fn matches(&self, registration: &Registration) -> bool {
        match self {
            Self::Store => registration.record.is_some(),
            Self::Ready(ready) => registration.location().as_ref() == Some(&ready.location),
            _ => false,
        }
    }
}

// === impl Observed ===

impl Observed {
    pub fn usable_source(&self) -> Option<&UsableSource> {
        let Source::Usable(source) = &self.source else { return None };
        Some(source)
    }

    /// Whether the source has the secret that the status is about: the pending one if there is one, else the registered
    /// one.
    pub fn is_same_secret(&self) -> bool {
        let has_pending_secret = self.status.pending_secret.is_some();
        self.usable_source()
            .is_some_and(|source| if has_pending_secret { source.is_pending } else { source.is_registered })
    }

    pub fn has_finalizer(&self) -> bool {
        let finalizers = self.object.metadata.finalizers.as_deref().unwrap_or_default();
        finalizers.iter().any(|finalizer| finalizer == crate::api::FINALIZER)
    }

    /// Whether an entry is for the object's app, or has one of its idempotency tokens.
    pub fn is_about(&self, entry: &Entry) -> bool {
        let spec = &self.object.spec;
        entry.is_for(&spec.tenant_id, &spec.client_id) || self.tokens().any(|token| entry.has_token(token))
    }

    /// The idempotency tokens of the registration and of the pending create.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        let registered = self.status.registration.as_ref().and_then(|it| it.idempotency_token.as_deref());
        let pending = self.status.pending_create.as_ref().map(|it| it.idempotency_token.as_str());
        registered.into_iter().chain(pending)
    }

    /// The name that the credential should have at the destination: `displayName`, or else its current name.
    pub fn desired_name(&self) -> String {
        match (&self.object.spec.display_name, &self.status.registration) {
            (None, Some(registration)) => registration.name.clone(),
            (Some(_), _) | (None, None) => self.object.remote_name(),
        }
    }

    /// Whether the registration is at the target.
    pub fn is_registered_at_target(&self) -> bool {
        self.status.registration.as_ref().is_some_and(|registration| self.target.matches(registration))
    }

    /// The registration, if it is at an account that was not reached yet.
    pub fn registration_at_unreached_account(&self) -> Option<&Registration> {
        let (Target::NotReconciled(account) | Target::NotReached(account)) = &self.target else {
            return None;
        };
        self.status
            .registration
            .as_ref()
            .filter(|registration| registration.account.as_ref() == Some(account))
    }

    /// Whether the last listing lacks the registration.
    pub fn is_missing(&self) -> bool {
        let Some(registration) = self.status.registration.as_ref().filter(|_| self.is_registered_at_target())
        else {
            return false;
        };
        let id = registration.credential_id;
        self.cached_entries.as_ref().is_some_and(|entries| entries.iter().all(|entry| entry.id != id))
    }

    /// Whether the annotation confirms that the registration was deleted.
    pub fn is_confirmed_deleted(&self) -> bool {
        let registered = self.status.registration.as_ref().map(|it| it.credential_id.to_string());
        registered.is_some_and(|registered| self.confirmed_deleted() == Some(&registered))
    }

    /// Whether the annotation confirms that the pending create made nothing.
    pub fn is_pending_create_confirmed_deleted(&self) -> bool {
        self.status
            .pending_create
            .as_ref()
            .is_some_and(|pending| self.confirmed_deleted() == Some(&pending.idempotency_token))
    }

    /// Whether the annotation confirms that something missing was deleted, which is acted on at once.
    pub fn is_deletion_confirmed(&self) -> bool {
        self.is_missing() && self.is_confirmed_deleted() || self.is_pending_create_confirmed_deleted()
    }

    fn confirmed_deleted(&self) -> Option<&str> {
        let annotations = self.object.metadata.annotations.as_ref()?;
        annotations.get(crate::api::CONFIRM_DELETED).map(String::as_str)
    }

    /// A late duplicate: another entry for the same app whose name ends with the registration's token. A token
    /// elsewhere in a name, or for another app, does not show who made it.
    pub fn late_duplicate(&self) -> Option<i64> {
        let registration = self.status.registration.as_ref().filter(|_| self.is_registered_at_target())?;
        let token = registration.idempotency_token.as_deref()?;
        let listed = self.results.listed.as_ref().map(|listed| listed.entries.as_slice());
        let entries = listed.or(self.cached_entries.as_deref()).unwrap_or_default();
        entries
            .iter()
            .find(|entry| {
                entry.id != registration.credential_id
                    && entry.is_for(&self.object.spec.tenant_id, &self.object.spec.client_id)
                    && split_token(&entry.name).is_some_and(|(_, of_entry)| of_entry == token)
                    && !self.results.failed_duplicates.contains(&entry.id)
            })
            .map(|entry| entry.id)
    }

    /// The entry that this object has registered at the same address, for example under another name of the account: by
    /// its id, or by the idempotency token at the end of its name.
    pub fn own_entry(&self, entries: &[Entry]) -> Option<i64> {
        let Target::Ready(target) = &self.target else { return None };
        let base_url = Some(target.location.base_url.as_str());
        let own = || {
            let all = self.status.registration.iter().chain(&self.status.previous_registrations);
            all.filter(|registration| registration.base_url.as_deref() == base_url)
        };
        let spec = &self.object.spec;
        let of_app = || entries.iter().filter(|entry| entry.is_for(&spec.tenant_id, &spec.client_id));
        let has_id = |entry: &&Entry| own().any(|registration| registration.credential_id == entry.id);
        let has_token = |entry: &&Entry| {
            let token = split_token(&entry.name).map(|(_, token)| token);
            token.is_some() && own().any(|registration| registration.idempotency_token.as_deref() == token)
        };
        of_app().find(has_id).or_else(|| of_app().find(has_token)).map(|entry| entry.id)
    }

    /// Whether the registration may be deleted: this object created it, or took ownership of it.
    pub fn may_delete(&self, registration: &Registration) -> bool {
        let adoption = self.object.spec.woodpecker().and_then(|woodpecker| woodpecker.adoption.as_ref());
        let takes_ownership = adoption.and_then(|adoption| adoption.take_ownership).unwrap_or(false);
        registration.ownership == Ownership::Created || takes_ownership
    }

    /// The registration, if it has the secret of the source.
    pub fn current_registration(&self) -> Option<&Registration> {
        let registration = self.status.registration.as_ref()?;
        self.usable_source()?.is_registered.then_some(registration)
    }
}
