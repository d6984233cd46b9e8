//! What a reconcile would do if each of its steps succeeds. Nothing is sent or written.

use jiff::Timestamp;

use crate::api::conditions::whole_second;
use crate::api::{FINALIZER, Ownership, Registration};
use crate::core::model::{
    Content, Listed, MaxAge, Observed, OperatorPolicy, PreviousRegistration, Record, SealedRecord, Source,
    Target, VerificationResult, registration,
};
use crate::core::plan::{Plan, Step, next_step};
use crate::core::remote::{Entry, name_with_token};
use crate::core::token_result::TokenResult;

/// More steps than any plan has.
const MAX_STEPS: usize = 16;

/// A token that stands for the random one of a create.
const TOKEN: &str = "............";

/// The steps of a reconcile, each in words, and its end.
#[derive(Debug)]
pub struct Preview<L> {
    pub steps: Vec<L>,
    /// `None` if what follows the last step depends on its result.
    pub end: Option<super::Conclusion>,
}

/// Previews the reconcile of `observed`, which is then as it would be. `listing` holds the entries that the account
/// has now, if they are known; `describe` is called with each step and the state before it.
pub fn preview<L>(
    observed: &mut Observed,
    listing: Option<&[Entry]>,
    policy: &OperatorPolicy,
    now: Timestamp,
    describe: impl Fn(&Step, &Observed) -> L,
) -> Preview<L> {
    let mut steps = Vec::new();
    while steps.len() < MAX_STEPS {
        match next_step(observed, policy, now) {
            Plan::Done(conclusion) => return Preview { steps, end: Some(conclusion) },
            Plan::Step(step) => {
                steps.push(describe(&step, observed));
                if !succeed(observed, &step, listing, now) {
                    break;
                }
            }
        }
    }
    Preview { steps, end: None }
}

/// Changes what was observed as the step does when it succeeds. Returns whether its result is known.
fn succeed(observed: &mut Observed, step: &Step, listing: Option<&[Entry]>, now: Timestamp) -> bool {
    match step {
        Step::AddFinalizer => finalizers(observed).push(FINALIZER.into()),
        Step::RemoveFinalizer => finalizers(observed).retain(|it| it != FINALIZER),
        Step::Verify => {
            let roles = Some(observed.object.spec.required_roles().to_vec());
            let result = TokenResult::Issued { roles };
            observed.results.verification = Some(VerificationResult { at: now, result });
        }
        Step::List(_) => {
            let Some(listing) = listing else { return false };
            let entries = listing.iter().filter(|entry| is_related(observed, entry)).cloned().collect();
            observed.results.listed = Some(Listed { entries, max_age: MaxAge::Live });
        }
        Step::Create => create(observed, now),
        Step::Adopt(id) => return adopt(observed, *id, now),
        Step::Update => {
            set_registered(observed);
            observed.status.pending_secret = None;
        }
        Step::Rename => {
            let name = observed.desired_name();
            observed.status.registration.iter_mut().for_each(|it| it.name.clone_from(&name));
        }
        Step::ClearRegistration => {
            observed.status.registration = None;
            observed.cached_entries = None;
            observed.results.existence = None;
        }
        Step::AbandonPrevious => observed.status.previous_registrations.clear(),
        Step::DeletePrevious => {
            let deleted = observed.previous_registration.take().map(|previous| previous.registration);
            observed.status.previous_registrations.retain(|it| Some(it) != deleted.as_ref());
            return observed.status.previous_registrations.is_empty();
        }
        Step::Encrypt => encrypt(observed, now),
        Step::PersistExisting => persist_record(observed, now),
        Step::Delete => observed.results.is_deletion_done = true,
        Step::ReadExpiry
        | Step::Rotation(_)
        | Step::RecoverCreated(_)
        | Step::ClearPendingCreate
        | Step::ExistenceCheck
        | Step::DeleteDuplicate(_)
        | Step::Restart
        | Step::Finalize(_) => return false,
    }
    true
}

fn finalizers(observed: &mut Observed) -> &mut Vec<String> {
    observed.object.metadata.finalizers.get_or_insert_default()
}

/// Whether a listing of the object's entries has it: also one whose app cannot be read.
fn is_related(observed: &Observed, entry: &Entry) -> bool {
    let spec = &observed.object.spec;
    entry.may_be_for(&spec.tenant_id, &spec.client_id) || observed.is_about(entry)
}

fn create(observed: &mut Observed, now: Timestamp) {
    let (Source::Usable(source), Target::Ready(target)) = (&observed.source, &observed.target) else {
        return;
    };
    let Some(expires_at) = source.expires_at else { return };
    let name = name_with_token(&observed.object.remote_name(), TOKEN);
    let created = registration::at(target.location.clone(), 0, name, expires_at, now);
    register(observed, created);
    set_registered(observed);
    observed.status.pending_secret = None;
}

