//! The plan after a create of unknown outcome: find what it made by the idempotency token in the name.

use crate::api::conditions::Reason;
use crate::api::{CONFIRM_DELETED, PendingCreate};
use crate::core::model::{MaxAge, Observed, Target};
use crate::core::plan::conclusion::{account_unreachable, blocked};
use crate::core::plan::{Plan, Step};
use crate::core::remote::{Entry, name_with_token, token_suffix};

/// What a create of unknown outcome made, according to a listing from after its settle period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RecoveryMatch {
    One(i64),
    Nothing,
    /// One of these, but it is unknown which.
    Several(Vec<i64>),
}

/// The next step; `None` if no create is pending, or if it made nothing and can be repeated with the same token.
pub(super) fn plan_recovery(observed: &Observed) -> Option<Plan> {
    let pending = observed.status.pending_create.as_ref()?;
    if observed.is_pending_create_confirmed_deleted() {
        return Some(Plan::Step(Step::ClearPendingCreate));
    }
    let found = match find_created(observed, pending) {
        Ok(found) => found,
        Err(plan) => return Some(plan),
    };
    match found {
        RecoveryMatch::One(id) => Some(Plan::Step(Step::RecoverCreated(id))),
        RecoveryMatch::Several(ids) => Some(ambiguous(&ids, pending)),
        // The spec now names another account: nothing is left to do at this one.
        RecoveryMatch::Nothing if observed.object.account_name().as_ref() != Some(&pending.account) => {
            Some(Plan::Step(Step::ClearPendingCreate))
        }
        RecoveryMatch::Nothing => None,
    }
}

/// What the create made, or the step that must come first.
pub(super) fn find_created(observed: &Observed, pending: &PendingCreate) -> Result<RecoveryMatch, Plan> {
    if !matches!(&observed.target, Target::Ready(ready) if ready.location == pending.location()) {
        let hint = format!(
            ", because a create is pending there; if it made nothing, set the annotation {CONFIRM_DELETED} to {}",
            pending.idempotency_token
        );
        return Err(account_unreachable(&observed.target, &hint));
    }
    match &observed.results.listed {
        Some(listed) if listed.max_age == MaxAge::Live => {
            Ok(match_entries(&listed.entries, pending, &observed.object.remote_name()))
        }
        Some(_) | None => Err(Plan::Step(Step::List(MaxAge::Live))),
    }
}

/// An entry with the token matches; of several the lowest ID, because the others are late duplicates. If the listing
/// shows no name, or one truncated within the token, a single new entry matches. A new entry whose app could not be read
/// may be the one, but never counts as such.
pub(super) fn match_entries(entries: &[Entry], pending: &PendingCreate, plain_name: &str) -> RecoveryMatch {
    let is_ours = |entry: &&Entry| !entry.is_opaque() && entry.has_token(&pending.idempotency_token);
    if let Some(id) = entries.iter().filter(|entry| is_ours(entry)).map(|it| it.id).min() {
        return RecoveryMatch::One(id);
    }
    let sent = name_with_token(plain_name, &pending.idempotency_token);
    let before_token = sent.len() - token_suffix(&pending.idempotency_token).len();
    let is_cut_off = |name: &str| name.is_empty() || (name.len() > before_token && sent.starts_with(name));
    let could_be: Vec<i64> = entries
        .iter()
        .filter(|entry| !pending.existing_ids.contains(&entry.id))
        .filter(|entry| entry.is_opaque() || is_cut_off(&entry.name))
        .map(|entry| entry.id)
        .collect();
    match could_be.as_slice() {
        [] => RecoveryMatch::Nothing,
        [id] if !entries.iter().any(|entry| entry.id == *id && entry.is_opaque()) => RecoveryMatch::One(*id),
        _ => RecoveryMatch::Several(could_be),
    }
}

pub(super) fn ambiguous(ids: &[i64], pending: &PendingCreate) -> Plan {
    let message = format!(
        "one of the credentials {} at WoodpeckerAccount {} was created for this object, but it is unknown which: delete all but one of them at Woodpecker, then set the annotation graph-credentials.io/reconcile-requested-at to a new value",
        super::registration::join_ids(ids),
        pending.account
    );
    blocked(Reason::AmbiguousMatch, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::fixtures;

    fn pending(ids: &[i64]) -> Box<PendingCreate> {
        fixtures::pending("t0ken", ids)
    }

    fn entry(id: i64, name: &str) -> Entry {
        Entry { id, tenant: "t".into(), client: "c".into(), name: name.into(), expires_at: None }
    }

    #[test]
    fn an_entry_with_the_token_matches_and_the_lowest_of_several() {
        let found = |entries: &[Entry]| match_entries(entries, &pending(&[1]), "mail/sales-eu");
        assert_eq!(
            found(&[entry(9, "mail/sales-eu [t0ken]"), entry(3, "mail/sales-eu [t0ken]")]),
            RecoveryMatch::One(3)
        );
        assert_eq!(found(&[entry(9, "renamed since [t0ken]"), entry(4, "another")]), RecoveryMatch::One(9));
        let other_app = Entry { tenant: "u".into(), client: "d".into(), ..entry(9, "renamed since [t0ken]") };
        assert_eq!(found(&[other_app]), RecoveryMatch::One(9), "the token alone is enough");
        assert_eq!(found(&[entry(4, "another"), entry(5, "mail/sales-eu [other]")]), RecoveryMatch::Nothing);
        assert_eq!(found(&[]), RecoveryMatch::Nothing);
    }

    #[test]
    fn a_single_new_entry_matches_if_names_are_truncated() {
        let found = |entries: &[Entry]| match_entries(entries, &pending(&[1]), "mail/sales-eu");
        assert_eq!(found(&[entry(1, ""), entry(2, "")]), RecoveryMatch::One(2));
        assert_eq!(found(&[entry(1, ""), entry(2, "mail/sales-eu [t0")]), RecoveryMatch::One(2));
        assert_eq!(found(&[entry(1, "")]), RecoveryMatch::Nothing);
        assert_eq!(found(&[entry(2, ""), entry(3, "")]), RecoveryMatch::Several(vec![2, 3]));
        for unrelated in ["another", "mail/sales-eu", "mail"] {
            assert_eq!(found(&[entry(2, unrelated)]), RecoveryMatch::Nothing, "{unrelated}");
        }
    }

    #[test]
    fn a_new_entry_whose_app_cannot_be_read_may_be_the_created_one() {
        let found = |entries: &[Entry]| match_entries(entries, &pending(&[1]), "mail/sales-eu");
        let opaque = |id| Entry { tenant: String::new(), ..entry(id, "") };
        assert_eq!(found(&[opaque(1)]), RecoveryMatch::Nothing, "it existed before");
        assert_eq!(found(&[opaque(2)]), RecoveryMatch::Several(vec![2]));
        assert_eq!(found(&[opaque(2), entry(3, "x [t0ken]")]), RecoveryMatch::One(3));
    }

    #[test]
    fn a_truncated_name_matches_too() {
        let plain = format!("mail/{}", "x".repeat(248));
        let sent = name_with_token(&plain, "t0ken");
        let found = |name: &str| match_entries(&[entry(2, name)], &pending(&[1]), &plain);
        assert_eq!(found(&sent), RecoveryMatch::One(2));
        assert_eq!(
            found(&sent[..sent.len() - 3]),
            RecoveryMatch::One(2),
            "the listing shows a part of the token"
        );
        assert_eq!(found(&plain), RecoveryMatch::Nothing, "unrelated, or renamed since");
    }
}
