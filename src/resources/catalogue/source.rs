//! The reasons of `SourceReady`.

use super::{Actor, Entry, NOTHING, credential};
use crate::resources::conditions::{ConditionStatus, ConditionType, Reason};

pub(super) const fn entry(reason: Reason) -> Option<Entry> {
    use Actor::{Nobody, OperatorAdmin, User};
    use ConditionStatus::{False, True};
    Some(match reason {
        Reason::SecretRead => new(True, "The Secret holds a client secret and its expiry.", Nobody, NOTHING),
        Reason::SecretNotFound => new(
            False,
            "There is no Secret of that name in the namespace.",
            User,
            "Create the Secret or mend `spec.secretRef.name`.",
        ),
        Reason::KeyMissing => new(
            False,
            "The Secret lacks the key of the client secret.",
            User,
            "Add the key, or name the right one in `spec.secretRef.clientSecretKey`.",
        ),
        Reason::EmptyValue => {
            new(False, "The client secret is empty.", User, "Put the secret's Value into the Secret.")
        }
        Reason::SurroundingWhitespace => new(
            False,
            "White space, a line break or bytes that are no text stand around or inside the client secret, with which Microsoft refuses it.",
            User,
            "Write the value without (`echo -n`, or `stringData`).",
        ),
        Reason::ExpiryMissing => new(
            False,
            "Nothing says when the secret expires.",
            User,
            "Add the key `secret_expires_at` to the Secret, or set `spec.secretExpiresAt`.",
        ),
        Reason::ExpiryInvalid => new(
            False,
            "The expiry in the Secret is no date.",
            User,
            "Write it like `2027-11-28T23:59:59Z` or `2027-11-28`.",
        ),
        Reason::ExpiryInPast => new(
            False,
            "A new secret has expired already; nothing was sent.",
            User,
            "Put in a valid secret, or correct its expiry.",
        ),
        Reason::AccessDenied => new(
            False,
            "The operator may not read the Secret.",
            OperatorAdmin,
            "Grant the operator's ServiceAccount `get` on Secrets in the namespace.",
        ),
        _ => return None,
    })
}

const fn new(status: ConditionStatus, meaning: &'static str, actor: Actor, cure: &'static str) -> Entry {
    credential(ConditionType::SourceReady, status, meaning, actor, cure)
}
