//! The status after a reading of the app at Microsoft Entra.

use super::*;
use crate::core::app_reading::{AppAccess, Finding, Reading};
use crate::core::model::fixtures::{reading_from, with_entra};

fn settled_report(observed: &Observed) -> Report {
    let conclusion = Conclusion { state: ReconcileState::UpToDate, requeue: Requeue::WhenDue };
    report(observed, &conclusion, &policy(), now())
}

/// A settled object that was read in an earlier reconcile.
fn read(mode: &str, expires_at: &str) -> Observed {
    let mut observed = with_entra(mode);
    observed.status.entra = Some(Box::new(reading_from(expires_at)));
    observed
}

fn confirmed(report: &Report) -> (ConditionStatus, String) {
    let condition = find(&report.status.conditions, ConditionType::ExpiryConfirmed).unwrap();
    (condition.status, condition.reason.clone())
}

#[test]
fn a_difference_for_the_worse_is_a_warning_once_and_does_not_end_readiness() {
    let mut observed = read("Check", "2027-05-01T00:00:00Z");
    let first = settled_report(&observed);
    assert_eq!(confirmed(&first), (ConditionStatus::False, "ExpiresEarlier".into()));
    assert_eq!(says(&first, ConditionType::Ready).0, ConditionStatus::True);
    let warnings: Vec<_> = first.events.iter().filter(|event| event.reason == "ExpiresEarlier").collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].is_warning);
    (observed.status, observed.written) = (first.status.clone(), first.status.clone());
    let second = settled_report(&observed);
    assert_eq!(second.status, first.status, "nothing is written again");
    assert!(second.events.is_empty(), "{:?}", second.events);
}

#[test]
fn a_difference_for_the_better_and_its_end_are_no_warnings() {
    let mut observed = read("Check", "2029-05-01T00:00:00Z");
    let first = settled_report(&observed);
    assert_eq!(confirmed(&first), (ConditionStatus::False, "ExpiresLater".into()));
    assert!(first.events.iter().all(|event| !event.is_warning), "{:?}", first.events);
    observed.status = first.status;
    observed.status.entra = Some(Box::new(reading_from("2027-11-28T10:00:00Z")));
    let second = settled_report(&observed);
    assert!(second.events.iter().any(|event| event.reason == "ExpiryMatches" && !event.is_warning));
}

#[test]
fn a_match_from_the_beginning_is_no_event() {
    let report = settled_report(&read("Check", "2027-11-28T10:00:00Z"));
    assert_eq!(confirmed(&report), (ConditionStatus::True, "ExpiryMatches".into()));
    assert!(report.events.iter().all(|event| event.action != "ReadExpiry"), "{:?}", report.events);
}

#[test]
fn the_object_is_requeued_for_the_next_reading() {
    let mut observed = read("Check", "2027-11-28T10:00:00Z");
    let entra = observed.status.entra.as_mut().unwrap();
    entra.next_attempt_time = Some(Time(now() + Duration::from_mins(7)));
    assert_eq!(settled_report(&observed).requeue_after, Duration::from_mins(7));
    observed.app_access = Some(AppAccess::NotGranted);
    assert!(
        settled_report(&observed).requeue_after > Duration::from_mins(7),
        "nothing is read without a grant"
    );
}

#[test]
fn a_followed_expiry_that_is_not_known_ends_readiness_and_says_why() {
    let mut observed = with_entra("Follow");
    if let Source::Usable(source) = &mut observed.source {
        (source.expires_at, source.is_registered) = (None, false);
    }
    observed.status.registration = None;
    observed.results.reading = Some(Reading { at: now(), result: Ok(Finding::NotFound) });
    observed.status.entra = Some(Box::default());
    observed.results.verification = Some(issued());
    let conclusion =
        Conclusion { state: ReconcileState::AwaitingExpiry, requeue: Requeue::Stalled(Duration::MAX) };
    let report = report(&observed, &conclusion, &policy(), now());
    assert_eq!(says(&report, ConditionType::Registered), (ConditionStatus::Unknown, "AwaitingExpiry"));
    assert_eq!(says(&report, ConditionType::Ready), (ConditionStatus::Unknown, "AwaitingExpiry"));
    assert_eq!(says(&report, ConditionType::Stalled).0, ConditionStatus::True);
    assert_eq!(confirmed(&report), (ConditionStatus::Unknown, "NoMatchingSecret".into()));
    assert_eq!(report.status.expires_at, None);
    assert_eq!(report.status.next_attempt_time, None);
}

#[test]
fn nothing_about_entra_stays_in_the_status_without_the_setting() {
    let mut observed = read("Check", "2027-05-01T00:00:00Z");
    observed.status = settled_report(&observed).status;
    observed.object.spec.entra = None;
    observed.app_access = None;
    if let Source::Usable(source) = &mut observed.source {
        source.reading = None;
    }
    let report = settled_report(&observed);
    assert_eq!(report.status.entra, None);
    assert!(find(&report.status.conditions, ConditionType::ExpiryConfirmed).is_none());
}

#[test]
fn what_was_read_about_another_secret_is_forgotten() {
    let mut observed = read("Check", "2027-05-01T00:00:00Z");
    if let Source::Usable(source) = &mut observed.source {
        source.reading.as_mut().unwrap().is_recorded = false;
    }
    assert_eq!(settled_report(&observed).status.entra, None);
}

#[test]
fn the_fingerprint_follows_the_newest_key() {
    let mut observed = read("Check", "2027-11-28T10:00:00Z");
    if let Source::Usable(source) = &mut observed.source {
        source.reading.as_mut().unwrap().fingerprint = "newer:alone".into();
    }
    assert_eq!(settled_report(&observed).status.entra.unwrap().fingerprint, "newer:alone");
}

#[test]
fn a_reading_without_a_slot_is_tried_again_soon_whatever_the_state() {
    let mut observed = with_entra("Check");
    observed.results.is_reading_deferred = true;
    let conclusion = Conclusion { state: ReconcileState::SourceUnusable, requeue: Requeue::OnTrigger };
    let report = report(&observed, &conclusion, &policy(), now());
    assert_eq!(report.requeue_after, policy().timing.graph_call * 2);
}
