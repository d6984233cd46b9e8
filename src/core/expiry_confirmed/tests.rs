use serde_json::json;

use super::*;
use crate::api::conditions::{ConditionStatus, merge};
use crate::api::timestamp::Time;
use crate::api::{ExpirySource, PendingExpiryChange, UnknownFields};
use crate::core::app_reading::Reading;
use crate::core::app_secrets::{Match, MatchedBy};
use crate::core::model::fixtures::{expiry, now, reading_from, with_entra};

const TIMING: Timing = Timing::STANDARD;

/// A settled object with that expiry at Entra, read in an earlier reconcile.
fn read_before(mode: &str, at_entra: &str) -> Observed {
    let mut observed = with_entra(mode);
    observed.status.entra = Some(Box::new(reading_from(at_entra)));
    observed
}

fn said(observed: &Observed) -> (ConditionStatus, Reason, String) {
    let Desired { status, reason, message, .. } = condition(observed, &TIMING, now()).unwrap();
    (status, reason, message)
}

fn reason(observed: &Observed) -> Reason {
    said(observed).1
}

/// The same object after this reading in this reconcile.
fn after(mut observed: Observed, result: Result<Finding, ReadingError>) -> Observed {
    observed.results.reading = Some(Reading { at: now(), result });
    observed
}

fn failure(cause: ReadingFailure) -> ReadingError {
    ReadingError { cause, retry_after: None }
}

/// The object with the condition that it has now, as a later reconcile finds it.
fn later(observed: &Observed) -> Observed {
    let desired = condition(observed, &TIMING, now()).into_iter().collect();
    let mut next = observed.clone();
    next.status.conditions.retain(|condition| condition.type_ != TYPE.as_str());
    next.status.conditions.extend(merge(&[], desired, 1, now()));
    next.results.reading = None;
    next
}

#[test]
fn an_object_without_the_setting_has_no_condition() {
    let observed = crate::core::model::fixtures::settled(&json!({}));
    assert_eq!(condition(&observed, &TIMING, now()), None);
}

#[test]
fn dates_are_compared_and_both_are_named() {
    for (at_entra, status, expected) in [
        // The given expiry is the plain date 2027-11-28.
        ("2027-11-28T10:00:00Z", ConditionStatus::True, Reason::ExpiryMatches),
        ("2027-11-28T23:59:59Z", ConditionStatus::True, Reason::ExpiryMatches),
        ("2027-11-29T10:00:00Z", ConditionStatus::True, Reason::ExpiryMatches),
        ("2027-11-27T23:59:59Z", ConditionStatus::False, Reason::ExpiresEarlier),
        ("2027-05-01T00:00:00Z", ConditionStatus::False, Reason::ExpiresEarlier),
        ("2028-11-28T10:00:00Z", ConditionStatus::False, Reason::ExpiresLater),
    ] {
        let (is, reason, message) = said(&read_before("Check", at_entra));
        assert_eq!((is, reason), (status, expected), "{at_entra}");
        assert!(message.contains(at_entra) && message.contains(&rfc3339(expiry())), "{message}");
    }
}

#[test]
fn a_given_time_of_day_must_not_be_later_than_the_one_at_entra() {
    let mut observed = read_before("Check", "2027-11-28T10:00:00Z");
    let Source::Usable(source) = &mut observed.source else { panic!() };
    source.expires_at = Some("2027-11-28T10:00:01Z".parse().unwrap());
    assert_eq!(reason(&observed), Reason::ExpiresEarlier);
}

#[test]
fn a_followed_expiry_is_named() {
    let mut observed = read_before("Follow", "2027-05-01T00:00:00Z");
    let Source::Usable(source) = &mut observed.source else { panic!() };
    (source.expires_at, source.expiry_source) =
        (Some("2027-05-01T00:00:00Z".parse().unwrap()), ExpirySource::Entra);
    let (status, reason, message) = said(&observed);
    assert_eq!((status, reason), (ConditionStatus::True, Reason::ExpiryFollowed));
    assert!(message.contains("2027-05-01T00:00:00Z"), "{message}");
    observed.status.entra.as_mut().unwrap().holder = Some(SecretHolder::ServicePrincipal);
    assert!(said(&observed).2.contains("service principal"));
}

