//! The policy of a pass, as tables and sentences.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::controller::observed::testing::{
    account, deleted, fresh, issued, not_issued, now, pending, refused, registration, rotated, rules, seen,
    settled,
};
use crate::controller::observed::{Claim, Learnt, Listed, Probe, Proof, ReadyTarget, Retiring};
use crate::destination::{Ahead, FailureKind, Operation};
use crate::microsoft::{Diagnosis, Verdict};
use crate::resources::conditions::{ConditionType, Reason};
use crate::resources::{AccountName, Ownership, Registration};
use crate::woodpecker::Entry;

fn plain() -> Value {
    json!({})
}

fn next(observed: &Observed) -> Decision {
    decide(observed, &rules(), now())
}

fn acts(observed: &Observed) -> Action {
    match next(observed) {
        Decision::Act(action) => action,
        Decision::Rest(rest) => panic!("rests: {rest:?}"),
    }
}

fn rests(observed: &Observed) -> Rest {
    match next(observed) {
        Decision::Rest(rest) => rest,
        Decision::Act(action) => panic!("acts: {action:?}"),
    }
}

/// The reason in the condition that the decision blames.
fn reason(observed: &Observed) -> Reason {
    match rests(observed).standing {
        Standing::Blocked(problem) | Standing::NotProven(problem) => problem.reason,
        standing => panic!("{standing:?}"),
    }
}

fn proved(mut observed: Observed) -> Observed {
    observed.learnt.proof = Some(issued());
    observed
}

fn entry(id: i64, name: &str) -> Entry {
    Entry { id, tenant: String::new(), client: String::new(), name: name.into(), expires_at: None }
}

fn listed_as(mut observed: Observed, entries: Vec<Entry>, freshness: Freshness) -> Observed {
    observed.learnt.listed = Some(Listed { entries, freshness });
    observed
}

fn listed(observed: Observed, ids: &[i64]) -> Observed {
    listed_as(observed, ids.iter().map(|id| entry(*id, "")).collect(), Freshness::Fresh)
}

fn adoption(adoption: &Value) -> Value {
    json!({"destination": {"woodpecker": {"accountRef": {"name": "agency"}, "adoption": adoption}}})
}

fn failing(mut observed: Observed, operation: Operation, kind: FailureKind) -> Observed {
    observed.learnt.failure = Some(Failure { operation, kind, retry_after: None, id: None });
    observed
}

#[test]
fn the_road_of_a_new_object_proves_before_it_touches_anything() {
    let observed = fresh(&plain());
    assert_eq!(acts(&observed), Action::Prove);
    let observed = proved(observed);
    assert_eq!(acts(&observed), Action::List(Freshness::Any));
    let mut observed = listed(observed, &[]);
    assert_eq!(acts(&observed), Action::Create);
    // An old listing is no ground to create on.
    observed.learnt.listed = Some(Listed { entries: vec![], freshness: Freshness::Any });
    assert_eq!(acts(&observed), Action::List(Freshness::Fresh));
}

#[test]
fn what_is_in_the_way_at_the_account_is_looked_for_in_its_own_listings() {
    let observed = proved(fresh(&adoption(&json!({"policy": "CreateOnly"}))));
    let observed = listed_as(observed, vec![entry(7, "")], Freshness::Any);
    assert_eq!(rests(&observed).retry, Retry::Look(rules().timing.listing_interval));
}

#[test]
fn with_policy_delete_the_finalizer_comes_before_the_create() {
    let mut observed = listed(proved(fresh(&json!({"deletionPolicy": "Delete"}))), &[]);
    assert_eq!(acts(&observed), Action::AddFinalizer);
    observed.object.metadata.finalizers = Some(vec![crate::resources::FINALIZER.into()]);
    assert_eq!(acts(&observed), Action::Create);
}

#[test]
fn what_the_account_holds_already_is_taken_over_by_policy_and_never_created_again() {
    let with = |policy: Value, ids: &[i64]| listed(proved(fresh(&adoption(&policy))), ids);
    assert_eq!(acts(&listed(proved(fresh(&plain())), &[7])), Action::Adopt(7));
    assert_eq!(acts(&with(json!({"policy": "AdoptOnly"}), &[7])), Action::Adopt(7));
    assert_eq!(reason(&with(json!({"policy": "AdoptOnly"}), &[])), Reason::NothingToAdopt);
    assert_eq!(reason(&with(json!({"policy": "CreateOnly"}), &[7])), Reason::AlreadyExists);
    assert_eq!(acts(&with(json!({"policy": "CreateOnly"}), &[])), Action::Create);
    assert_eq!(reason(&with(json!({}), &[7, 8])), Reason::AmbiguousRemote);
    assert_eq!(acts(&with(json!({"credentialId": 8}), &[7, 8])), Action::Adopt(8));
    assert_eq!(reason(&with(json!({"credentialId": 9}), &[7, 8])), Reason::NothingToAdopt);
    assert_eq!(reason(&with(json!({"credentialId": 9}), &[])), Reason::NothingToAdopt);
}

