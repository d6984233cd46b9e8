//! After a create of unknown outcome: find out what it has made, by the mark in the name.

use super::rest::{blocked, out_of_reach};
use super::{Action, Decision};
use crate::controller::observed::{Freshness, Observed, Target};
use crate::resources::conditions::Reason;
use crate::resources::{ACKNOWLEDGE_GONE, Pending};
use crate::woodpecker::{Entry, mark, marked};

/// What a create of unknown outcome has made, by a listing taken after it must have settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    One(i64),
    Nothing,
    /// One of these, and nothing tells which.
    Several(Vec<i64>),
}

/// The next step for an object that is not deleted; nothing where no create is under way, or where it has
/// made nothing and the usual road may go on, with the same mark.
pub(super) fn decide(observed: &Observed) -> Option<Decision> {
    let pending = observed.status.pending.as_ref()?;
    if observed.is_pending_acknowledged_gone() {
        return Some(Decision::Act(Action::ForgetPending));
    }
    let found = match look(observed, pending) {
        Ok(found) => found,
        Err(decision) => return Some(decision),
    };
    match found {
        Found::One(id) => Some(Decision::Act(Action::Recover(id))),
        Found::Several(ids) => Some(ambiguous(&ids, pending)),
        // The spec has turned to another account meanwhile: there is nothing to go on with at this one.
        Found::Nothing if observed.object.account_name().as_ref() != Some(&pending.account) => {
            Some(Decision::Act(Action::ForgetPending))
        }
        Found::Nothing => None,
    }
}

/// What the create has made, or the step that must come before that can be told.
pub(super) fn look(observed: &Observed, pending: &Pending) -> Result<Found, Decision> {
    if !matches!(&observed.target, Target::Ready(ready) if ready.place == pending.place()) {
        let way_out = format!(
            ", for a create was under way there; if it has made nothing, set the annotation {ACKNOWLEDGE_GONE} to {}",
            pending.token
        );
        return Err(out_of_reach(&observed.target, &way_out));
    }
    match &observed.learnt.listed {
        Some(listed) if listed.freshness == Freshness::Anew => {
            Ok(find(&listed.entries, pending, &observed.object.remote_name()))
        }
        Some(_) | None => Err(Decision::Act(Action::List(Freshness::Anew))),
    }
}

/// An entry with our mark is ours, the lowest id of several: the others are late duplicates. Where the
/// listing shows no name, or one that is cut off within the mark, exactly one new entry is.
pub(super) fn find(entries: &[Entry], pending: &Pending, plain_name: &str) -> Found {
    if let Some(id) = entries.iter().filter(|entry| entry.carries(&pending.token)).map(|it| it.id).min() {
        return Found::One(id);
    }
    let sent = marked(plain_name, &pending.token);
    let before_mark = sent.len() - mark(&pending.token).len();
    let is_cut_off = |name: &str| name.is_empty() || (name.len() > before_mark && sent.starts_with(name));
    let could_be: Vec<i64> = entries
        .iter()
        .filter(|entry| !pending.ids.contains(&entry.id) && is_cut_off(&entry.name))
        .map(|entry| entry.id)
        .collect();
    match could_be.as_slice() {
        [] => Found::Nothing,
        [id] => Found::One(*id),
        _ => Found::Several(could_be),
    }
}

pub(super) fn ambiguous(ids: &[i64], pending: &Pending) -> Decision {
    let message = format!(
        "one of the credentials {} at WoodpeckerAccount {} was made for this object and nothing tells which: remove all but one of them at Woodpecker, then set the annotation graph-credentials.io/reconcile-requested-at to a new value",
        super::register::joined(ids),
        pending.account
    );
    blocked(Reason::AmbiguousRemote, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::observed::testing;

    fn pending(ids: &[i64]) -> Box<Pending> {
        testing::pending("t0ken", ids)
    }

    fn entry(id: i64, name: &str) -> Entry {
        Entry { id, tenant: "t".into(), client: "c".into(), name: name.into(), expires_at: None }
    }

    #[test]
    fn what_carries_the_mark_is_ours_and_the_lowest_of_several_is_kept() {
        let found = |entries: &[Entry]| find(entries, &pending(&[1]), "mail/sales-eu");
        assert_eq!(
            found(&[entry(9, "mail/sales-eu [t0ken]"), entry(3, "mail/sales-eu [t0ken]")]),
            Found::One(3)
        );
        assert_eq!(found(&[entry(9, "renamed since [t0ken]"), entry(4, "a stranger's")]), Found::One(9));
        assert_eq!(found(&[entry(4, "a stranger's"), entry(5, "mail/sales-eu [other]")]), Found::Nothing);
        assert_eq!(found(&[]), Found::Nothing);
    }

    #[test]
    fn where_names_are_not_shown_whole_exactly_one_new_entry_is_ours() {
        let found = |entries: &[Entry]| find(entries, &pending(&[1]), "mail/sales-eu");
        assert_eq!(found(&[entry(1, ""), entry(2, "")]), Found::One(2));
        assert_eq!(found(&[entry(1, ""), entry(2, "mail/sales-eu [t0")]), Found::One(2));
        assert_eq!(found(&[entry(1, "")]), Found::Nothing);
        assert_eq!(found(&[entry(2, ""), entry(3, "")]), Found::Several(vec![2, 3]));
        for strangers in ["a stranger's", "mail/sales-eu", "mail"] {
            assert_eq!(found(&[entry(2, strangers)]), Found::Nothing, "{strangers}");
        }
    }

    #[test]
    fn a_name_that_was_cut_off_before_its_mark_is_known_as_well() {
        let plain = format!("mail/{}", "x".repeat(248));
        let sent = marked(&plain, "t0ken");
        let found = |name: &str| find(&[entry(2, name)], &pending(&[1]), &plain);
        assert_eq!(found(&sent), Found::One(2));
        assert_eq!(found(&sent[..sent.len() - 3]), Found::One(2), "the listing shows a part of the mark");
        assert_eq!(found(&plain), Found::Nothing, "a stranger's, or one that was renamed since");
    }
}
