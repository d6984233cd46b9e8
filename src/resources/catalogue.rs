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

/// The entry of a reason.
pub fn entry(reason: Reason) -> Entry {
    ENTRIES[reason as usize]
}

/// By the place of the reason in [`Reason::ALL`]. A reason without an entry, or with two, does not compile.
const ENTRIES: [Entry; Reason::ALL.len()] = {
    let mut entries = [account(ConditionStatus::Unknown, "", Actor::Nobody, ""); Reason::ALL.len()];
    let mut at = 0;
    while at < entries.len() {
        let reason = Reason::ALL[at];
        let found =
            (source::entry(reason), verified::entry(reason), registered::entry(reason), other::entry(reason));
        entries[at] = match found {
            (Some(entry), None, None, None)
            | (None, Some(entry), None, None)
            | (None, None, Some(entry), None)
            | (None, None, None, Some(entry)) => entry,
            _ => panic!("each reason has exactly one entry, in one of the four files of the catalogue"),
        };
        at += 1;
    }
    entries
};

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
