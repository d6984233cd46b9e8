//! The secret is proved: bring the record of the encrypted store in line with it. A write there is idempotent, by
//! name and resource version, so nothing has to be written down before it.

use jiff::Timestamp;

use super::register::{unproven, wants_finalizer_first};
use super::rest::{in_the_way, not_movable, rest};
use super::{Action, Decision, Retry, Standing};
use crate::controller::observed::{Content, Observed, Record, Rules, SealedRecord};
use crate::destination::{Failure, FailureKind, Operation};
use crate::resources::Registration;
use crate::resources::conditions::{Reason, whole_second};
use crate::store::record::record_name;

pub(super) fn decide(observed: &Observed, rules: &Rules, now: Timestamp) -> Decision {
    let registration = observed.status.registration.as_ref();
    if registration.is_some_and(|registration| registration.record.is_none()) {
        return not_movable();
    }
    let needs_finalizer = registration.is_none() && wants_finalizer_first(observed, rules);
    match &observed.record {
        // It is looked at in every pass that gets here.
        None => rest(Standing::Waiting, Retry::WhenCalled),
        Some(Record::Foreign) => {
            let message = format!(
                "the SealedGraphCredential that this object would have ({}) is for another tenant, client or cloud: delete it, or give this object another name",
                record_name(&observed.object)
            );
            in_the_way(Reason::AlreadyExists, message, rules)
        }
        Some(Record::Missing | Record::NotRead | Record::Ours(_)) if needs_finalizer => {
            Decision::Act(Action::AddFinalizer)
        }
        Some(Record::Missing | Record::NotRead) => Decision::Act(Action::Seal),
        Some(Record::Ours(sealed)) => keep(observed, sealed, rules, now),
    }
}

fn keep(observed: &Observed, sealed: &SealedRecord, rules: &Rules, now: Timestamp) -> Decision {
    let registration = observed.status.registration.as_ref();
    let name = observed.wanted_record_title();
    let is_in_line = observed.usable_source().is_some_and(|source| sealed.is_in_line(source, &name));
    if !is_in_line {
        if observed.learnt.sealed && sealed.is_under_primary {
            let (operation, kind) = (Operation::Update, FailureKind::NotKept);
            let failure = Failure { operation, kind, retry_after: None, id: None };
            return rest(Standing::Failed(failure), Retry::Backoff(None));
        }
        // What another object has left, perhaps the last copy of a good secret, gives way to a proved one alone.
        if !sealed.is_sealed_for_object
            && sealed.content != Content::SourceSecret
            && let Some(decision) = unproven(observed, rules, now)
        {
            return decision;
        }
        return Decision::Act(Action::Seal);
    }
    let is_noted = registration.is_some_and(|registration| is_noted(observed, registration, sealed));
    if is_noted { rest(Standing::Settled, Retry::WhenDue) } else { Decision::Act(Action::NoteRecord) }
}