fn adopt(observed: &mut Observed, id: i64, now: Timestamp) -> bool {
    let listed = observed.results.listed.as_ref();
    let entry = listed.and_then(|listed| listed.entries.iter().find(|entry| entry.id == id)).cloned();
    let (Source::Usable(source), Target::Ready(target), Some(entry)) =
        (&observed.source, &observed.target, entry)
    else {
        return false;
    };
    let Some(expires_at) = entry.expires_at.or(source.expires_at) else { return false };
    let adopted = registration::at(target.location.clone(), id, entry.name, expires_at, now);
    register(observed, Registration { ownership: Ownership::Adopted, ..adopted });
    if let Source::Usable(source) = &mut observed.source {
        source.is_registered = false;
    }
    true
}

fn register(observed: &mut Observed, registration: Registration) {
    let target = observed.target.clone();
    observed.status = registration::record(observed, registration).status;
    observed.cached_entries = None;
    let previous = observed.status.previous_registrations.first().cloned();
    observed.previous_registration =
        previous.map(|registration| PreviousRegistration { registration, target, is_reachable: true });
}

fn encrypt(observed: &mut Observed, now: Timestamp) {
    let Some(expires_at) = observed.usable_source().and_then(|source| source.expires_at) else { return };
    let known = observed.sealed_record().map(|sealed| sealed.credential_id);
    observed.record = Some(Record::ForApp(SealedRecord {
        credential_id: known.or(observed.status.credential_id).unwrap_or_default(),
        name: observed.desired_record_name(),
        expires_at: whole_second(expires_at),
        content: Content::SourceSecret,
        is_under_primary: true,
        is_for_object: true,
    }));
    observed.results.encrypted = true;
    persist_record(observed, now);
}

fn persist_record(observed: &mut Observed, now: Timestamp) {
    let registration =
        observed.sealed_record().map(|sealed| registration::in_record(sealed, String::new(), None, now));
    observed.status.registration = registration;
    set_registered(observed);
}

/// The destination has the secret of the source.
fn set_registered(observed: &mut Observed) {
    if let Source::Usable(source) = &mut observed.source {
        (source.is_registered, source.is_pending) = (true, false);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::core::model::fixtures::{
        deleted, fresh, new_in_store, now, pending, policy, rotated, sealed, settled, store,
    };
    use crate::core::plan::ReconcileState;

    fn entry(id: i64) -> Entry {
        let observed = fresh(&json!({}));
        let spec = &observed.object.spec;
        Entry {
            id,
            tenant: spec.tenant_id.to_string(),
            client: spec.client_id.to_string(),
            name: "by hand".into(),
            expires_at: None,
        }
    }

    /// The steps, and whether the end is that everything is as specified; `None` for an open end.
    fn planned(mut observed: Observed, listing: Option<&[Entry]>) -> (Vec<Step>, Option<bool>) {
        let preview = preview(&mut observed, listing, &policy(), now(), |step, _| step.clone());
        (preview.steps, preview.end.map(|end| end.state == ReconcileState::UpToDate))
    }

    /// With a create whose response was lost.
    fn interrupted() -> Observed {
        let mut observed = fresh(&json!({}));
        observed.status.pending_create = Some(pending("abcdefghjkmn", &[]));
        observed
    }

    fn finalized() -> Value {
        json!({"deletionPolicy": "Delete"})
    }

    #[test]
    fn each_plan_runs_to_its_end_without_a_step_twice() {
        let list = || Step::List(MaxAge::Cached);
        let check = |observed: Observed, listing: &[Entry], expected: &[Step]| {
            assert_eq!(planned(observed, Some(listing)), (expected.to_vec(), Some(true)));
        };
        check(fresh(&json!({})), &[], &[Step::Verify, list(), Step::Create]);
        check(fresh(&finalized()), &[], &[Step::Verify, list(), Step::AddFinalizer, Step::Create]);
        check(interrupted(), &[], &[Step::List(MaxAge::Live), Step::Verify, Step::Create]);
        check(fresh(&json!({})), &[entry(7)], &[Step::Verify, list(), Step::Adopt(7), Step::Update]);
        check(settled(&json!({})), &[], &[]);
        check(rotated(&json!({})), &[], &[Step::Verify, Step::Update]);
        check(settled(&json!({"displayName": "Sales"})), &[], &[Step::Rename]);
        check(new_in_store(&store()), &[], &[Step::Verify, Step::Encrypt]);
        check(sealed(&store()), &[], &[]);
    }

    #[test]
    fn a_plan_ends_where_the_next_step_depends_on_a_response() {
        let unlisted = planned(fresh(&json!({})), None);
        assert_eq!(unlisted, (vec![Step::Verify, Step::List(MaxAge::Cached)], None));
        let missing = Observed { cached_entries: Some(vec![]), ..settled(&json!({})) };
        assert_eq!(planned(missing, Some(&[])), (vec![Step::ExistenceCheck], None));
        let (steps, end) = planned(deleted(settled(&finalized()), true), Some(&[]));
        assert!(
            matches!(steps.as_slice(), [Step::List(_), Step::Delete, Step::Finalize(_)]) && end.is_none(),
            "{steps:?}"
        );
    }
}
