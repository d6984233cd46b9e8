//! What a pass knows about its object: plain values, no secret, no handles. `decide` and `report` see
//! nothing else of the world.

mod record;

use std::time::Duration;

use jiff::Timestamp;

use super::index::Named;
use crate::destination::Failure;
use crate::events::Note;
use crate::microsoft::Verdict;
use crate::resources::conditions::Reason;
use crate::resources::{
    AccountName, ExpirySource, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, ObservedRecord,
    ObservedSecret, Ownership, Place, Registration,
};
use crate::settings::Timing;
use crate::woodpecker::{Entry, unmarked};

pub use self::record::{Content, Record, SealedRecord};

/// An object and its surroundings, as gathered for this pass and changed by its steps.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object, read at the beginning of the pass.
    pub object: MicrosoftGraphCredential,
    /// Its status as the API server has it.
    pub written: MicrosoftGraphCredentialStatus,
    /// Its status as the steps of this pass have changed it.
    pub status: MicrosoftGraphCredentialStatus,
    pub source: Source,
    /// The version of the Secret, where it was read.
    pub source_version: Option<ObservedSecret>,
    /// The account that the next step is about: that of a create under way, of the spec, or for a deleted
    /// object of its registration.
    pub target: Target,
    /// The earlier registration that is to be removed next, with its account: one that can be reached, where
    /// there is one.
    pub retiring: Option<Retiring>,
    /// The record of the object, where the target is the store.
    pub record: Option<Record>,
    /// The version of the record, where it was read or written.
    pub record_version: Option<ObservedRecord>,
    /// What the target's last listing holds for the app, where there is one.
    pub seen: Option<Vec<Entry>>,
    /// How long until the create under way counts as settled, from this process's own first sight of it.
    pub settles_in: Duration,
    /// The same for a change of the registration.
    pub change_settles_in: Duration,
    /// Who has the claim on its app at that destination.
    pub claim: Claim,
    /// When the deletion of its namespace was asked for, where the object is being deleted.
    pub namespace_deleted_at: Option<Timestamp>,
    /// Whether the account changed since a step there was refused: it got another key, say.
    pub account_changed: bool,
    /// Whether `status` holds a registration or the like that exists at the destination and is not written down yet.
    pub is_unrecorded: bool,
    /// What the steps of this pass have found out.
    pub learnt: Learnt,
}

/// The Secret that the object points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Not looked at: the object is suspended or being deleted.
    NotRead,
    /// It cannot be used as it is.
    Unusable(Problem),
    /// It holds a secret and an expiry.
    Usable(UsableSource),
}

/// Something that a person can mend: which reason, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub reason: Reason,
    /// Problem and cure.
    pub message: String,
}

/// A secret and its expiry, told apart by fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsableSource {
    /// Fingerprint under the newest key.
    pub fingerprint: String,
    pub expires_at: Timestamp,
    /// Where that date comes from.
    pub expiry_source: ExpirySource,
    /// Whether it is the very secret and expiry that are registered.
    pub is_registered: bool,
    /// Whether it is the candidate of an earlier pass.
    pub is_candidate: bool,
    /// Whether the value has the form of a GUID: mostly the secret's id, copied in place of its value.
    pub looks_like_an_id: bool,
}

/// The destination, as far as it can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Store,
    /// A `WoodpeckerAccount` that exists and that the operator has not looked at since it started.
    NotSeenYet(AccountName),
    /// A `WoodpeckerAccount` that could not be reached since the operator started, or since it has its key:
    /// it may be another one than it was.
    Unjudged(AccountName),
    /// A `WoodpeckerAccount` that does not exist.
    Missing(AccountName),
    /// A `WoodpeckerAccount` that does not let this namespace in.
    NotAllowed(AccountName),
    /// A `WoodpeckerAccount` that cannot be used now.
    NotReady(AccountName),
    /// A `WoodpeckerAccount` that works.
    Ready(ReadyTarget),
}

/// A `WoodpeckerAccount` that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyTarget {
    pub place: Place,
    /// Whether something may be created on the word of its listing.
    pub may_create: bool,
    /// Whether something may be taken over: all objects are known, so that nobody else's is.
    pub may_adopt: bool,
}

/// An earlier registration that is still to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retiring {
    pub registration: Registration,
    pub target: Target,
    /// Whether it can be removed now.
    pub is_reachable: bool,
}

/// Who may register the app at the remote account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// This object.
    Ours,
    /// Another one, `<namespace>/<name>`.
    HeldBy(String),
}

/// What the steps of a pass have found out.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    pub proof: Option<Proof>,
    /// What the account holds for the app.
    pub listed: Option<Listed>,
    pub failure: Option<Failure>,
    /// Whether the registration was removed from the destination.
    pub removed: bool,
    /// The object that holds the registration as well, to which it was left instead of being removed.
    pub left_to: Option<Named>,
    /// Whether the secret was sealed into the record of the store.
    pub sealed: bool,
    /// What the steps have done, to be told once the status says so as well.
    pub news: Vec<Note>,
    /// What a listing lacks was asked for by its id.
    pub probe: Option<Probe>,
    /// Why an earlier registration could not be removed for now, which does not stop the rest.
    pub retiring_failure: Option<Failure>,
    /// Late duplicates that could not be removed for now, which does not stop the rest.
    pub stuck_duplicates: Vec<i64>,
}

/// What a request for a registration that the listing lacks has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It is there: the listing is incomplete.
    Present,
    /// It is gone: the request was answered with 404, and a new listing agrees.
    Gone,
}

