//! When the app is read at Microsoft Entra, and what waits for that.

use super::*;
use crate::api::ExpirySource;
use crate::core::app_reading::{AppAccess, Finding, Reading};
use crate::core::model::fixtures::{reading_from, with_entra};

const DATE: &str = "2027-11-28T10:00:00Z";

/// A settled object whose app was read a minute ago.
fn read(mode: &str) -> Observed {
    let mut observed = with_entra(mode);
    observed.status.entra = Some(Box::new(reading_from(DATE)));
    observed
}

/// The same object after a reading in this reconcile.
fn after_reading(mut observed: Observed, finding: Finding) -> Observed {
    observed.results.reading = Some(Reading { at: now(), result: Ok(finding) });
    observed
}

/// An object whose spec follows the expiry at Entra, which is not known.
fn undated(mut observed: Observed) -> Observed {
    if let Source::Usable(source) = &mut observed.source {
        (source.expires_at, source.expiry_source) = (None, ExpirySource::Entra);
        (source.is_registered, source.is_pending) = (false, false);
    }
    observed
}

#[test]
fn a_verified_secret_is_read_once_and_then_the_object_is_settled() {
    let observed = with_entra("Check");
    assert_eq!(step_of(&observed), Step::ReadExpiry);
    let after = after_reading(observed, Finding::NotFound);
    assert_eq!(conclusion_of(&after).state, ReconcileState::UpToDate);
    assert_eq!(conclusion_of(&read("Check")).state, ReconcileState::UpToDate);
}

#[test]
fn nothing_is_read_before_the_secret_is_verified() {
    let mut observed = with_entra("Check");
    observed.status.last_verified_time = None;
    assert_eq!(step_of(&observed), Step::Verify);
    observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
    assert!(matches!(conclusion_of(&observed).state, ReconcileState::NotVerified(_)));
}

#[test]
fn no_app_is_read_without_a_grant() {
    for access in [
        None,
        Some(AppAccess::NotGranted),
        Some(AppAccess::NotKnown),
        Some(AppAccess::IdentityDeleted),
        Some(AppAccess::OtherCloud),
    ] {
        let observed = Observed { app_access: access, ..with_entra("Check") };
        assert_eq!(conclusion_of(&observed).state, ReconcileState::UpToDate);
    }
}

#[test]
fn a_change_of_the_spec_or_a_request_reads_the_app_at_once() {
    let mut changed = read("Check");
    changed.object.metadata.generation = Some(2);
    assert_eq!(step_of(&changed), Step::ReadExpiry);
    let mut requested = read("Check");
    let annotation = (crate::api::RECONCILE_REQUESTED_AT.to_owned(), "now".to_owned());
    requested.object.metadata.annotations = Some([annotation].into());
    requested.results.verification = Some(issued());
    assert_eq!(step_of(&requested), Step::ReadExpiry);
    let mut fails = read("Check");
    fails.status.entra.as_mut().unwrap().next_attempt_time = Some(Time(now() + Duration::from_hours(1)));
    assert_eq!(conclusion_of(&fails).state, ReconcileState::UpToDate);
    fails.is_reading_requested = true;
    assert_eq!(step_of(&fails), Step::ReadExpiry, "its identity changed");
    let mut another = read("Check");
    if let Source::Usable(source) = &mut another.source {
        source.reading.as_mut().unwrap().is_recorded = false;
    }
    assert_eq!(step_of(&another), Step::ReadExpiry, "the reading is about an earlier secret");
}

#[test]
fn a_settled_object_is_read_again_within_a_day() {
    let observed = read("Check");
    let day = now() + Duration::from_hours(27);
    let mut later = observed;
    later.status.last_verified_time = Some(Time(day));
    assert_eq!(next_step(&later, &policy(), day), Plan::Step(Step::ReadExpiry));
}