#[test]
fn nothing_is_taken_over_on_the_word_of_an_old_listing() {
    let observed = listed_as(proved(fresh(&plain())), vec![entry(7, "")], Freshness::Any);
    assert_eq!(acts(&observed), Action::List(Freshness::Fresh));
}

#[test]
fn what_exists_is_never_taken_over_without_a_proof_whatever_the_policy() {
    let allowed = Rules { allow_unverified: true, ..rules() };
    let disabled = listed(fresh(&json!({"verification": {"policy": "Disabled"}})), &[7]);
    assert_eq!(decide(&disabled, &allowed, now()), Decision::Act(Action::Prove));
    let best_effort = json!({"verification": {"policy": "BestEffort"}});
    let mut unproved = listed(fresh(&best_effort), &[7]);
    unproved.learnt.proof = Some(not_issued(Diagnosis::Unavailable));
    assert_eq!(reason(&unproved), Reason::MicrosoftUnavailable);
    let mut adopted = rotated(&best_effort);
    adopted.status.registration.as_mut().unwrap().ownership = Ownership::Adopted;
    adopted.learnt.proof = Some(not_issued(Diagnosis::Unavailable));
    assert_eq!(reason(&adopted), Reason::MicrosoftUnavailable, "nor is it changed without one");
    assert_eq!(acts(&Observed { learnt: Learnt::default(), ..adopted.clone() }), Action::Prove);
    assert_eq!(acts(&proved(adopted)), Action::Update);
}

#[test]
fn what_was_taken_over_keeps_its_name_unless_the_spec_names_it() {
    let adopted = |spec: &Value| {
        let mut observed = settled(spec);
        let registration = observed.status.registration.as_mut().unwrap();
        (registration.ownership, registration.name) = (Ownership::Adopted, "made by hand".into());
        observed
    };
    assert_eq!(rests(&adopted(&plain())).standing, Standing::Settled);
    assert_eq!(acts(&adopted(&json!({"displayName": "MS Graph app"}))), Action::Rename);
}

#[test]
fn a_create_of_unknown_outcome_is_waited_for_and_then_looked_for() {
    let mut observed = proved(fresh(&plain()));
    observed.status.pending = Some(pending("t0ken", &[]));
    observed.settles_in = Duration::from_secs(90);
    let settling = Rest { standing: Standing::Settling, retry: Retry::Settle(Duration::from_secs(90)) };
    assert_eq!(rests(&observed), settling);
    observed.settles_in = Duration::ZERO;
    assert_eq!(acts(&observed), Action::List(Freshness::Anew));
    let old = listed_as(observed.clone(), vec![], Freshness::Fresh);
    assert_eq!(acts(&old), Action::List(Freshness::Anew), "a listing from before tells nothing");
    let found = listed_as(observed.clone(), vec![entry(7, "x [t0ken]")], Freshness::Anew);
    assert_eq!(acts(&found), Action::Recover(7));
    let several = listed_as(observed.clone(), vec![entry(7, ""), entry(8, "")], Freshness::Anew);
    assert_eq!(reason(&several), Reason::AmbiguousRemote);
    let nothing = listed_as(observed.clone(), vec![], Freshness::Anew);
    assert_eq!(acts(&nothing), Action::Create, "with the same mark");
    let mut strangers = listed_as(observed.clone(), vec![entry(9, "a stranger's")], Freshness::Anew);
    assert_eq!(acts(&strangers), Action::Adopt(9), "by policy, as ever");
    strangers.object =
        crate::controller::observed::testing::object(&adoption(&json!({"policy": "CreateOnly"})));
    assert_eq!(reason(&strangers), Reason::AlreadyExists);
    let unknown = failing(observed, Operation::Create, FailureKind::OutcomeUnknown);
    assert_eq!(rests(&unknown).retry, Retry::Backoff(Some(rules().timing.create_settle)));
}

