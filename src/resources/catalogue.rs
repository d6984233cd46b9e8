//! Every reason of every condition: what it means, who must act, and how. `docs/conditions.md` and
//! `explain` are made from it.

use std::fmt;

use super::conditions::{ConditionStatus, ConditionType};

/// Which kind of object a reason is found on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `MicrosoftGraphCredential`.
    Credential,
    /// `WoodpeckerAccount`.
    Account,
}

/// Who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Nobody: all is well, or the operator goes on by itself.
    Nobody,
    /// Whoever wrote the object and its Secret.
    User,
    /// An administrator of the Entra tenant.
    TenantAdmin,
    /// Whoever installed the operator.
    OperatorAdmin,
    /// Whoever runs mailboxes in Woodpecker.
    Woodpecker,
    /// Woodpecker's support.
    WoodpeckerSupport,
    /// Microsoft's support.
    MicrosoftSupport,
    /// The operator's developers: it is a defect.
    Developers,
}

/// What there is to know of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is found.
    pub kind: Kind,
    /// The condition that it stands in; for an account always Ready.
    pub condition: ConditionType,
    /// The status that it comes with.
    pub status: ConditionStatus,
    /// What is so.
    pub meaning: &'static str,
    /// Who must act.
    pub actor: Actor,
    /// What to do.
    pub cure: &'static str,
}

const NOTHING: &str = "Nothing to do.";
const BY_ITSELF: &str = "Nothing to do: the operator tries again by itself.";
const RENEW: &str = "Make a new secret in Entra and put it with its expiry into the Secret.";

macro_rules! reasons {
    ($($kind:ident $condition:ident {
        $($name:ident: $status:ident, $actor:ident, $meaning:literal, $cure:expr;)*
    })*) => {
        /// Why a condition has its status: a stable word for alerts and scripts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $meaning] $name,)*)* }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Reason] = &[$($(Reason::$name,)*)*];

            /// The word as it stands in the condition, an event and a metric label.
            pub fn as_str(self) -> &'static str {
                match self { $($(Reason::$name => stringify!($name),)*)* }
            }
        }

        /// The entry of a reason.
        pub fn entry(reason: Reason) -> Entry {
            match reason {
                $($(Reason::$name => Entry {
                    kind: Kind::$kind,
                    condition: ConditionType::$condition,
                    status: ConditionStatus::$status,
                    meaning: $meaning,
                    actor: Actor::$actor,
                    cure: $cure,
                },)*)*
            }
        }
    };
}

