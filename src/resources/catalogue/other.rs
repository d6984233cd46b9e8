//! What remains: the expiry, Ready alone, and the accounts.

use super::{Actor, Entry, NOTHING, account, credential};
use crate::resources::conditions::{ConditionStatus, ConditionType, Reason};

pub(super) const fn entry(reason: Reason) -> Option<Entry> {
    use Actor::{Nobody, OperatorAdmin, User, WoodpeckerSupport};
    use ConditionStatus::{False, True};
    const RENEW: &str = "Make a new secret in Entra and put it with its expiry into the Secret.";
    Some(match reason {
        Reason::ExpiresSoon => expiring(True, "The secret expires within the warning time.", User, RENEW),
        Reason::Expired => expiring(
            True,
            "The secret's date has passed; Ready is False.",
            User,
            "Make a new secret in Entra, or correct the date if Microsoft still accepts the secret.",
        ),
        Reason::NotExpiring => {
            expiring(False, "The secret does not expire within the warning time.", Nobody, NOTHING)
        }
        Reason::Ready => credential(
            ConditionType::Ready,
            True,
            "The secret is proved, registered and not expired.",
            Nobody,
            NOTHING,
        ),
        Reason::InvalidObject => credential(
            ConditionType::Ready,
            False,
            "The object cannot be read as its kind demands; it is left as it is, its registration too.",
            User,
            "Mend the field that the message names.",
        ),
        Reason::Authenticated => account(True, "Woodpecker accepts the API key.", Nobody, NOTHING),
        Reason::InvalidApiKey => account(
            False,
            "Woodpecker refuses the API key.",
            User,
            "Make a key under Marketplace > Integrations > API keys and put it into the Secret.",
        ),
        Reason::ApiKeyMissing => account(
            False,
            "The Secret of the API key, or its key, is missing or empty.",
            User,
            "Create it, or mend `apiKeySecretRef`.",
        ),
        Reason::ApiKeyWhitespace => account(
            False,
            "White space, a line break or characters that no API key has stand around or inside the key.",
            User,
            "Write the value without (`echo -n`, or `stringData`).",
        ),
        Reason::BaseUrlNotAllowed => account(
            False,
            "The operator does not send API keys to that address.",
            OperatorAdmin,
            "Add the address with `--woodpecker-base-url`.",
        ),
        Reason::Unreachable => account(
            False,
            "Woodpecker could not be asked, or its answer could not be understood.",
            Nobody,
            "The operator tries again by itself. If it lasts, do what the message says.",
        ),
        Reason::ListingIncomplete => account(
            False,
            "A listing lacks what a request shows to exist; nothing is created on its word.",
            WoodpeckerSupport,
            "Ask Woodpecker's support if it lasts.",
        ),
        Reason::CompanyIgnored => account(
            False,
            "Woodpecker ignores the company id: two companies show the same credentials.",
            User,
            "Use an API key of each company's own.",
        ),
        Reason::RemoteDiverged => account(
            False,
            "The account does not hold what it held: another key, or many credentials gone at once.",
            User,
            "Check that the API key belongs to the same account.",
        ),
        _ => return None,
    })
}

const fn expiring(status: ConditionStatus, meaning: &'static str, actor: Actor, cure: &'static str) -> Entry {
    credential(ConditionType::Expiring, status, meaning, actor, cure)
}