#[test]
fn a_create_at_an_account_that_the_spec_has_left_is_looked_for_there() {
    let mut observed =
        proved(fresh(&json!({"destination": {"woodpecker": {"accountRef": {"name": "other"}}}})));
    observed.status.pending = Some(pending("t0ken", &[]));
    let nothing = listed_as(observed.clone(), vec![], Freshness::Anew);
    assert_eq!(acts(&nothing), Action::ForgetPending);
    let found = listed_as(observed.clone(), vec![entry(7, "x [t0ken]")], Freshness::Anew);
    assert_eq!(acts(&found), Action::Recover(7));
    observed.target = Target::Missing(account());
    assert_eq!(reason(&observed), Reason::AccountNotFound);
}

#[test]
fn a_create_is_looked_for_even_while_the_secret_is_broken() {
    let mut observed = fresh(&plain());
    observed.status.pending = Some(pending("t0ken", &[]));
    observed.source =
        Source::Unusable(Problem { reason: Reason::SecretNotFound, message: "no Secret".into() });
    assert_eq!(acts(&observed), Action::List(Freshness::Anew));
}

#[test]
fn what_the_listing_lacks_is_asked_for_by_its_id_before_anything_is_made_anew() {
    let mut observed = settled(&plain());
    observed.seen = Some(vec![]);
    assert_eq!(acts(&observed), Action::Probe);
    observed.learnt.probe = Some(Probe::Present);
    assert_eq!(rests(&observed).standing, Standing::Settled);
    observed.learnt.probe = Some(Probe::Gone);
    assert_eq!(acts(&observed), Action::ForgetRegistration);
    observed.learnt.probe = None;
    let unclear = FailureKind::Refused { status: 403, word: None };
    let refused = failing(observed.clone(), Operation::Rename, unclear);
    assert!(matches!(rests(&refused).retry, Retry::Stalled(_)));
    let annotate = |id: &str| {
        let mut observed = observed.clone();
        observed.object.metadata.annotations =
            Some([(crate::resources::ACKNOWLEDGE_GONE.to_owned(), id.to_owned())].into());
        observed
    };
    assert_eq!(acts(&annotate("22334455")), Action::ForgetRegistration);
    assert_eq!(acts(&annotate("1")), Action::Probe, "another one was meant");
}

#[test]
fn a_late_duplicate_of_our_own_is_removed_and_nobody_elses() {
    let mut observed = settled(&plain());
    let ours = entry(22_334_455, "mail/sales-eu");
    observed.seen = Some(vec![ours.clone(), entry(8, "mail/sales-eu")]);
    assert_eq!(rests(&observed).standing, Standing::Settled);
    observed.seen = Some(vec![ours, entry(9, "mail/sales-eu [abc]")]);
    assert_eq!(acts(&observed), Action::RemoveDuplicate(9));
    observed.learnt.stuck_duplicates = vec![9];
    assert_eq!(rests(&observed).standing, Standing::Settled, "it does not unmake Ready");
}

/// A settled object that still has to remove an earlier registration at another account.
fn with_retiring(spec: &Value) -> Observed {
    let mut observed = settled(spec);
    observed.object.metadata.finalizers = Some(vec![crate::resources::FINALIZER.into()]);
    let mut earlier = registration();
    (earlier.credential_id, earlier.account) = (7, Some(other_account()));
    let place = earlier.place().unwrap();
    observed.status.retiring = vec![earlier.clone()];
    let target = Target::Ready(ReadyTarget { place, may_create: true, may_adopt: true });
    observed.retiring = Some(Retiring { registration: earlier, target, is_reachable: true });
    observed
}

fn other_account() -> AccountName {
    AccountName { namespace: "mail".into(), name: "other".into() }
}

fn in_use() -> Failure {
    let kind = FailureKind::Refused { status: 409, word: None };
    Failure { operation: Operation::Delete, kind, retry_after: None, id: Some(7) }
}

#[test]
fn an_object_that_moves_registers_at_the_new_account_before_it_leaves_the_old_one() {
    let mut observed = settled(&json!({"deletionPolicy": "Delete"}));
    observed.object.metadata.finalizers = Some(vec![crate::resources::FINALIZER.into()]);
    if let Target::Ready(target) = &mut observed.target {
        target.place.account = other_account();
    }
    assert_eq!(acts(&observed), Action::List(Freshness::Any));
    assert_eq!(acts(&listed(observed.clone(), &[])), Action::Create);
    observed.status.retiring = vec![registration(); 4];
    assert_eq!(reason(&observed), Reason::InUse, "there is no room for a fifth");
    observed.retiring = with_retiring(&plain()).retiring;
    assert_eq!(acts(&observed), Action::Retire, "room is made first");
}

