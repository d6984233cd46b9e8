//! The reason table of all conditions: what each reason means, who must act, and how. `docs/reference/conditions.md`
//! and `explain` are generated from this table.

use std::fmt;

use crate::api::conditions::{ConditionStatus, ConditionType};

/// Kind of object that a reason is found on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `MicrosoftGraphCredential`.
    Credential,
    /// `WoodpeckerAccount`.
    Account,
    /// `EntraIdentity`.
    Identity,
    /// `WoodpeckerMailboxes`.
    Mailboxes,
}

/// Who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Nobody: all is well, or the operator continues automatically.
    Nobody,
    /// The author of the object and its Secret.
    User,
    /// An administrator of the Entra tenant.
    TenantAdmin,
    /// The administrator who installed the operator.
    OperatorAdmin,
    /// The person who manages mailboxes in Woodpecker.
    MailboxManager,
    /// Woodpecker's support.
    WoodpeckerSupport,
    /// Microsoft's support.
    MicrosoftSupport,
    /// The operator's developers, because it is a bug.
    Developers,
}

/// What a reason means where it is found. A reason that several conditions share has an entry for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The reason.
    pub reason: Reason,
    /// The kind whose condition it is.
    pub kind: Kind,
    /// The condition.
    pub condition: ConditionType,
    /// The status that it comes with.
    pub status: ConditionStatus,
    /// What is true.
    pub description: &'static str,
    /// Who must act.
    pub actor: Actor,
    /// What to do.
    pub action: &'static str,
}

macro_rules! reasons {
    ($($name:ident)*) => {
        /// Why a condition has its status: a stable word for alerts and scripts. [`entries`] describes each.
        #[allow(missing_docs, reason = "ENTRIES describes each reason")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($name,)* }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The word used in conditions, events and metric labels.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)* }
            }
        }
    };
}

reasons! {
    SecretRead SecretNotFound KeyMissing EmptyValue InvalidCharacters ValueTooLong ExpiryMissing ExpiryInvalid ExpiryInPast
    AccessDenied
    TokenIssued VerificationDisabled VerificationSkipped InvalidClientSecret SecretExpired ApplicationNotFound
    TenantNotFound TenantBlocked TenantRestricted ServicePrincipalMissing ApplicationDisabled PublicClient
    ConditionalAccessBlocked WrongCloud RequiredRolesMissing VerificationRejected VerificationPending AwaitingSecret AwaitingPropagation
    RejectionUnconfirmed RateLimited MicrosoftUnavailable
    Registered Adopted Stored DestinationChanged AccountNotFound AccountNotReady AccountNotAllowed CreateRejected
    UpdateRejected NoMatchToAdopt AlreadyExists AlreadyManaged AmbiguousMatch KeyringUnavailable StorageForbidden
    StorageError InUse AwaitingVerification Queued OutcomeUnknown WoodpeckerUnavailable
    ExpiresSoon Expired NotExpiring
    ExpiryMatches ExpiryFollowed ExpiresEarlier ExpiresLater EntryMissing NoMatchingSecret AppInOtherTenant GrantMissing
    IdentityNotReady ReadForbidden ReadingPending AwaitingExpiry
    RotationScheduled CreationPending SecretCreated LifetimeNotAllowed SecretsNotAllowed TooManySecrets WriteForbidden
    WriteRejected RenewalOverdue SecretsNotRecorded
    Ready InvalidObject
    TokenFileUnusable CertificateInvalid IssuerUnreachable IssuerNotTrusted AudienceNotTrusted SubjectNotTrusted
    FederationNotTrusted AssertionRejected CertificateNotTrusted ConsentMissing PermissionMissing SignInRejected SignInPending
    TenantsNotReady
    Authenticated InvalidApiKey ApiNotInPlan BaseUrlNotAllowed IncompleteList FinalizerRejected NamespacesForbidden CompanyIdIgnored UnexpectedRemoteState
    MailboxesHealthy MailboxesFailing MailboxesNotListed ListingPending FailureTimeUnknown
    MailboxesConnected ConnectionPlanned ConnectionPending MailboxesRefused ConnectionRejected CredentialNotFound
    CredentialNotRegistered NotAtWoodpecker AccountNotServed ConnectionNotAllowed ConnectionStopped ConnectionNotListed
    UnexpectedAddress Suspended
}