// By kind and condition: the reason, the status that it comes with, who must act, what is so, and what to do.
reasons! {
    Credential SourceReady {
        SecretRead: True, Nobody, "The Secret holds a client secret and its expiry.", NOTHING;
        SecretNotFound: False, User,
            "There is no Secret of that name in the namespace.",
            "Create the Secret or mend `spec.secretRef.name`.";
        KeyMissing: False, User,
            "The Secret lacks the key of the client secret.",
            "Add the key, or name the right one in `spec.secretRef.clientSecretKey`.";
        EmptyValue: False, User, "The client secret is empty.", "Put the secret's Value into the Secret.";
        SurroundingWhitespace: False, User,
            "White space, a line break or bytes that are no text stand around or inside the client secret, with which Microsoft refuses it.",
            "Write the value without (`echo -n`, or `stringData`).";
        ExpiryMissing: False, User,
            "Nothing says when the secret expires.",
            "Add the key `secret_expires_at` to the Secret, or set `spec.secretExpiresAt`.";
        ExpiryInvalid: False, User,
            "The expiry in the Secret is no date.",
            "Write it like `2027-11-28T23:59:59Z` or `2027-11-28`.";
        ExpiryInPast: False, User,
            "A new secret has expired already; nothing was sent.",
            "Put in a valid secret, or correct its expiry.";
        AccessDenied: False, OperatorAdmin,
            "The operator may not read the Secret.",
            "Grant the operator's ServiceAccount `get` on Secrets in the namespace.";
    }
    Credential Verified {
        TokenIssued: True, Nobody, "Microsoft issues tokens for the secret.", NOTHING;
        NotRequired: True, Nobody, "Verification is disabled, and the operator allows that.", NOTHING;
        ProofSkipped: True, Nobody,
            "The proof could not be had, and policy `BestEffort` goes on without.",
            "Nothing to do; the proof is tried again at the next look.";
        InvalidClientSecret: False, User,
            "Microsoft refuses the client secret; what is registered stays.",
            "Put the current secret's Value (not its ID) into the Secret, or make a new one under Certificates & secrets.";
        SecretExpired: False, User,
            "Microsoft says that the client secret has expired.",
            "Make a new secret in Entra and put it with its expiry into the Secret.";
        ApplicationNotFound: False, User,
            "There is no such app in the tenant.",
            "Check `clientId` and `tenantId`, and that an admin of the tenant has consented to the app.";
        TenantNotFound: False, User,
            "There is no such tenant in this cloud.",
            "Check `tenantId` and `cloud`.";
        ServicePrincipalMissing: False, TenantAdmin,
            "The app has no service principal in the tenant.",
            "Consent to the app, or create an enterprise application for it.";
        ApplicationDisabled: False, TenantAdmin,
            "The app is disabled in the tenant.",
            "Enable sign-in under Enterprise applications > Properties.";
        PublicClient: False, User,
            "The app is a public client and must not use a secret.",
            "Register a web app, or turn off \"Allow public client flows\".";
        ConditionalAccessBlocked: False, TenantAdmin,
            "A Conditional Access policy for workload identities blocks the operator's address.",
            "Let the address in, or use `verification.policy: BestEffort`.";
        WrongCloud: False, User,
            "The tenant lives in another Microsoft cloud.",
            "Set `spec.cloud` in a new object.";
        RequiredRolesMissing: False, TenantAdmin,
            "The token lacks application permissions that the object requires, or its roles cannot be read.",
            "Grant them with admin consent, or take them out of `verification.requiredRoles`.";
        Rejected: False, User,
            "Microsoft refuses the request for another reason.",
            "Look the AADSTS code of the message up with `explain`, or at Microsoft.";
        NotAttempted: Unknown, Nobody, "No proof was attempted yet.", NOTHING;
        AwaitingSource: Unknown, User, "There is no usable secret to verify.", "See `SourceReady`.";
        AwaitingPropagation: Unknown, Nobody,
            "A new secret is refused, which is normal for some minutes after it was made.",
            BY_ITSELF;
        Throttled: Unknown, Nobody, "Microsoft asked to slow down.", BY_ITSELF;
        MicrosoftUnavailable: Unknown, Nobody,
            "Microsoft's token endpoint could not be reached or had a failure.",
            "The operator tries again by itself. If it lasts, check the operator's way out to the internet.";
    }
    Credential Registered {
        Registered: True, Nobody, "Woodpecker holds the credential that this object created.", NOTHING;
        Adopted: True, Nobody,
            "Woodpecker holds a credential that existed before and was taken over.",
            NOTHING;
        Stored: True, Nobody, "The credential is sealed in the cluster.", NOTHING;
        DestinationNotSupported: False, User,
            "The status names a registration at the other kind of destination, and nothing moves between Woodpecker and the store.",
            "Make a new object for the other destination.";
        AccountNotFound: False, User,
            "There is no such WoodpeckerAccount.",
            "Create it, or mend `destination.woodpecker.accountRef`.";
        AccountNotReady: False, User,
            "The WoodpeckerAccount cannot be used.",
            "See the conditions of the WoodpeckerAccount.";
        AccountNotAllowed: False, User,
            "The WoodpeckerAccount does not let this namespace in.",
            "Name the namespace in the account's `allowedNamespaces.names`, or use an account of this namespace.";
        RejectedByWoodpecker: False, User,
            "Woodpecker refused to create the credential.",
            "Check the fields that the message names, or ask Woodpecker's support.";
        UpdateRejected: False, User,
            "Woodpecker refused to change the credential, or does not know it any more; what it holds stays.",
            "Do what the message says, or ask Woodpecker's support.";
        NothingToAdopt: False, User,
            "The account holds no credential to take over: none for the app, with `AdoptOnly`, or not the one that `adoption.credentialId` names.",
            "Use `adoption.policy: AdoptOrCreate`, or mend `adoption.credentialId`.";
        AlreadyExists: False, User,
            "The account holds a credential for the app already, and `CreateOnly` forbids to take it over; or in the store the object's record is for another tenant, client or cloud.",
            "Remove it at Woodpecker, or use `adoption.policy: AdoptOrCreate`; in the store delete the record, or give the object another name.";
        DuplicateClaim: False, User,
            "Another object registers the same app at the same Woodpecker account.",
            "Delete one of the two objects.";
        AmbiguousRemote: False, User,
            "Several credentials at Woodpecker could be the one.",
            "Name the right one in `adoption.credentialId`.";
        KeyringMissing: False, OperatorAdmin,
            "The operator's keyring is gone, damaged or may not be read, and nothing is sealed without it.",
            "Bring the keyring back from a backup (`graph-credential-operator keys import`), or mend the operator's rights to it.";
        StoreRefused: False, OperatorAdmin,
            "The API server refuses what the operator asks for the object's `SealedGraphCredential`, or what was written there does not stay.",
            "Grant the operator get, list, watch, create, update, patch and delete on `sealedgraphcredentials` in the namespace; look for a quota, an admission policy or another controller in the way.";
        InUse: False, Woodpecker,
            "Woodpecker refuses to delete the credential, mostly because a mailbox uses it.",
            "Disconnect its mailboxes, or set `deletionPolicy: Retain` to let the object go.";
        AwaitingVerification: Unknown, User,
            "Nothing is registered before the secret is proved.",
            "See `Verified`.";
        Queued: Unknown, Nobody, "Other requests to the account are ahead.", BY_ITSELF;
        OutcomeUnknown: Unknown, Nobody,
            "It is not known yet whether a create or a change took place; the operator goes on after two minutes.",
            BY_ITSELF;
        RateLimited: Unknown, Nobody, "Woodpecker asked to slow down.", BY_ITSELF;
        WoodpeckerUnavailable: Unknown, Nobody,
            "Woodpecker could not be reached or had a failure.",
            BY_ITSELF;
        Deleting: Unknown, Nobody, "The credential is being removed.", NOTHING;
    }
    Credential Expiring {
        ExpiresSoon: True, User, "The secret expires within the warning time.", RENEW;
        Expired: True, User,
            "The secret's date has passed; Ready is False.",
            "Make a new secret in Entra, or correct the date if Microsoft still accepts the secret.";
        NotExpiring: False, Nobody, "The secret does not expire within the warning time.", NOTHING;
    }
    Credential Ready {
        Ready: True, Nobody, "The secret is proved, registered and not expired.", NOTHING;
        InvalidObject: False, User,
            "The object cannot be read as its kind demands; it is left as it is, its registration too.",
            "Mend the field that the message names.";
    }
    Account Ready {
        Authenticated: True, Nobody, "Woodpecker accepts the API key.", NOTHING;
        InvalidApiKey: False, User,
            "Woodpecker refuses the API key.",
            "Make a key under Marketplace > Integrations > API keys and put it into the Secret.";
        ApiKeyMissing: False, User,
            "The Secret of the API key, or its key, is missing or empty.",
            "Create it, or mend `apiKeySecretRef`.";
        ApiKeyWhitespace: False, User,
            "White space, a line break or characters that no API key has stand around or inside the key.",
            "Write the value without (`echo -n`, or `stringData`).";
        BaseUrlNotAllowed: False, OperatorAdmin,
            "The operator does not send API keys to that address.",
            "Add the address with `--woodpecker-base-url`.";
        Unreachable: False, Nobody,
            "Woodpecker could not be asked, or its answer could not be understood.",
            "The operator tries again by itself. If it lasts, do what the message says.";
        ListingIncomplete: False, WoodpeckerSupport,
            "A listing lacks what a request shows to exist; nothing is created on its word.",
            "Ask Woodpecker's support if it lasts.";
        CompanyIgnored: False, User,
            "Woodpecker ignores the company id: two companies show the same credentials.",
            "Use an API key of each company's own.";
        RemoteDiverged: False, User,
            "The account does not hold what it held: another key, or many credentials gone at once.",
            "Check that the API key belongs to the same account.";
    }
}

// === impl Reason ===

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Actor ===

impl Actor {
    /// Who that is, in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::User => "you",
            Self::TenantAdmin => "an admin of the tenant",
            Self::OperatorAdmin => "the operator's administrator",
            Self::Woodpecker => "you, in Woodpecker",
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
    fn every_reason_has_an_entry_of_its_own() {
        let entries: Vec<(Reason, Entry)> =
            Reason::ALL.iter().map(|reason| (*reason, entry(*reason))).collect();
        for (reason, one) in &entries {
            let twin = entries.iter().find(|(other, entry)| other != reason && entry == one);
            assert!(twin.is_none(), "{reason} shares its entry with {twin:?}");
            assert!(one.meaning.ends_with('.') && one.cure.ends_with('.'), "{reason}");
        }
    }

    #[test]
    fn bad_news_names_somebody_or_says_that_nobody_is_needed() {
        for reason in Reason::ALL {
            let entry = entry(*reason);
            let is_bad = entry.status == ConditionStatus::False && entry.condition != ConditionType::Expiring;
            assert!(!is_bad || entry.cure != NOTHING, "{reason}");
        }
    }
}
