//! The plan for a verified secret with destination store. Writing the record is idempotent, by name and resource
//! version, so no intent is persisted before it.

use jiff::Timestamp;

use crate::api::Registration;
use crate::api::conditions::{Reason, whole_second};
use crate::core::failure::{Failure, FailureKind, Operation};
use crate::core::model::{Content, Observed, OperatorPolicy, Record, SealedRecord};
use crate::core::plan::conclusion::{blocked_by_remote, conclude, destination_changed};
use crate::core::plan::registration::{not_verified, wants_finalizer_first};
use crate::core::plan::{Plan, ReconcileState, Requeue, Step};

pub(super) fn plan_store(observed: &Observed, policy: &OperatorPolicy, now: Timestamp) -> Plan {
    let registration = observed.status.registration.as_ref();
    if registration.is_some_and(|registration| registration.record.is_none()) {
        return destination_changed();
    }
    let needs_finalizer = registration.is_none() && wants_finalizer_first(observed, policy);
    match &observed.record {
        // Every reconcile that gets here has read it.
        None => conclude(ReconcileState::Waiting, Requeue::OnTrigger),
        Some(Record::ForOtherApp { name }) => {
            let message = format!(
                "the SealedGraphCredential with this object's name ({name}) is for another tenant, client or cloud: delete it, or rename this object"
            );
            blocked_by_remote(Reason::AlreadyExists, message, policy)
        }
        Some(Record::Missing | Record::NotRead | Record::ForApp(_)) if needs_finalizer => {
            Plan::Step(Step::AddFinalizer)
        }
        Some(Record::Missing | Record::NotRead) => Plan::Step(Step::Encrypt),
        Some(Record::ForApp(sealed)) => plan_update(observed, sealed, policy, now),
    }
}

fn plan_update(observed: &Observed, sealed: &SealedRecord, policy: &OperatorPolicy, now: Timestamp) -> Plan {
    let registration = observed.status.registration.as_ref();
    let name = observed.desired_record_name();
    let is_up_to_date = observed.usable_source().is_some_and(|source| sealed.is_up_to_date(source, &name));
    if !is_up_to_date {
        if observed.results.encrypted && sealed.is_under_primary {
            let (operation, kind) = (Operation::Update, FailureKind::NotPersisted);
            let failure = Failure { operation, kind, retry_after: None, id: None };
            return conclude(ReconcileState::Failed(failure), Requeue::Backoff(None));
        }
        // A record of an earlier object may be the last copy of a good secret, so only a verified one replaces it.
        if !sealed.is_for_object
            && sealed.content != Content::SourceSecret
            && let Some(plan) = not_verified(observed, policy, now)
        {
            return plan;
        }
        return Plan::Step(Step::Encrypt);
    }
    let is_recorded = registration.is_some_and(|registration| is_recorded(observed, registration, sealed));
    if is_recorded {
        conclude(ReconcileState::UpToDate, Requeue::WhenDue)
    } else {
        Plan::Step(Step::PersistExisting)
    }
}