#[test]
fn an_earlier_registration_is_removed_once_the_new_one_stands_and_holds_nothing_up() {
    let delete = json!({"deletionPolicy": "Delete"});
    let mut observed = with_retiring(&delete);
    assert_eq!(acts(&observed), Action::Retire);
    observed.learnt.retiring_failure = Some(in_use());
    let rest = rests(&observed);
    assert_eq!(rest, Rest { standing: Standing::Settled, retry: Retry::Look(rules().timing.in_use_retry) });
    let mut missing = with_retiring(&delete);
    missing.retiring.as_mut().unwrap().is_reachable = false;
    assert_eq!(rests(&missing).standing, Standing::Settled);
}

#[test]
fn with_retain_what_was_still_to_be_removed_is_left() {
    let observed = with_retiring(&plain());
    assert_eq!(acts(&observed), Action::RemoveFinalizer);
    let mut observed = observed;
    observed.object.metadata.finalizers = None;
    assert_eq!(acts(&observed), Action::LeaveRetiring);
}

#[test]
fn nothing_is_taken_over_before_all_objects_are_known() {
    let mut observed = listed(proved(fresh(&plain())), &[7]);
    if let Target::Ready(target) = &mut observed.target {
        target.may_adopt = false;
    }
    assert_eq!(reason(&observed), Reason::AccountNotReady);
    assert_eq!(acts(&listed(observed, &[])), Action::Create, "what is not there is nobody's");
}

#[test]
fn an_account_that_was_never_reached_with_its_key_is_not_used_and_changes_no_status() {
    let unjudged = |mut observed: Observed| {
        observed.target = Target::Unjudged(account());
        observed
    };
    assert_eq!(rests(&unjudged(rotated(&plain()))).standing, Standing::Waiting);
    assert_eq!(reason(&proved(unjudged(fresh(&plain())))), Reason::AccountNotReady);
}

#[test]
fn a_create_at_an_account_that_is_gone_can_be_acknowledged() {
    let mut observed = proved(fresh(&plain()));
    observed.status.pending = Some(pending("t0ken", &[]));
    observed.target = Target::Missing(account());
    assert_eq!(reason(&observed), Reason::AccountNotFound);
    observed.object.metadata.annotations =
        Some([(crate::resources::ACKNOWLEDGE_GONE.to_owned(), "t0ken".to_owned())].into());
    assert_eq!(acts(&observed), Action::ForgetPending);
}

#[test]
fn nothing_is_created_on_the_word_of_an_incomplete_listing() {
    let mut observed = listed(proved(fresh(&plain())), &[]);
    if let Target::Ready(target) = &mut observed.target {
        target.may_create = false;
    }
    assert_eq!(reason(&observed), Reason::AccountNotReady);
}

#[test]
fn a_settled_object_does_nothing() {
    let rest = rests(&settled(&plain()));
    assert_eq!(rest, Rest { standing: Standing::Settled, retry: Retry::WhenDue });
}

#[test]
fn a_new_secret_is_proved_and_then_updates_the_same_credential() {
    let observed = rotated(&plain());
    assert_eq!(acts(&observed), Action::Prove);
    assert_eq!(acts(&proved(observed)), Action::Update);
}

#[test]
fn a_new_name_is_sent_alone_and_without_a_proof() {
    assert_eq!(acts(&settled(&json!({"displayName": "MS Graph app"}))), Action::Rename);
}

#[test]
fn a_refused_new_secret_never_replaces_a_registration() {
    let mut observed = seen(rotated(&plain()), Duration::from_hours(1), Reason::AwaitingPropagation);
    observed.learnt.proof = Some(refused(Reason::InvalidClientSecret));
    assert_eq!(reason(&observed), Reason::InvalidClientSecret);
    assert!(matches!(rests(&observed).retry, Retry::Stalled(_)));
}

#[test]
fn a_refusal_of_a_new_secret_counts_as_propagation_for_twenty_minutes() {
    for (minutes, expected) in [
        (0, Reason::AwaitingPropagation),
        (19, Reason::AwaitingPropagation),
        (20, Reason::InvalidClientSecret),
    ] {
        let mut observed = seen(fresh(&plain()), Duration::from_mins(minutes), Reason::AwaitingPropagation);
        observed.learnt.proof = Some(refused(Reason::InvalidClientSecret));
        assert_eq!(reason(&observed), expected, "{minutes} minutes");
    }
    let mut registered = settled(&plain());
    registered.learnt.proof = Some(refused(Reason::SecretExpired));
    assert_eq!(reason(&registered), Reason::SecretExpired, "a registered secret has spread long ago");
}