const NOTHING: &str = "Nothing to do.";
const RETRIES: &str = "Nothing to do: the operator retries automatically.";
const PLAIN_VALUE: &str = "Write the bare value in UTF-8, with `stringData` or from a file that `printf %s` wrote: `echo` and most editors add a line break.";
const CHECK_NETWORK: &str = "The operator retries automatically. If it lasts, follow the message, and check the network from where the operator runs: `helm test graph-credential-operator --namespace OPERATOR-NAMESPACE`, or without helm `check` in its pod, with its flags for DNS, CA certificates and addresses.";
const GRANT_SECRET: &str = "Grant the operator's ServiceAccount `get` on the Secret: with the chart's `watchNamespaces` or `namedSecrets`, or with `kubectl create role read-graph-secrets --verb=get --resource=secrets --namespace NAMESPACE` and `kubectl create rolebinding read-graph-secrets --role=read-graph-secrets --serviceaccount=OPERATOR-NAMESPACE:SERVICE-ACCOUNT --namespace NAMESPACE`.";

/// The entries of one kind, by condition: the reason, the status that it comes with, who must act, what is true, and what
/// to do.
macro_rules! entries {
    ($($kind:ident $condition:ident {
        $($name:ident: $status:ident, $actor:ident, $description:literal, $action:expr;)*
    })*) => {
        use super::{Actor, Entry, Kind, Reason};
        use crate::api::conditions::{ConditionStatus, ConditionType};

        pub(super) const ENTRIES: &[Entry] = &[$($(Entry {
            reason: Reason::$name,
            kind: Kind::$kind,
            condition: ConditionType::$condition,
            status: ConditionStatus::$status,
            description: $description,
            actor: Actor::$actor,
            action: $action,
        },)*)*];
    };
}

mod account;
mod credential;
mod identity;
mod mailboxes;
mod rotation;

/// Every entry, by kind and condition.
pub const ENTRIES: &[Entry] = &joined::<
    {
        credential::ENTRIES.len()
            + rotation::ENTRIES.len()
            + account::ENTRIES.len()
            + identity::ENTRIES.len()
            + mailboxes::ENTRIES.len()
    },
>(&[
    credential::ENTRIES,
    rotation::ENTRIES,
    account::ENTRIES,
    identity::ENTRIES,
    mailboxes::ENTRIES,
]);

/// The entries of all parts, of which there are `N`.
const fn joined<const N: usize>(parts: &[&[Entry]]) -> [Entry; N] {
    let mut all = [parts[0][0]; N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let mut entry = 0;
        while entry < parts[part].len() {
            all[at] = parts[part][entry];
            (at, entry) = (at + 1, entry + 1);
        }
        part += 1;
    }
    all
}

/// The entries of a reason: one for each condition that uses it, at least one.
pub fn entries(reason: Reason) -> impl Iterator<Item = &'static Entry> {
    ENTRIES.iter().filter(move |entry| entry.reason == reason)
}

/// The first entry of a reason. For a reason that verification can return, that is the credential's.
pub fn entry(reason: Reason) -> &'static Entry {
    // A test checks that every reason has an entry, so the fallback is never used.
    entries(reason).next().unwrap_or(&ENTRIES[0])
}

// === impl Reason ===

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Kind ===

impl Kind {
    /// The kind's name in the Kubernetes API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "MicrosoftGraphCredential",
            Self::Account => "WoodpeckerAccount",
            Self::Identity => "EntraIdentity",
            Self::Mailboxes => "WoodpeckerMailboxes",
        }
    }
}

// === impl Actor ===

impl Actor {
    /// The actor in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::User => "you",
            Self::TenantAdmin => "an admin of the tenant",
            Self::OperatorAdmin => "the operator's administrator",
            Self::MailboxManager => "you, in Woodpecker",
            Self::WoodpeckerSupport => "Woodpecker's support",
            Self::MicrosoftSupport => "Microsoft's support",
            Self::Developers => "the operator's developers",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_an_entry_and_at_most_one_for_a_condition() {
        for reason in Reason::ALL {
            assert!(entries(*reason).next().is_some(), "{reason}");
        }
        for one in ENTRIES {
            let is_alike = |other: &&Entry| (other.kind, other.condition) == (one.kind, one.condition);
            assert_eq!(entries(one.reason).filter(is_alike).count(), 1, "{one:?}");
            assert!(one.description.ends_with('.') && one.action.ends_with('.'), "{one:?}");
        }
    }

    #[test]
    fn a_false_condition_says_what_to_do() {
        for entry in ENTRIES {
            let is_bad = entry.status == ConditionStatus::False && entry.condition != ConditionType::Expiring;
            assert!(!is_bad || entry.action != NOTHING, "{entry:?}");
        }
    }
}