#[test]
fn a_missing_grant_is_named_and_nothing_about_the_app() {
    for (access, expected) in [
        (AppAccess::NotGranted, Reason::GrantMissing),
        (AppAccess::IdentityDeleted, Reason::IdentityNotReady),
        (AppAccess::OtherCloud, Reason::IdentityNotReady),
    ] {
        let observed = Observed { app_access: Some(access), ..with_entra("Check") };
        let (status, reason, message) = said(&observed);
        assert_eq!((status, reason), (ConditionStatus::Unknown, expected));
        assert!(message.contains("EntraIdentity agency-reader"), "{message}");
    }
    let observed = Observed { app_access: Some(AppAccess::NotGranted), ..with_entra("Check") };
    let message = said(&observed).2;
    let spec = &observed.object.spec;
    for part in ["namespace mail", spec.tenant_id.as_str(), spec.client_id.as_str()] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn identities_that_are_not_listed_yet_change_nothing() {
    let mut observed = later(&read_before("Check", "2027-05-01T00:00:00Z"));
    observed.app_access = Some(AppAccess::NotKnown);
    assert_eq!(reason(&observed), Reason::ExpiresEarlier);
    assert_eq!(
        reason(&Observed { app_access: Some(AppAccess::NotKnown), ..with_entra("Check") }),
        Reason::ReadingPending
    );
}

#[test]
fn a_reading_without_an_expiry_says_why() {
    let home = "cccccccc-aaf4-4f7c-9dc2-2c9160d1cb32";
    for (finding, expected, part) in [
        (Finding::NotFound, Reason::NoMatchingSecret, "Microsoft issues tokens"),
        (Finding::AppNotFound, Reason::ApplicationNotFound, "e1c6ac69-480e-4a17-9b85-3467967bd179"),
        (Finding::OtherTenant(home.parse().unwrap()), Reason::AppInOtherTenant, home),
    ] {
        let mut observed = with_entra("Check");
        observed.status.entra =
            Some(Box::new(EntraStatus { expires_at: None, ..reading_from("2027-01-01T00:00:00Z") }));
        let observed = after(observed, Ok(finding));
        let (status, reason, message) = said(&observed);
        assert_eq!((status, reason), (ConditionStatus::Unknown, expected));
        assert!(message.contains(part), "{message}");
        // A later reconcile without a reading says the same.
        assert_eq!(said(&later(&observed)), (status, reason, message));
    }
}

#[test]
fn ambiguity_names_the_earliest_date_and_what_is_used() {
    let ambiguous = Finding::Ambiguous { matches: 2, earliest: "2027-02-01T00:00:00Z".parse().unwrap() };
    let observed = after(read_before("Follow", "2027-05-01T00:00:00Z"), Ok(ambiguous.clone()));
    let (status, reason, message) = said(&observed);
    assert_eq!((status, reason), (ConditionStatus::Unknown, Reason::AmbiguousMatch));
    assert!(message.contains("2027-02-01T00:00:00Z") && message.contains("is used meanwhile"), "{message}");
    let mut undated = after(with_entra("Follow"), Ok(ambiguous));
    undated.status.entra = Some(Box::default());
    let Source::Usable(source) = &mut undated.source else { panic!() };
    source.expires_at = None;
    assert!(said(&undated).2.contains("nothing is registered"), "{}", said(&undated).2);
}

#[test]
fn a_failure_that_passes_is_reported_only_after_a_week() {
    let known = later(&read_before("Check", "2027-11-28T10:00:00Z"));
    for error in [GraphError::Throttled, GraphError::Unavailable, GraphError::InvalidToken] {
        let failed = after(known.clone(), Err(failure(ReadingFailure::Graph(error))));
        assert_eq!(reason(&failed), Reason::ExpiryMatches, "{error:?}");
        let mut outdated = failed;
        let before = now() - jiff::SignedDuration::from_hours(24 * 8);
        outdated.status.entra.as_mut().unwrap().last_read_time = Some(Time(before));
        assert!(is_temporary(reason(&outdated)), "{error:?}");
    }
    let temporary = failure(ReadingFailure::NoToken { is_temporary: true });
    assert_eq!(reason(&after(known.clone(), Err(temporary))), Reason::ExpiryMatches);
    let lasting = failure(ReadingFailure::NoToken { is_temporary: false });
    assert_eq!(reason(&after(known.clone(), Err(lasting))), Reason::IdentityNotReady);
    let denied = after(known, Err(failure(ReadingFailure::Graph(GraphError::Forbidden))));
    assert_eq!(reason(&denied), Reason::ReadForbidden);
    assert_eq!(reason(&later(&denied)), Reason::ReadForbidden, "until the next reading");
}

fn change(expires_at: Option<&str>, count: i32, minutes: i64) -> PendingExpiryChange {
    PendingExpiryChange {
        expires_at: expires_at.map(|at| Time(at.parse().unwrap())),
        first_read_time: Time(now() - jiff::SignedDuration::from_mins(minutes)),
        last_read_time: Time(now()),
        count,
        unknown: UnknownFields::default(),
    }
}

#[test]
fn a_change_counts_only_once_it_is_confirmed() {
    let known = later(&read_before("Check", "2027-11-28T10:00:00Z"));
    for pending in [change(None, 2, 9), change(None, 3, 4), change(Some("2027-01-01T00:00:00Z"), 1, 0)] {
        let mut observed = after(known.clone(), Ok(Finding::NotFound));
        observed.status.entra.as_mut().unwrap().pending_change = Some(Box::new(pending));
        assert_eq!(reason(&observed), Reason::ExpiryMatches);
    }
    let mut gone = after(known, Ok(Finding::NotFound));
    gone.status.entra.as_mut().unwrap().pending_change = Some(Box::new(change(None, 3, 6)));
    let (status, reason, message) = said(&gone);
    assert_eq!((status, reason), (ConditionStatus::False, Reason::EntryMissing));
    assert!(message.contains("2027-11-28T10:00:00Z"), "{message}");
    assert_eq!(self::reason(&later(&gone)), Reason::EntryMissing);
}

#[test]
fn what_was_read_about_another_secret_does_not_count() {
    let mut observed = later(&read_before("Check", "2027-05-01T00:00:00Z"));
    let Source::Usable(source) = &mut observed.source else { panic!() };
    source.reading.as_mut().unwrap().is_recorded = false;
    assert_eq!(reason(&observed), Reason::ReadingPending);
    observed.source = Source::Unusable(crate::core::model::ConditionFailure {
        reason: Reason::SecretNotFound,
        message: String::new(),
    });
    assert_eq!(reason(&observed), Reason::AwaitingSecret);
}

#[test]
fn a_found_secret_is_compared_in_the_same_reconcile() {
    let found = Finding::Found(Match {
        key_id: None,
        holder: SecretHolder::Application,
        expires_at: "2027-05-01T00:00:00Z".parse().unwrap(),
        by: MatchedBy::Hint,
    });
    let observed = after(read_before("Check", "2027-05-01T00:00:00Z"), Ok(found));
    assert_eq!(reason(&observed), Reason::ExpiresEarlier);
}

#[test]
fn only_what_a_person_cares_about_is_an_event() {
    for (reason, is_warning) in [
        (Reason::ExpiresEarlier, Some(true)),
        (Reason::EntryMissing, Some(true)),
        (Reason::GrantMissing, Some(true)),
        (Reason::ExpiresLater, Some(false)),
        (Reason::ExpiryMatches, Some(false)),
        (Reason::ReadingPending, None),
        (Reason::MicrosoftUnavailable, None),
        (Reason::AwaitingSecret, None),
    ] {
        assert_eq!(event_kind(reason), is_warning, "{reason}");
    }
}

#[test]
fn a_status_contradicts_an_access_that_it_does_not_name() {
    let said_with = |access: AppAccess| {
        let mut observed =
            Observed { app_access: Some(access), ..read_before("Check", "2027-11-28T10:00:00Z") };
        observed = later(&observed);
        observed.status
    };
    let all = [AppAccess::Granted, AppAccess::NotGranted, AppAccess::IdentityDeleted];
    for before in &all {
        let status = said_with(before.clone());
        assert!(!contradicts(&status, &AppAccess::NotKnown));
        for now in &all {
            assert_eq!(contradicts(&status, now), before != now, "{before:?} {now:?}");
        }
    }
    assert!(!contradicts(&said_with(AppAccess::OtherCloud), &AppAccess::IdentityDeleted), "the same reason");

    // A sign-in that failed has the reason of an identity that cannot be used, and is no contradiction.
    let error = failure(ReadingFailure::NoToken { is_temporary: false });
    let mut failed = after(read_before("Check", "2027-11-28T10:00:00Z"), Err(error));
    failed.status.entra.as_mut().unwrap().consecutive_failures = Some(1);
    let status = later(&failed).status;
    assert!(!contradicts(&status, &AppAccess::Granted) && !is_denied(&status));
    let mut waiting = read_before("Check", "2027-11-28T10:00:00Z");
    waiting.source = Source::Unusable(crate::core::model::ConditionFailure {
        reason: Reason::SecretNotFound,
        message: String::new(),
    });
    assert!(!contradicts(&later(&waiting).status, &AppAccess::NotGranted), "it says nothing about the app");
}