#[test]
fn woodpeckers_refusal_of_a_secret_has_the_same_window() {
    let first = failing(proved(fresh(&plain())), Operation::Create, FailureKind::SecretRefused);
    assert_eq!(rests(&first).retry, Retry::Propagation(None));
    let late = seen(fresh(&plain()), Duration::from_mins(21), Reason::AwaitingPropagation);
    let late = failing(proved(late), Operation::Create, FailureKind::SecretRefused);
    assert!(matches!(rests(&late).retry, Retry::Stalled(_)));
}

#[test]
fn microsofts_failures_are_tried_again_whatever_the_secret() {
    for (diagnosis, expected) in
        [(Diagnosis::Throttled, Reason::Throttled), (Diagnosis::Unavailable, Reason::MicrosoftUnavailable)]
    {
        let mut observed = rotated(&plain());
        observed.learnt.proof = Some(not_issued(diagnosis));
        assert_eq!(reason(&observed), expected);
        assert_eq!(rests(&observed).retry, Retry::Backoff(None));
    }
}

#[test]
fn best_effort_goes_on_without_microsoft_but_not_against_it() {
    let best_effort = json!({"verification": {"policy": "BestEffort"}});
    let after = |proof: Proof| {
        let mut observed = seen(fresh(&best_effort), Duration::from_hours(1), Reason::AwaitingPropagation);
        observed.learnt.proof = Some(proof);
        observed
    };
    assert_eq!(acts(&after(not_issued(Diagnosis::Unavailable))), Action::List(Freshness::Any));
    assert_eq!(acts(&after(refused(Reason::ConditionalAccessBlocked))), Action::List(Freshness::Any));
    assert_eq!(reason(&after(not_issued(Diagnosis::Throttled))), Reason::Throttled);
    assert_eq!(reason(&after(refused(Reason::InvalidClientSecret))), Reason::InvalidClientSecret);
}

#[test]
fn disabled_verification_counts_only_where_the_administrator_allows_it() {
    let observed = fresh(&json!({"verification": {"policy": "Disabled"}}));
    assert_eq!(acts(&observed), Action::Prove);
    let allowed = Rules { allow_unverified: true, ..rules() };
    assert_eq!(decide(&observed, &allowed, now()), Decision::Act(Action::List(Freshness::Any)));
}

#[test]
fn required_roles_must_be_in_the_token() {
    let with = |roles: Option<Vec<String>>| {
        let mut observed =
            fresh(&json!({"verification": {"requiredRoles": ["Mail.Send", "Mail.ReadWrite"]}}));
        observed.learnt.proof = Some(Proof { at: now(), verdict: Verdict::Issued { roles } });
        observed
    };
    assert_eq!(
        acts(&with(Some(vec!["Mail.ReadWrite".into(), "Mail.Send".into()]))),
        Action::List(Freshness::Any)
    );
    assert_eq!(reason(&with(Some(vec!["Mail.Send".into()]))), Reason::RequiredRolesMissing);
    assert_eq!(reason(&with(None)), Reason::RequiredRolesMissing);
}

#[test]
fn a_registered_secret_is_proved_again_after_the_interval_and_when_its_date_passes() {
    let observed = settled(&json!({"verification": {"interval": "24h"}}));
    let at = |hours: u64| decide(&observed, &rules(), now() + Duration::from_hours(hours));
    assert!(matches!(at(22), Decision::Rest(_)));
    assert_eq!(at(24), Decision::Act(Action::Prove));
    let expiring = settled(&json!({"verification": {"interval": "720h"}}));
    let expiry = registration().expires_at.0;
    let mut expiring = expiring;
    expiring.status.verified_at =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(expiry - Duration::from_hours(2)));
    assert!(matches!(decide(&expiring, &rules(), expiry - Duration::from_secs(1)), Decision::Rest(_)));
    assert_eq!(decide(&expiring, &rules(), expiry), Decision::Act(Action::Prove));
}

#[test]
fn a_proof_of_a_candidate_is_not_repeated_while_only_the_registration_is_missing() {
    let mut observed = seen(settled(&plain()), Duration::from_mins(1), Reason::TokenIssued);
    observed.source = fresh(&plain()).source;
    let observed = seen(observed, Duration::from_mins(1), Reason::TokenIssued);
    assert_eq!(acts(&observed), Action::Update);
}

