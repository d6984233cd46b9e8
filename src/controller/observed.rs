//! What a pass knows about its object: plain values, no secret, no handles. `decide` and `report` see
//! nothing else of the world.

use jiff::Timestamp;

use crate::destination::Failure;
use crate::microsoft::Verdict;
use crate::resources::conditions::Reason;
use crate::resources::{
    AccountName, ExpirySource, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, Registration,
};
use crate::settings::Timing;
use crate::woodpecker::Entry;

/// An object and its surroundings, as gathered for this pass and changed by its steps.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object, read at the beginning of the pass.
    pub object: MicrosoftGraphCredential,
    /// Its status as the API server has it.
    pub written: MicrosoftGraphCredentialStatus,
    /// Its status as the steps of this pass have changed it.
    pub status: MicrosoftGraphCredentialStatus,
    /// Its Secret.
    pub source: Source,
    /// Its destination.
    pub target: Target,
    /// Who has the claim on its app at that destination.
    pub claim: Claim,
    /// When the deletion of its namespace was asked for, where the object is being deleted.
    pub namespace_deleted_at: Option<Timestamp>,
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
    /// The reason in the condition.
    pub reason: Reason,
    /// Problem and cure.
    pub message: String,
}

/// A secret and its expiry, told apart by fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsableSource {
    /// Fingerprint under the newest key.
    pub fingerprint: String,
    /// When the secret expires.
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
    /// The encrypted store.
    Store,
    /// A `WoodpeckerAccount` that exists and that the operator has not looked at since it started.
    NotSeenYet(AccountName),
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
    /// Its namespace and name.
    pub account: AccountName,
    /// Base URL of the API.
    pub base_url: String,
    /// Company acted for.
    pub company_id: Option<i64>,
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
    /// What Microsoft said.
    pub proof: Option<Proof>,
    /// What the account holds for the app.
    pub entries: Option<Vec<Entry>>,
    /// The step that failed.
    pub failure: Option<Failure>,
    /// Whether the registration was removed from the destination.
    pub removed: bool,
    /// Whether a step sent nothing because this replica does not lead for long enough. The pass ends there:
    /// it is no finding about the object.
    pub not_leading: bool,
}

/// What Microsoft said, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// When it answered.
    pub at: Timestamp,
    /// Its verdict.
    pub verdict: Verdict,
}

/// What the operator's administrator has decided for all objects.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Whether `verification.policy: Disabled` counts.
    pub allow_unverified: bool,
    /// Every wait.
    pub timing: Timing,
}

// === impl Observed ===

impl Observed {
    /// The source, where it is usable.
    pub fn usable_source(&self) -> Option<&UsableSource> {
        match &self.source {
            Source::Usable(source) => Some(source),
            Source::NotRead | Source::Unusable(_) => None,
        }
    }

    /// Whether the source holds the secret that the status is about: the candidate where there is one, else
    /// the registered one.
    pub fn is_same_secret(&self) -> bool {
        let has_candidate = self.status.candidate.is_some();
        self.usable_source()
            .is_some_and(|source| if has_candidate { source.is_candidate } else { source.is_registered })
    }

    /// Whether a pass was asked for by annotation and not handled yet.
    pub fn is_requested(&self) -> bool {
        let requested = self.object.reconcile_requested_at();
        requested.is_some() && requested != self.status.last_handled_reconcile_at.as_deref()
    }

    /// Whether the object carries our finalizer.
    pub fn has_finalizer(&self) -> bool {
        let finalizers = self.object.metadata.finalizers.as_deref().unwrap_or_default();
        finalizers.iter().any(|finalizer| finalizer == crate::resources::FINALIZER)
    }

    /// The registration, where it holds the secret of the source.
    pub fn current_registration(&self) -> Option<&Registration> {
        let registration = self.status.registration.as_ref()?;
        self.usable_source()?.is_registered.then_some(registration)
    }
}

#[cfg(test)]
pub(crate) mod testing;