/// What the account holds for the app, by a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub entries: Vec<Entry>,
    /// How old it is at most.
    pub freshness: Freshness,
}

/// How old a listing is at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// It is the account's last one. Nothing is done on its word.
    Any,
    /// Young enough to create or adopt on its word.
    Fresh,
    /// Taken by this pass: what was under way before it has settled.
    Anew,
}

/// What Microsoft said, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// When it answered.
    pub at: Timestamp,
    pub verdict: Verdict,
}

/// What the operator's administrator has decided for all objects.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Whether `verification.policy: Disabled` counts.
    pub allow_unverified: bool,
    /// Whether deletions are made to wait for us, by finalizers.
    pub sets_finalizers: bool,
    pub timing: Timing,
}

// === impl Target ===

impl Target {
    /// Whether it works and leads to where the registration is.
    pub fn leads_to(&self, registration: &Registration) -> bool {
        match self {
            Self::Store => registration.record.is_some(),
            Self::Ready(ready) => registration.place().as_ref() == Some(&ready.place),
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

    /// Whether the source holds the secret that the status is about: the candidate where there is one, else
    /// the registered one.
    pub fn is_same_secret(&self) -> bool {
        let has_candidate = self.status.candidate.is_some();
        self.usable_source()
            .is_some_and(|source| if has_candidate { source.is_candidate } else { source.is_registered })
    }

    pub fn has_finalizer(&self) -> bool {
        let finalizers = self.object.metadata.finalizers.as_deref().unwrap_or_default();
        finalizers.iter().any(|finalizer| finalizer == crate::resources::FINALIZER)
    }

    /// Whether an entry is for the object's app, or carries one of its marks.
    pub fn is_about(&self, entry: &Entry) -> bool {
        let spec = &self.object.spec;
        entry.is_for(&spec.tenant_id, &spec.client_id) || self.tokens().any(|token| entry.carries(token))
    }

    /// The tokens that mark what the object has made, or may have.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        let registered = self.status.registration.as_ref().and_then(|it| it.token.as_deref());
        let pending = self.status.pending.as_ref().map(|it| it.token.as_str());
        registered.into_iter().chain(pending)
    }

    /// Whether anything is or may be registered for the object.
    pub fn has_books(&self) -> bool {
        let status = &self.status;
        status.registration.is_some() || status.pending.is_some() || !status.retiring.is_empty()
    }

    /// The name that the credential should have at the destination: without one in the spec, whatever name it has.
    pub fn wanted_name(&self) -> String {
        match (&self.object.spec.display_name, &self.status.registration) {
            (None, Some(registration)) => registration.name.clone(),
            (Some(_), _) | (None, None) => self.object.remote_name(),
        }
    }

    /// Whether the registration is at the account that the next step is about.
    pub fn is_registered_at_target(&self) -> bool {
        self.status.registration.as_ref().is_some_and(|registration| self.target.leads_to(registration))
    }

    /// Whether the last listing lacks the registration.
    pub fn is_missing(&self) -> bool {
        let Some(registration) = self.status.registration.as_ref().filter(|_| self.is_registered_at_target())
        else {
            return false;
        };
        let id = registration.credential_id;
        self.seen.as_ref().is_some_and(|seen| seen.iter().all(|entry| entry.id != id))
    }

    /// Whether a person has said by annotation that the registration is gone.
    pub fn is_acknowledged_gone(&self) -> bool {
        let registered = self.status.registration.as_ref().map(|it| it.credential_id.to_string());
        registered.is_some_and(|registered| self.acknowledged() == Some(&registered))
    }

    /// Whether a person has said by annotation that the create under way has made nothing.
    pub fn is_pending_acknowledged_gone(&self) -> bool {
        self.status.pending.as_ref().is_some_and(|pending| self.acknowledged() == Some(&pending.token))
    }

    fn acknowledged(&self) -> Option<&str> {
        let annotations = self.object.metadata.annotations.as_ref()?;
        annotations.get(crate::resources::ACKNOWLEDGE_GONE).map(String::as_str)
    }

    /// A late duplicate of our own: an entry for the same app whose name ends with our token, and that is not the
    /// registered one. A token elsewhere in a name, or for another app, says nothing about who made it.
    pub fn late_duplicate(&self) -> Option<i64> {
        let registration = self.status.registration.as_ref().filter(|_| self.is_registered_at_target())?;
        let token = registration.token.as_deref()?;
        let listed = self.learnt.listed.as_ref().map(|listed| listed.entries.as_slice());
        let seen = listed.or(self.seen.as_deref()).unwrap_or_default();
        seen.iter()
            .find(|entry| {
                entry.id != registration.credential_id
                    && entry.is_for(&self.object.spec.tenant_id, &self.object.spec.client_id)
                    && unmarked(&entry.name).is_some_and(|(_, of_entry)| of_entry == token)
                    && !self.learnt.stuck_duplicates.contains(&entry.id)
            })
            .map(|entry| entry.id)
    }

    /// Whether what was registered may be removed: this object made it, or took its ownership.
    pub fn owns(&self, registration: &Registration) -> bool {
        let adoption = self.object.spec.woodpecker().and_then(|woodpecker| woodpecker.adoption.as_ref());
        let takes_ownership = adoption.and_then(|adoption| adoption.take_ownership).unwrap_or(false);
        registration.ownership == Ownership::Created || takes_ownership
    }

    /// The registration, where it holds the secret of the source.
    pub fn current_registration(&self) -> Option<&Registration> {
        let registration = self.status.registration.as_ref()?;
        self.usable_source()?.is_registered.then_some(registration)
    }
}

#[cfg(test)]
pub(crate) mod testing;