#[test]
fn the_delay_after_a_failure_is_kept_unless_something_changed() {
    let mut observed = seen(rotated(&plain()), Duration::from_mins(1), Reason::MicrosoftUnavailable);
    observed.status.next_attempt_at =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now() + Duration::from_secs(30)));
    assert_eq!(rests(&observed), Rest { standing: Standing::Waiting, retry: Retry::AsPlanned });
    assert_eq!(decide(&observed, &rules(), now() + Duration::from_secs(30)), Decision::Act(Action::Prove));
    let mut edited = observed.clone();
    edited.object.metadata.generation = Some(2);
    assert_eq!(acts(&edited), Action::Prove);
    let mut asked = observed.clone();
    asked.object.metadata.annotations =
        Some([(crate::resources::RECONCILE_REQUESTED_AT.to_owned(), "now".to_owned())].into());
    assert_eq!(acts(&asked), Action::Prove);
    let mut replaced = observed;
    if let Source::Usable(source) = &mut replaced.source {
        source.is_candidate = false;
    }
    assert_eq!(acts(&replaced), Action::Prove);
}

#[test]
fn going_back_to_the_registered_secret_does_not_wait_for_the_refused_one() {
    let mut observed = seen(rotated(&plain()), Duration::from_hours(1), Reason::InvalidClientSecret);
    observed.status.next_attempt_at =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now() + Duration::from_hours(20)));
    assert_eq!(rests(&observed).standing, Standing::Waiting);
    if let Source::Usable(source) = &mut observed.source {
        (source.is_candidate, source.is_registered) = (false, true);
    }
    assert_eq!(acts(&observed), Action::Prove, "what was verified last is the other secret");
    assert_eq!(rests(&proved(observed)).standing, Standing::Settled);
}

#[test]
fn what_holds_an_unknown_secret_is_sent_the_one_there_is() {
    let mut observed = rotated(&plain());
    observed.status.registration.as_mut().unwrap().fingerprint = Registration::UNKNOWN.into();
    assert_eq!(acts(&observed), Action::Prove);
    assert_eq!(acts(&proved(observed)), Action::Update);
}

#[test]
fn accounts_that_cannot_be_used_block_and_touch_nothing() {
    for (target, expected) in [
        (Target::Missing(account()), Reason::AccountNotFound),
        (Target::NotAllowed(account()), Reason::AccountNotAllowed),
        (Target::NotReady(account()), Reason::AccountNotReady),
    ] {
        let mut observed = proved(fresh(&plain()));
        observed.target = target;
        assert_eq!(reason(&observed), expected);
    }
    let mut observed = fresh(&plain());
    observed.target = Target::NotSeenYet(account());
    assert_eq!(rests(&observed).standing, Standing::Waiting);
}

#[test]
fn nothing_moves_between_woodpecker_and_the_store() {
    let mut observed = proved(settled(&json!({"destination": {"store": {}}})));
    observed.target = Target::Store;
    assert_eq!(reason(&observed), Reason::DestinationNotSupported);
}

#[test]
fn an_app_claimed_by_another_object_is_left_to_it() {
    let mut observed = listed(proved(fresh(&plain())), &[]);
    observed.claim = Claim::HeldBy("mail/first".into());
    assert_eq!(reason(&observed), Reason::DuplicateClaim);
}

#[test]
fn a_suspended_object_is_left_alone() {
    let suspended = json!({"suspend": true});
    assert_eq!(rests(&fresh(&suspended)).standing, Standing::Suspended);
    assert_eq!(rests(&rotated(&suspended)).standing, Standing::Suspended);
}

#[test]
fn a_policy_changed_to_retain_takes_the_finalizer_off() {
    let mut observed = settled(&plain());
    observed.object.metadata.finalizers = Some(vec![crate::resources::FINALIZER.into()]);
    assert_eq!(acts(&observed), Action::RemoveFinalizer);
    let observed = settled(&json!({"deletionPolicy": "Delete"}));
    assert_eq!(acts(&observed), Action::AddFinalizer);
}

#[test]
fn the_finalizer_follows_the_policy_whatever_else_is_wrong() {
    let broken = |spec: &Value| {
        let mut observed = settled(spec);
        observed.source =
            Source::Unusable(Problem { reason: Reason::SecretNotFound, message: "no Secret".into() });
        observed.target = Target::NotReady(account());
        observed
    };
    assert_eq!(acts(&broken(&json!({"deletionPolicy": "Delete"}))), Action::AddFinalizer);
    assert_eq!(acts(&broken(&json!({"deletionPolicy": "Delete", "suspend": true}))), Action::AddFinalizer);
    let mut retained = broken(&plain());
    retained.object.metadata.finalizers = Some(vec![crate::resources::FINALIZER.into()]);
    assert_eq!(acts(&retained), Action::RemoveFinalizer);
}