#[test]
fn nothing_is_sent_before_the_expiry_is_known() {
    let unread = undated(with_entra("Follow"));
    assert_eq!(step_of(&unread), Step::Verify, "it is another secret");
    let unread = verified(unread);
    assert_eq!(step_of(&unread), Step::ReadExpiry);
    let mut waiting = after_reading(unread.clone(), Finding::NotFound);
    waiting.status.entra = Some(Box::default());
    let conclusion = conclusion_of(&waiting);
    assert_eq!(
        (conclusion.state, conclusion.requeue),
        (ReconcileState::AwaitingExpiry, Requeue::Stalled(Duration::MAX))
    );
    let not_listed = Observed { app_access: Some(AppAccess::NotKnown), ..unread.clone() };
    let conclusion = conclusion_of(&not_listed);
    assert_eq!((conclusion.state, conclusion.requeue), (ReconcileState::AwaitingExpiry, Requeue::OnTrigger));
    let not_granted = Observed { app_access: Some(AppAccess::NotGranted), ..unread };
    assert_eq!(conclusion_of(&not_granted).state, ReconcileState::AwaitingExpiry);
}

#[test]
fn a_corrected_expiry_is_sent() {
    let mut corrected = verified(after_reading(read("Follow"), Finding::NotFound));
    if let Source::Usable(source) = &mut corrected.source {
        (source.is_registered, source.expiry_source) = (false, ExpirySource::Entra);
    }
    assert_eq!(step_of(&corrected), Step::Update);
}

#[test]
fn a_delay_at_the_destination_does_not_delay_a_reading() {
    let mut observed = with_entra("Check");
    observed.status.next_attempt_time = Some(Time(now() + Duration::from_mins(10)));
    assert_eq!(step_of(&observed), Step::ReadExpiry);
    let after = after_reading(observed, Finding::NotFound);
    assert_eq!(conclusion_of(&after).state, ReconcileState::Deferred);
}

#[test]
fn a_reading_that_is_deferred_delays_nothing_but_a_followed_expiry() {
    let mut observed = with_entra("Check");
    observed.results.is_reading_deferred = true;
    assert_eq!(conclusion_of(&observed).state, ReconcileState::UpToDate);
    let mut undated = verified(undated(with_entra("Follow")));
    undated.results.is_reading_deferred = true;
    assert_eq!(conclusion_of(&undated).state, ReconcileState::AwaitingExpiry);
}

#[test]
fn what_needs_no_expiry_does_not_wait_for_it() {
    let mut observed = undated(with_entra("Follow"));
    let earlier = with_previous_registration(&json!({"deletionPolicy": "Delete"}));
    observed.object.spec.deletion_policy = earlier.object.spec.deletion_policy;
    observed.object.metadata.finalizers = earlier.object.metadata.finalizers;
    observed.status.previous_registrations = earlier.status.previous_registrations;
    observed.previous_registration = earlier.previous_registration;
    let observed = verified(after_reading(observed, Finding::NotFound));
    assert_eq!(step_of(&observed), Step::DeletePrevious);
    let mut in_use = observed.clone();
    in_use.results.previous_failure = Some(self::in_use());
    let after = Requeue::After(policy().timing.in_use_retry);
    assert_eq!(conclusion_of(&in_use), Conclusion { state: ReconcileState::AwaitingExpiry, requeue: after });
    in_use.cached_entries =
        Some(vec![entry(22_334_455, "mail/sales-eu"), entry(9, "mail/sales-eu [abcdefghjk29]")]);
    assert_eq!(step_of(&in_use), Step::DeleteDuplicate(9));
    // What is registered here may be deleted only after it is known to exist.
    let mut unregistered = observed.clone();
    unregistered.status.registration = None;
    assert_eq!(conclusion_of(&unregistered).state, ReconcileState::AwaitingExpiry);
    let mut conflicting = observed;
    conflicting.claim = Claim::Conflict("mail/other".into());
    assert_eq!(conclusion_of(&conflicting).state, ReconcileState::AwaitingExpiry);
}
