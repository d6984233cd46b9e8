//! Every reason of every condition: what it means, who must act, and how. `docs/conditions.md` and
//! `explain` are made from it.

mod other;
mod registered;
mod source;
mod verified;

use super::conditions::{ConditionStatus, ConditionType, Reason};

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
    /// Whoever runs mailboxes in Woodpecker, or its support.
    Woodpecker,
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

/// The entry of a reason.
pub fn entry(reason: Reason) -> Entry {
    source::entry(reason)
        .or_else(|| verified::entry(reason))
        .or_else(|| registered::entry(reason))
        .unwrap_or_else(|| other::entry(reason))
}

const fn credential(
    condition: ConditionType,
    status: ConditionStatus,
    meaning: &'static str,
    actor: Actor,
    cure: &'static str,
) -> Entry {
    Entry { kind: Kind::Credential, condition, status, meaning, actor, cure }
}

const fn account(status: ConditionStatus, meaning: &'static str, actor: Actor, cure: &'static str) -> Entry {
    Entry { kind: Kind::Account, condition: ConditionType::Ready, status, meaning, actor, cure }
}

const NOTHING: &str = "Nothing to do.";
const BY_ITSELF: &str = "Nothing to do: the operator tries again by itself.";

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