#[test]
fn roles_that_are_newly_required_are_asked_for_at_once() {
    let mut observed = settled(&json!({"verification": {"requiredRoles": ["Mail.Send"]}}));
    assert_eq!(acts(&observed), Action::Prove);
    observed.status.observed_roles = Some(vec!["Mail.Send".into()]);
    assert_eq!(rests(&observed).standing, Standing::Settled);
}

#[test]
fn a_refusal_by_the_account_does_not_outlive_a_change_of_the_account() {
    let refused_with = |reason: Reason| {
        let mut observed = seen(rotated(&plain()), Duration::from_mins(1), Reason::TokenIssued);
        let at = now() + Duration::from_hours(20);
        observed.status.next_attempt_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        let desired = crate::resources::conditions::Desired {
            type_: ConditionType::Registered,
            status: crate::resources::conditions::ConditionStatus::False,
            reason,
            message: "refused".into(),
        };
        observed.status.conditions = crate::resources::conditions::merge(&[], vec![desired], 1, now());
        observed.account_changed = true;
        observed
    };
    assert_eq!(acts(&refused_with(Reason::UpdateRejected)), Action::Update);
    assert_eq!(rests(&refused_with(Reason::Registered)).standing, Standing::Waiting);
}

#[test]
fn failures_at_woodpecker_end_the_pass_with_the_right_patience() {
    let retry = |kind, operation| rests(&failing(proved(fresh(&plain())), operation, kind)).retry;
    assert_eq!(retry(FailureKind::Unavailable, Operation::Update), Retry::Backoff(None));
    assert_eq!(retry(FailureKind::Throttled, Operation::Create), Retry::Backoff(None));
    assert_eq!(retry(FailureKind::Queued(Ahead::Others), Operation::Create), Retry::WhenGranted);
    assert_eq!(retry(FailureKind::Unauthorized, Operation::List), Retry::Backoff(None));
    let refusal = FailureKind::Refused { status: 422, word: None };
    assert!(matches!(retry(refusal.clone(), Operation::Create), Retry::Stalled(_)));
    assert_eq!(retry(refusal, Operation::List), Retry::Backoff(None));
}

#[test]
fn a_deletion_takes_away_only_what_the_object_made() {
    let delete = json!({"deletionPolicy": "Delete"});
    assert_eq!(rests(&deleted(settled(&delete), false)).standing, Standing::Gone);
    assert_eq!(acts(&deleted(fresh(&delete), true)), Action::LetGo(Parting::NeverRegistered));
    assert_eq!(acts(&deleted(settled(&delete), true)), Action::List(Freshness::Fresh));
    assert_eq!(acts(&listed(deleted(settled(&delete), true), &[22_334_455])), Action::Delete);
    assert_eq!(acts(&deleted(settled(&plain()), true)), Action::LetGo(Parting::Retained));
    let mut adopted = deleted(settled(&delete), true);
    if let Some(registration) = &mut adopted.status.registration {
        registration.ownership = Ownership::Adopted;
    }
    assert_eq!(acts(&adopted), Action::LetGo(Parting::NotOurs));
    let mut removed = deleted(settled(&delete), true);
    removed.learnt.removed = true;
    assert_eq!(acts(&removed), Action::LetGo(Parting::Removed));
}

#[test]
fn a_deletion_while_suspended_leaves_an_orphan_and_says_so() {
    let observed = deleted(settled(&json!({"deletionPolicy": "Delete", "suspend": true})), true);
    assert_eq!(acts(&observed), Action::LetGo(Parting::OrphanedBySuspension));
}

#[test]
fn a_terminating_namespace_gets_out_after_ten_minutes() {
    let observed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
    let mut observed = failing(observed, Operation::Delete, FailureKind::Unavailable);
    observed.namespace_deleted_at = Some(now() - Duration::from_mins(9));
    assert_eq!(rests(&observed).retry, Retry::Backoff(None));
    observed.namespace_deleted_at = Some(now() - Duration::from_mins(10));
    assert_eq!(acts(&observed), Action::LetGo(Parting::OrphanedByNamespace));
}

#[test]
fn what_is_in_use_is_tried_again_slowly() {
    let observed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
    let observed = failing(observed, Operation::Delete, FailureKind::Refused { status: 409, word: None });
    assert_eq!(rests(&observed).retry, Retry::Stalled(Duration::from_mins(10)));
}

