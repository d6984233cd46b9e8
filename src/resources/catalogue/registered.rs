//! The reasons of `Registered`.

use super::{Actor, BY_ITSELF, Entry, NOTHING, credential};
use crate::resources::conditions::{ConditionStatus, ConditionType, Reason};

pub(super) const fn entry(reason: Reason) -> Option<Entry> {
    use Actor::{Nobody, OperatorAdmin, User, Woodpecker};
    use ConditionStatus::{False, True};
    Some(match reason {
        Reason::Registered => {
            new(True, "Woodpecker holds the credential that this object created.", Nobody, NOTHING)
        }
        Reason::Adopted => new(
            True,
            "Woodpecker holds a credential that existed before and was taken over.",
            Nobody,
            NOTHING,
        ),
        Reason::Stored => new(True, "The credential is sealed in the cluster.", Nobody, NOTHING),
        Reason::DestinationNotSupported => new(
            False,
            "The status names a registration at the other kind of destination, and nothing moves between Woodpecker and the store.",
            User,
            "Make a new object for the other destination.",
        ),
        Reason::AccountNotFound => new(
            False,
            "There is no such WoodpeckerAccount.",
            User,
            "Create it, or mend `destination.woodpecker.accountRef`.",
        ),
        Reason::AccountNotReady => new(
            False,
            "The WoodpeckerAccount cannot be used.",
            User,
            "See the conditions of the WoodpeckerAccount.",
        ),
        Reason::AccountNotAllowed => new(
            False,
            "The WoodpeckerAccount does not let this namespace in.",
            User,
            "Name the namespace in the account's `allowedNamespaces.names`, or use an account of this namespace.",
        ),
        Reason::RejectedByWoodpecker => new(
            False,
            "Woodpecker refused to create the credential.",
            User,
            "Check the fields that the message names, or ask Woodpecker's support.",
        ),
        Reason::UpdateRejected => new(
            False,
            "Woodpecker refused to change the credential, or does not know it any more; what it holds stays.",
            User,
            "Do what the message says, or ask Woodpecker's support.",
        ),
        Reason::NothingToAdopt => new(
            False,
            "The account holds no credential to take over: none for the app, with `AdoptOnly`, or not the one that `adoption.credentialId` names.",
            User,
            "Use `adoption.policy: AdoptOrCreate`, or mend `adoption.credentialId`.",
        ),
        Reason::AlreadyExists => new(
            False,
            "The account holds a credential for the app already, and `CreateOnly` forbids to take it over; or in the store the object's record is for another tenant, client or cloud.",
            User,
            "Remove it at Woodpecker, or use `adoption.policy: AdoptOrCreate`; in the store delete the record, or give the object another name.",
        ),
        Reason::DuplicateClaim => new(
            False,
            "Another object registers the same app at the same Woodpecker account.",
            User,
            "Delete one of the two objects.",
        ),
        Reason::AmbiguousRemote => new(
            False,
            "Several credentials at Woodpecker could be the one.",
            User,
            "Name the right one in `adoption.credentialId`.",
        ),
        Reason::KeyringMissing => new(
            False,
            "The operator's keyring is gone, damaged or may not be read, and nothing is sealed without it.",
            OperatorAdmin,
            "Bring the keyring back from a backup (`graph-credential-operator keys import`), or mend the operator's rights to it.",
        ),
        Reason::StoreRefused => new(
            False,
            "The API server refuses what the operator asks for the object's `SealedGraphCredential`, or what was written there does not stay.",
            OperatorAdmin,
            "Grant the operator get, list, watch, create, update, patch and delete on `sealedgraphcredentials` in the namespace; look for a quota, an admission policy or another controller in the way.",
        ),
        Reason::InUse => new(
            False,
            "Woodpecker refuses to delete the credential, mostly because a mailbox uses it.",
            Woodpecker,
            "Disconnect its mailboxes, or set `deletionPolicy: Retain` to let the object go.",
        ),
        _ => return registering(reason),
    })
}

/// Those of a registration that is under way.
const fn registering(reason: Reason) -> Option<Entry> {
    use Actor::{Nobody, User};
    use ConditionStatus::Unknown;
    Some(match reason {
        Reason::AwaitingVerification => {
            new(Unknown, "Nothing is registered before the secret is proved.", User, "See `Verified`.")
        }
        Reason::Queued => new(Unknown, "Other requests to the account are ahead.", Nobody, BY_ITSELF),
        Reason::OutcomeUnknown => new(
            Unknown,
            "It is not known yet whether a create or a change took place; the operator goes on after two minutes.",
            Nobody,
            BY_ITSELF,
        ),
        Reason::RateLimited => new(Unknown, "Woodpecker asked to slow down.", Nobody, BY_ITSELF),
        Reason::WoodpeckerUnavailable => {
            new(Unknown, "Woodpecker could not be reached or had a failure.", Nobody, BY_ITSELF)
        }
        Reason::Deleting => new(Unknown, "The credential is being removed.", Nobody, NOTHING),
        _ => return None,
    })
}

const fn new(status: ConditionStatus, meaning: &'static str, actor: Actor, cure: &'static str) -> Entry {
    credential(ConditionType::Registered, status, meaning, actor, cure)
}