/// Whether the status says of the record what is so.
fn is_noted(observed: &Observed, registration: &Registration, sealed: &SealedRecord) -> bool {
    observed.current_registration().is_some()
        && registration.credential_id == sealed.credential_id
        && registration.name == sealed.name
        && whole_second(registration.expires_at.0) == sealed.expires_at
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::controller::decide::{Parting, decide};
    use crate::controller::observed::Source;
    use crate::controller::observed::testing::{
        deleted, issued, not_issued, now, refused, rules, sealed, store, unsealed,
    };
    use crate::microsoft::Diagnosis;

    fn action(observed: &Observed) -> Action {
        match decide(observed, &rules(), now()) {
            Decision::Act(action) => action,
            Decision::Rest(rest) => panic!("{rest:?}"),
        }
    }

    fn standing(observed: &Observed) -> Standing {
        match decide(observed, &rules(), now()) {
            Decision::Rest(rest) => rest.standing,
            Decision::Act(action) => panic!("{action:?}"),
        }
    }

    fn proved(mut observed: Observed) -> Observed {
        observed.learnt.proof = Some(issued());
        observed
    }

    fn with(spec: &Value, change: impl FnOnce(&mut SealedRecord)) -> Observed {
        let mut observed = sealed(spec);
        if let Some(Record::Ours(record)) = &mut observed.record {
            change(record);
        }
        observed
    }

    #[test]
    fn a_secret_is_proved_before_it_is_sealed() {
        let fresh = unsealed(&store());
        assert_eq!(action(&fresh), Action::Prove);
        assert_eq!(action(&proved(fresh.clone())), Action::Seal);
        let mut wrong = fresh;
        wrong.learnt.proof = Some(refused(Reason::InvalidClientSecret));
        assert!(matches!(standing(&wrong), Standing::NotProven(_)));
    }

    #[test]
    fn what_is_to_be_removed_has_its_finalizer_first() {
        let mut spec = store();
        spec["deletionPolicy"] = json!("Delete");
        assert_eq!(action(&proved(unsealed(&spec))), Action::AddFinalizer);
    }

    #[test]
    fn a_record_in_line_is_left_alone() {
        assert_eq!(standing(&sealed(&store())), Standing::Settled);
    }

    #[test]
    fn whatever_was_changed_about_a_record_is_mended() {
        let changes: [fn(&mut SealedRecord); 5] = [
            |record| record.name = "another".into(),
            |record| record.expires_at = now(),
            |record| record.content = Content::Unreadable,
            |record| record.content = Content::AnotherSecret,
            |record| record.is_under_primary = false,
        ];
        for change in changes {
            assert_eq!(action(&with(&store(), change)), Action::Seal);
        }
        let gone = Observed { record: Some(Record::Missing), ..sealed(&store()) };
        assert_eq!(action(&gone), Action::Seal);
    }

    #[test]
    fn another_name_is_written_into_the_record() {
        let mut spec = store();
        spec["displayName"] = json!("another name");
        assert_eq!(action(&sealed(&spec)), Action::Seal);
    }

    #[test]
    fn a_record_that_was_written_before_the_program_ended_is_only_noted() {
        let mut observed = proved(sealed(&store()));
        observed.status.registration = None;
        let Source::Usable(source) = &mut observed.source else { panic!() };
        source.is_registered = false;
        assert_eq!(action(&observed), Action::NoteRecord);
    }

    #[test]
    fn a_record_with_another_id_is_taken_at_its_word() {
        assert_eq!(action(&with(&store(), |record| record.credential_id += 1)), Action::NoteRecord);
    }

    #[test]
    fn a_refused_new_secret_leaves_the_record_as_it_is() {
        let mut observed = with(&store(), |record| record.content = Content::AnotherSecret);
        let Source::Usable(source) = &mut observed.source else { panic!() };
        source.is_registered = false;
        assert_eq!(action(&observed), Action::Prove);
        observed.learnt.proof = Some(refused(Reason::InvalidClientSecret));
        assert!(matches!(standing(&observed), Standing::NotProven(_)));
    }

    #[test]
    fn a_record_of_another_app_is_left_alone() {
        let observed = Observed { record: Some(Record::Foreign), ..proved(unsealed(&store())) };
        let Standing::Blocked(problem) = standing(&observed) else { panic!() };
        assert_eq!(problem.reason, Reason::AlreadyExists);
        assert!(problem.message.contains("c-"), "{}", problem.message);
    }

    #[test]
    fn a_deleted_object_takes_its_record_along_or_leaves_it() {
        let mut spec = store();
        assert_eq!(action(&deleted(sealed(&spec), true)), Action::LetGo(Parting::Retained));
        spec["deletionPolicy"] = json!("Delete");
        let mut going = deleted(sealed(&spec), true);
        assert_eq!(action(&going), Action::Delete);
        going.learnt.removed = true;
        assert_eq!(action(&going), Action::LetGo(Parting::Removed));
    }

    #[test]
    fn a_deleted_object_removes_what_its_status_does_not_know_of_and_no_earlier_record() {
        let mut spec = store();
        spec["deletionPolicy"] = json!("Delete");
        let mut going = deleted(sealed(&spec), true);
        going.status.registration = None;
        assert_eq!(action(&going), Action::Delete);
        let Some(Record::Ours(record)) = &mut going.record else { panic!() };
        record.is_sealed_for_object = false;
        assert_eq!(action(&going), Action::LetGo(Parting::NeverRegistered));
    }

    #[test]
    fn an_unread_record_is_read_before_a_deleted_object_goes() {
        let mut spec = store();
        spec["deletionPolicy"] = json!("Delete");
        for is_booked in [true, false] {
            let mut going = deleted(sealed(&spec), true);
            going.record = None;
            if !is_booked {
                going.status.registration = None;
            }
            assert_eq!(action(&going), Action::Delete);
            going.object.spec.deletion_policy = Some(crate::resources::DeletionPolicy::Retain);
            assert_eq!(action(&going), Action::LetGo(Parting::Retained));
        }
        let mut going = deleted(sealed(&spec), true);
        going.record = Some(Record::Foreign);
        assert_eq!(action(&going), Action::LetGo(Parting::NotOurs));
    }

    #[test]
    fn what_an_earlier_object_left_gives_way_to_a_proved_secret_alone() {
        let mut spec = store();
        spec["verification"] = json!({"policy": "BestEffort"});
        let mut observed = with(&spec, |record| {
            (record.content, record.is_sealed_for_object) = (Content::AnotherSecret, false);
        });
        observed.status.registration = None;
        let Source::Usable(source) = &mut observed.source else { panic!() };
        source.is_registered = false;
        observed.learnt.proof = Some(not_issued(Diagnosis::Unavailable));
        let Standing::NotProven(problem) = standing(&observed) else { panic!() };
        assert_eq!(problem.reason, Reason::MicrosoftUnavailable);
        assert_eq!(action(&proved(observed.clone())), Action::Seal);
        // What this object has sealed itself may go by its policy.
        let Some(Record::Ours(record)) = &mut observed.record else { panic!() };
        record.is_sealed_for_object = true;
        assert_eq!(action(&observed), Action::Seal);
    }

    #[test]
    fn what_does_not_stay_as_it_was_written_is_not_written_again_at_once() {
        let mut observed = proved(with(&store(), |record| record.name = "another".into()));
        observed.learnt.sealed = true;
        let Standing::Failed(failure) = standing(&observed) else { panic!() };
        assert_eq!(failure.kind, FailureKind::NotKept);
        let Some(Record::Ours(record)) = &mut observed.record else { panic!() };
        record.is_under_primary = false;
        assert_eq!(action(&observed), Action::Seal, "another key has become primary meanwhile");
    }

    #[test]
    fn a_loss_is_told_even_while_another_attempt_is_far_off() {
        let mut observed = sealed(&store());
        observed.status.next_attempt_at =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now() + Duration::from_hours(24)));
        assert_eq!(standing(&observed), Standing::Waiting);
        observed.record = Some(Record::Missing);
        assert_eq!(action(&observed), Action::Seal);
    }
}