/// Whether the status matches the record.
fn is_recorded(observed: &Observed, registration: &Registration, sealed: &SealedRecord) -> bool {
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
    use crate::core::diagnosis::Diagnosis;
    use crate::core::model::Source;
    use crate::core::model::fixtures::{
        deleted, issued, new_in_store, not_issued, now, policy, rejected, sealed, store,
    };
    use crate::core::plan::{Finalization, next_step};

    fn step(observed: &Observed) -> Step {
        match next_step(observed, &policy(), now()) {
            Plan::Step(step) => step,
            Plan::Done(conclusion) => panic!("{conclusion:?}"),
        }
    }

    fn readiness(observed: &Observed) -> ReconcileState {
        match next_step(observed, &policy(), now()) {
            Plan::Done(conclusion) => conclusion.state,
            Plan::Step(step) => panic!("{step:?}"),
        }
    }

    fn verified(mut observed: Observed) -> Observed {
        observed.results.verification = Some(issued());
        observed
    }

    fn with(spec: &Value, change: impl FnOnce(&mut SealedRecord)) -> Observed {
        let mut observed = sealed(spec);
        if let Some(Record::ForApp(record)) = &mut observed.record {
            change(record);
        }
        observed
    }

    #[test]
    fn a_secret_is_verified_before_it_is_encrypted() {
        let fresh = new_in_store(&store());
        assert_eq!(step(&fresh), Step::Verify);
        assert_eq!(step(&verified(fresh.clone())), Step::Encrypt);
        let mut wrong = fresh;
        wrong.results.verification = Some(rejected(Reason::InvalidClientSecret));
        assert!(matches!(readiness(&wrong), ReconcileState::NotVerified(_)));
    }

    #[test]
    fn the_finalizer_comes_before_the_record_with_policy_delete() {
        let mut spec = store();
        spec["deletionPolicy"] = json!("Delete");
        assert_eq!(step(&verified(new_in_store(&spec))), Step::AddFinalizer);
    }

    #[test]
    fn an_up_to_date_record_is_not_written() {
        assert_eq!(readiness(&sealed(&store())), ReconcileState::UpToDate);
    }

    #[test]
    fn every_external_change_of_a_record_is_reverted() {
        let changes: [fn(&mut SealedRecord); 5] = [
            |record| record.name = "another".into(),
            |record| record.expires_at = now(),
            |record| record.content = Content::Unreadable,
            |record| record.content = Content::AnotherSecret,
            |record| record.is_under_primary = false,
        ];
        for change in changes {
            assert_eq!(step(&with(&store(), change)), Step::Encrypt);
        }
        let gone = Observed { record: Some(Record::Missing), ..sealed(&store()) };
        assert_eq!(step(&gone), Step::Encrypt);
    }

    #[test]
    fn a_new_name_is_written_into_the_record() {
        let mut spec = store();
        spec["displayName"] = json!("another name");
        assert_eq!(step(&sealed(&spec)), Step::Encrypt);
    }

    #[test]
    fn a_record_that_was_written_before_a_crash_is_only_recorded() {
        let mut observed = verified(sealed(&store()));
        observed.status.registration = None;
        let Source::Usable(source) = &mut observed.source else { panic!() };
        source.is_registered = false;
        assert_eq!(step(&observed), Step::PersistExisting);
    }

    #[test]
    fn the_id_in_a_record_wins_over_the_status() {
        assert_eq!(step(&with(&store(), |record| record.credential_id += 1)), Step::PersistExisting);
    }

    #[test]
    fn a_rejected_new_secret_does_not_change_the_record() {
        let mut observed = with(&store(), |record| record.content = Content::AnotherSecret);
        let Source::Usable(source) = &mut observed.source else { panic!() };
        source.is_registered = false;
        assert_eq!(step(&observed), Step::Verify);
        observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
        assert!(matches!(readiness(&observed), ReconcileState::NotVerified(_)));
    }

    #[test]
    fn a_record_of_another_app_is_not_changed() {
        let observed = Observed {
            record: Some(Record::ForOtherApp { name: "c-1".into() }),
            ..verified(new_in_store(&store()))
        };
        let ReconcileState::Blocked(problem) = readiness(&observed) else { panic!() };
        assert_eq!(problem.reason, Reason::AlreadyExists);
        assert!(problem.message.contains("c-"), "{}", problem.message);
    }

    #[test]
    fn a_deleted_object_deletes_its_record_or_retains_it() {
        let mut spec = store();
        assert_eq!(step(&deleted(sealed(&spec), true)), Step::Finalize(Finalization::Retained));
        spec["deletionPolicy"] = json!("Delete");
        let mut going = deleted(sealed(&spec), true);
        assert_eq!(step(&going), Step::Delete);
        going.results.is_deletion_done = true;
        assert_eq!(step(&going), Step::Finalize(Finalization::Deleted));
    }

    #[test]
    fn a_deleted_object_deletes_its_own_unpersisted_record_and_no_earlier_one() {
        let mut spec = store();
        spec["deletionPolicy"] = json!("Delete");
        let mut going = deleted(sealed(&spec), true);
        going.status.registration = None;
        assert_eq!(step(&going), Step::Delete);
        let Some(Record::ForApp(record)) = &mut going.record else { panic!() };
        record.is_for_object = false;
        assert_eq!(step(&going), Step::Finalize(Finalization::NeverRegistered));
    }

    #[test]
    fn an_unread_record_is_read_before_a_deleted_object_is_finalized() {
        let mut spec = store();
        spec["deletionPolicy"] = json!("Delete");
        for is_registered in [true, false] {
            let mut going = deleted(sealed(&spec), true);
            going.record = None;
            if !is_registered {
                going.status.registration = None;
            }
            assert_eq!(step(&going), Step::Delete);
            going.object.spec.deletion_policy = Some(crate::api::DeletionPolicy::Retain);
            assert_eq!(step(&going), Step::Finalize(Finalization::Retained));
        }
        let mut going = deleted(sealed(&spec), true);
        going.record = Some(Record::ForOtherApp { name: "c-1".into() });
        assert_eq!(step(&going), Step::Finalize(Finalization::NotOwned));
    }

    #[test]
    fn only_a_verified_secret_replaces_the_record_of_an_earlier_object() {
        let mut spec = store();
        spec["verification"] = json!({"policy": "BestEffort"});
        let mut observed = with(&spec, |record| {
            (record.content, record.is_for_object) = (Content::AnotherSecret, false);
        });
        observed.status.registration = None;
        let Source::Usable(source) = &mut observed.source else { panic!() };
        source.is_registered = false;
        observed.results.verification = Some(not_issued(Diagnosis::Unavailable));
        let ReconcileState::NotVerified(problem) = readiness(&observed) else { panic!() };
        assert_eq!(problem.reason, Reason::MicrosoftUnavailable);
        assert_eq!(step(&verified(observed.clone())), Step::Encrypt);
        // The object's own record follows its policy.
        let Some(Record::ForApp(record)) = &mut observed.record else { panic!() };
        record.is_for_object = true;
        assert_eq!(step(&observed), Step::Encrypt);
    }

    #[test]
    fn a_record_that_does_not_keep_what_was_written_is_not_rewritten_at_once() {
        let mut observed = verified(with(&store(), |record| record.name = "another".into()));
        observed.results.encrypted = true;
        let ReconcileState::Failed(failure) = readiness(&observed) else { panic!() };
        assert_eq!(failure.kind, FailureKind::NotPersisted);
        let Some(Record::ForApp(record)) = &mut observed.record else { panic!() };
        record.is_under_primary = false;
        assert_eq!(step(&observed), Step::Encrypt, "another key has become primary");
    }

    #[test]
    fn a_lost_record_is_restored_without_waiting_for_the_next_attempt() {
        let mut observed = sealed(&store());
        observed.status.next_attempt_time =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now() + Duration::from_hours(24)));
        assert_eq!(readiness(&observed), ReconcileState::Waiting);
        observed.record = Some(Record::Missing);
        assert_eq!(step(&observed), Step::Encrypt);
    }
}