#[test]
fn a_deletion_waits_for_its_account_and_for_no_other() {
    let mut observed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
    observed.target = Target::NotReady(account());
    assert_eq!(reason(&observed), Reason::AccountNotReady);
    observed.target = Target::Missing(account());
    assert_eq!(reason(&observed), Reason::AccountNotFound);
    let mut changed = deleted(settled(&json!({"deletionPolicy": "Delete"})), true);
    if let Target::Ready(target) = &mut changed.target {
        target.place.company_id = Some(7);
    }
    assert_eq!(reason(&changed), Reason::AccountNotFound);
}

#[test]
fn a_deletion_with_a_create_under_way_waits_until_it_must_have_settled() {
    let mut observed = deleted(fresh(&json!({"deletionPolicy": "Delete"})), true);
    observed.status.pending = Some(pending("t0ken", &[]));
    observed.settles_in = Duration::from_secs(90);
    assert_eq!(rests(&observed).retry, Retry::Settle(Duration::from_secs(90)));
    observed.settles_in = Duration::ZERO;
    assert_eq!(acts(&observed), Action::List(Freshness::Anew));
    let found = listed_as(observed.clone(), vec![entry(7, "x [t0ken]")], Freshness::Anew);
    assert_eq!(acts(&found), Action::Recover(7));
    let nothing = listed_as(observed.clone(), vec![], Freshness::Anew);
    assert_eq!(acts(&nothing), Action::ForgetPending);
    let mut retained = deleted(fresh(&plain()), true);
    retained.status.pending = observed.status.pending;
    assert_eq!(acts(&retained), Action::LetGo(Parting::Retained));
}

#[test]
fn a_deletion_removes_earlier_registrations_and_late_duplicates_as_well() {
    let mut observed = deleted(with_retiring(&json!({"deletionPolicy": "Delete"})), true);
    assert_eq!(acts(&observed), Action::Retire);
    let retiring = observed.retiring.as_mut().unwrap();
    (retiring.target, retiring.is_reachable) = (Target::Missing(account()), false);
    let mut observed =
        listed_as(observed, vec![entry(22_334_455, "x"), entry(9, "x [abc]")], Freshness::Fresh);
    assert_eq!(acts(&observed), Action::RemoveDuplicate(9));
    observed.learnt.listed.as_mut().unwrap().entries.pop();
    assert_eq!(acts(&observed), Action::Delete, "an account that is gone holds up nothing else");
    observed.learnt.removed = true;
    assert_eq!(reason(&observed), Reason::AccountNotFound);
    observed.learnt.retiring_failure = Some(in_use());
    assert_eq!(rests(&observed).retry, Retry::Stalled(rules().timing.in_use_retry));
    observed.learnt.retiring_failure = None;
    (observed.retiring, observed.status.retiring) = (None, vec![]);
    assert_eq!(acts(&observed), Action::LetGo(Parting::Removed));
}

#[test]
fn what_was_taken_over_is_deleted_only_where_its_ownership_was_taken() {
    let adopted = |spec: &Value| {
        let mut observed = deleted(settled(spec), true);
        observed.status.registration.as_mut().unwrap().ownership = Ownership::Adopted;
        observed
    };
    let mut spec = adoption(&json!({"takeOwnership": true}));
    spec["deletionPolicy"] = json!("Delete");
    assert_eq!(acts(&listed(adopted(&spec), &[])), Action::Delete);
    assert_eq!(acts(&adopted(&json!({"deletionPolicy": "Delete"}))), Action::LetGo(Parting::NotOurs));
}

#[test]
fn an_object_that_leaves_an_account_goes_once_that_has_the_new_secret() {
    let leaving = json!({"destination": {"woodpecker": {"accountRef": {"name": "other"}}}});
    assert_eq!(acts(&proved(rotated(&leaving))), Action::Update, "mail goes by it until it has moved");
    assert_eq!(acts(&settled(&leaving)), Action::LookAgain);
}

#[test]
fn a_change_without_an_answer_is_waited_for_before_anything_else_is_sent() {
    let mut observed = proved(rotated(&plain()));
    observed.status.registration.as_mut().unwrap().fingerprint = Registration::UNKNOWN.into();
    observed.seen = Some(vec![]);
    let left = Duration::from_secs(20);
    observed.change_settles_in = left;
    assert_eq!(rests(&observed), Rest { standing: Standing::Settling, retry: Retry::Settle(left) });
    observed.change_settles_in = Duration::ZERO;
    assert_eq!(acts(&observed), Action::Probe);
    observed.seen = None;
    assert_eq!(acts(&observed), Action::Update);
}

#[test]
fn a_name_that_is_not_known_is_given_again() {
    let mut observed = settled(&plain());
    observed.status.registration.as_mut().unwrap().name.clear();
    assert_eq!(acts(&observed), Action::Rename);
}
