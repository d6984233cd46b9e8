//! Verification at Microsoft, and delays after a rejection.

use crate::core::plan::tests::*;

#[test]
fn a_new_secret_is_verified_and_then_updates_the_same_credential() {
    let observed = rotated(&plain());
    assert_eq!(step_of(&observed), Step::Verify);
    assert_eq!(step_of(&verified(observed)), Step::Update);
}

#[test]
fn a_new_name_needs_only_a_rename_without_verification() {
    assert_eq!(step_of(&settled(&json!({"displayName": "MS Graph app"}))), Step::Rename);
}

#[test]
fn a_rejected_new_secret_never_replaces_a_registration() {
    let mut observed = seen(rotated(&plain()), Duration::from_hours(1), Reason::AwaitingPropagation);
    observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
    assert_eq!(reason(&observed), Reason::InvalidClientSecret);
    assert!(matches!(conclusion_of(&observed).requeue, Requeue::Stalled(_)));
}

#[test]
fn a_rejection_of_a_new_secret_counts_as_propagation_for_twenty_minutes() {
    for (minutes, expected) in [
        (0, Reason::AwaitingPropagation),
        (19, Reason::AwaitingPropagation),
        (20, Reason::InvalidClientSecret),
    ] {
        let mut observed = seen(fresh(&plain()), Duration::from_mins(minutes), Reason::AwaitingPropagation);
        observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
        assert_eq!(reason(&observed), expected, "{minutes} minutes");
    }
    let mut registered = settled(&plain());
    registered.results.verification = Some(rejected(Reason::SecretExpired));
    assert_eq!(reason(&registered), Reason::SecretExpired, "a registered secret has propagated before");
}

/// A settled object after so many rejections in a row.
fn rejected_before(spec: &Value, count: i32) -> Observed {
    let mut observed = settled(spec);
    observed.status.rejections = Some(Box::new(Rejections {
        fingerprint: Some("k:old".into()),
        first_time: observed.status.last_verified_time.clone().unwrap(),
        count,
        unknown: UnknownFields::default(),
    }));
    observed
}

#[test]
fn a_rejection_of_a_verified_secret_counts_after_the_fourth_in_a_row() {
    for (before, requeue) in [(0, Some(30)), (1, Some(60)), (2, Some(120)), (3, None), (4, None)] {
        let mut observed = rejected_before(&plain(), before);
        observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
        let conclusion = conclusion_of(&observed);
        let expected = match requeue {
            Some(seconds) => Requeue::Confirmation(Duration::from_secs(seconds)),
            None => Requeue::Stalled(policy().timing.stalled_probe),
        };
        assert_eq!(conclusion.requeue, expected, "{before} rejections before");
        assert_eq!(conclusion.state.is_rejection_unconfirmed(), requeue.is_some());
    }
}

#[test]
fn an_expired_secret_and_one_that_never_got_a_token_need_no_confirmation() {
    let mut expired = settled(&plain());
    if let Source::Usable(source) = &mut expired.source {
        source.expires_at = Some(now());
    }
    expired.results.verification = Some(rejected(Reason::InvalidClientSecret));
    assert_eq!(reason(&expired), Reason::InvalidClientSecret);
    let mut unverified = settled(&plain());
    unverified.status.last_verified_time = None;
    unverified.results.verification = Some(rejected(Reason::InvalidClientSecret));
    assert_eq!(reason(&unverified), Reason::InvalidClientSecret);
}

#[test]
fn rejections_of_another_secret_do_not_count() {
    let mut observed = rejected_before(&plain(), 3);
    observed.status.rejections.as_mut().unwrap().fingerprint = Some("k:older".into());
    observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
    assert_eq!(reason(&observed), Reason::RejectionUnconfirmed);
}

#[test]
fn a_pending_secret_that_got_a_token_has_its_later_rejection_confirmed() {
    let mut observed = seen(rotated(&plain()), Duration::from_hours(25), Reason::TokenIssued);
    observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
    assert_eq!(reason(&observed), Reason::RejectionUnconfirmed);
}

#[test]
fn after_a_contradicted_rejection_the_secret_is_verified_again_within_an_hour() {
    let observed = rejected_before(&json!({"verification": {"interval": "24h"}}), 0);
    let at = |minutes: u64| next_step(&observed, &policy(), now() + Duration::from_mins(minutes));
    assert!(matches!(at(50), Plan::Done(_)));
    assert_eq!(at(60), Plan::Step(Step::Verify));
}

#[test]
fn a_token_that_lost_required_roles_is_confirmed_and_newly_required_roles_are_not() {
    let spec = json!({"verification": {"requiredRoles": ["Mail.Send"]}});
    let without_roles = VerificationResult { at: now(), result: TokenResult::Issued { roles: Some(vec![]) } };
    let mut lost = settled(&spec);
    lost.status.observed_roles = Some(vec!["Mail.Send".into()]);
    lost.results.verification = Some(without_roles.clone());
    assert_eq!(reason(&lost), Reason::RejectionUnconfirmed);
    let mut newly_required = settled(&spec);
    newly_required.results.verification = Some(without_roles.clone());
    assert_eq!(reason(&newly_required), Reason::RequiredRolesMissing);
    let mut after_a_stray_rejection = rejected_before(&spec, 1);
    after_a_stray_rejection.results.verification = Some(without_roles);
    assert_eq!(reason(&after_a_stray_rejection), Reason::RequiredRolesMissing);
}

#[test]
fn a_rejected_secret_is_described_by_its_form_also_while_it_may_propagate() {
    for (minutes, because, is_described) in [
        (0, Reason::InvalidClientSecret, true),
        (21, Reason::InvalidClientSecret, true),
        (0, Reason::ApplicationNotFound, false),
    ] {
        let mut observed = seen(fresh(&plain()), Duration::from_mins(minutes), Reason::AwaitingPropagation);
        if let Source::Usable(source) = &mut observed.source {
            source.form = Some(SecretForm::Quoted);
        }
        observed.results.verification = Some(rejected(because));
        let ReconcileState::NotVerified(problem) = conclusion_of(&observed).state else {
            panic!("it is rejected")
        };
        assert_eq!(problem.message.contains("quotation marks"), is_described, "{}", problem.message);
    }
}

#[test]
fn a_rejection_by_woodpecker_has_the_same_window() {
    let first = failing(verified(fresh(&plain())), Operation::Create, FailureKind::SecretRejected);
    assert_eq!(conclusion_of(&first).requeue, Requeue::Propagation(None));
    let late = seen(fresh(&plain()), Duration::from_mins(21), Reason::AwaitingPropagation);
    let late = failing(verified(late), Operation::Create, FailureKind::SecretRejected);
    assert!(matches!(conclusion_of(&late).requeue, Requeue::Stalled(_)));
}

#[test]
fn failures_at_microsoft_are_retried_with_backoff() {
    for (diagnosis, expected) in
        [(Diagnosis::Throttled, Reason::RateLimited), (Diagnosis::Unavailable, Reason::MicrosoftUnavailable)]
    {
        let mut observed = rotated(&plain());
        observed.results.verification = Some(not_issued(diagnosis));
        assert_eq!(reason(&observed), expected);
        assert_eq!(conclusion_of(&observed).requeue, Requeue::Backoff(None));
    }
}

#[test]
fn best_effort_continues_without_microsoft_but_not_after_a_rejection() {
    let best_effort = json!({"verification": {"policy": "BestEffort"}});
    let after = |verification: VerificationResult| {
        let mut observed = seen(fresh(&best_effort), Duration::from_hours(1), Reason::AwaitingPropagation);
        observed.results.verification = Some(verification);
        observed
    };
    assert_eq!(step_of(&after(not_issued(Diagnosis::Unavailable))), Step::List(MaxAge::Cached));
    for reason in [Reason::ConditionalAccessBlocked, Reason::TenantRestricted] {
        assert_eq!(step_of(&after(rejected(reason))), Step::List(MaxAge::Cached), "{reason}");
    }
    assert_eq!(reason(&after(rejected(Reason::TenantBlocked))), Reason::TenantBlocked);
    assert_eq!(reason(&after(not_issued(Diagnosis::Throttled))), Reason::RateLimited);
    assert_eq!(reason(&after(rejected(Reason::InvalidClientSecret))), Reason::InvalidClientSecret);
}

#[test]
fn disabled_verification_takes_effect_only_if_the_operator_allows_it() {
    let observed = fresh(&json!({"verification": {"policy": "Disabled"}}));
    assert_eq!(step_of(&observed), Step::Verify);
    let allowed = OperatorPolicy { allow_unverified: true, ..policy() };
    assert_eq!(next_step(&observed, &allowed, now()), Plan::Step(Step::List(MaxAge::Cached)));
}

#[test]
fn required_roles_must_be_in_the_token() {
    let with = |roles: Option<Vec<String>>| {
        let mut observed =
            fresh(&json!({"verification": {"requiredRoles": ["Mail.Send", "Mail.ReadWrite"]}}));
        observed.results.verification =
            Some(VerificationResult { at: now(), result: TokenResult::Issued { roles } });
        observed
    };
    assert_eq!(
        step_of(&with(Some(vec!["Mail.ReadWrite".into(), "Mail.Send".into()]))),
        Step::List(MaxAge::Cached)
    );
    assert_eq!(reason(&with(Some(vec!["Mail.Send".into()]))), Reason::RequiredRolesMissing);
    assert_eq!(reason(&with(None)), Reason::RequiredRolesMissing);
}

#[test]
fn a_registered_secret_is_verified_again_after_the_interval_and_at_its_expiry() {
    let observed = settled(&json!({"verification": {"interval": "24h"}}));
    let at = |hours: u64| next_step(&observed, &policy(), now() + Duration::from_hours(hours));
    assert!(matches!(at(22), Plan::Done(_)));
    assert_eq!(at(24), Plan::Step(Step::Verify));
    let expiring = settled(&json!({"verification": {"interval": "720h"}}));
    let expiry = registration().expires_at.0;
    let mut expiring = expiring;
    expiring.status.last_verified_time =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(expiry - Duration::from_hours(2)));
    assert!(matches!(next_step(&expiring, &policy(), expiry - Duration::from_secs(1)), Plan::Done(_)));
    assert_eq!(next_step(&expiring, &policy(), expiry), Plan::Step(Step::Verify));
}

#[test]
fn a_pending_secret_is_not_verified_again_while_only_its_registration_is_missing() {
    let mut observed = seen(settled(&plain()), Duration::from_mins(1), Reason::TokenIssued);
    observed.source = fresh(&plain()).source;
    let observed = seen(observed, Duration::from_mins(1), Reason::TokenIssued);
    assert_eq!(step_of(&observed), Step::Update);
}

#[test]
fn the_delay_after_a_failure_applies_until_something_changes() {
    let mut observed = seen(rotated(&plain()), Duration::from_mins(1), Reason::MicrosoftUnavailable);
    observed.status.next_verification_time =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now() + Duration::from_secs(30)));
    assert_eq!(
        conclusion_of(&observed),
        Conclusion { state: ReconcileState::Waiting, requeue: Requeue::AsPlanned }
    );
    assert_eq!(next_step(&observed, &policy(), now() + Duration::from_secs(30)), Plan::Step(Step::Verify));
    let mut edited = observed.clone();
    edited.object.metadata.generation = Some(2);
    assert_eq!(step_of(&edited), Step::Verify);
    let mut requested = observed.clone();
    requested.object.metadata.annotations =
        Some([(crate::api::RECONCILE_REQUESTED_AT.to_owned(), "now".to_owned())].into());
    assert_eq!(step_of(&requested), Step::Verify);
    let mut replaced = observed;
    if let Source::Usable(source) = &mut replaced.source {
        source.is_pending = false;
    }
    assert_eq!(step_of(&replaced), Step::Verify);
}

#[test]
fn going_back_to_the_registered_secret_does_not_wait_for_the_rejected_one() {
    let mut observed = seen(rotated(&plain()), Duration::from_hours(1), Reason::InvalidClientSecret);
    observed.status.next_verification_time =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now() + Duration::from_hours(20)));
    assert_eq!(conclusion_of(&observed).state, ReconcileState::Waiting);
    if let Source::Usable(source) = &mut observed.source {
        (source.is_pending, source.is_registered) = (false, true);
    }
    assert_eq!(step_of(&observed), Step::Verify, "the last verification was of the other secret");
    assert_eq!(conclusion_of(&verified(observed)).state, ReconcileState::UpToDate);
}

#[test]
fn newly_required_roles_are_verified_at_once() {
    let mut observed = settled(&json!({"verification": {"requiredRoles": ["Mail.Send"]}}));
    assert_eq!(step_of(&observed), Step::Verify);
    observed.status.observed_roles = Some(vec!["Mail.Send".into()]);
    assert_eq!(conclusion_of(&observed).state, ReconcileState::UpToDate);
}

#[test]
fn a_change_of_the_account_ends_the_delay_after_its_rejection() {
    let rejected_with = |reason: Reason| {
        let mut observed = seen(rotated(&plain()), Duration::from_mins(1), Reason::TokenIssued);
        let at = now() + Duration::from_hours(20);
        observed.status.next_attempt_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        let desired = crate::api::conditions::Desired {
            type_: ConditionType::Registered,
            status: crate::api::conditions::ConditionStatus::False,
            reason,
            message: "rejected".into(),
        };
        observed.status.conditions = crate::api::conditions::merge(&[], vec![desired], 1, now());
        observed.account_changed = true;
        observed
    };
    assert_eq!(step_of(&rejected_with(Reason::UpdateRejected)), Step::Update);
    assert_eq!(conclusion_of(&rejected_with(Reason::Registered)).state, ReconcileState::Waiting);
}

#[test]
fn a_verification_from_a_time_that_is_ahead_counts_as_never() {
    let mut observed = settled(&plain());
    observed.status.last_verified_time = Some(Time(now() + A_YEAR));
    assert_eq!(step_of(&observed), Step::Verify);
    observed.status.last_verified_time = Some(Time(now() + Duration::from_secs(30)));
    assert_eq!(conclusion_of(&observed).state, ReconcileState::UpToDate, "another machine's clock");
}

#[test]
fn an_attempt_that_is_planned_further_ahead_than_any_wait_is_due() {
    let mut observed = settled(&json!({"displayName": "MS Graph app"}));
    observed.status.next_attempt_time = Some(Time(now() + A_YEAR));
    assert_eq!(step_of(&observed), Step::Rename);
    observed.status.next_attempt_time = Some(Time(now() + Duration::from_hours(24)));
    assert_eq!(conclusion_of(&observed).state, ReconcileState::Waiting);
}

#[test]
fn a_propagation_that_began_at_a_time_that_is_ahead_is_over() {
    let mut observed = seen(fresh(&plain()), Duration::ZERO, Reason::AwaitingPropagation);
    observed.results.verification = Some(rejected(Reason::InvalidClientSecret));
    assert_eq!(reason(&observed), Reason::AwaitingPropagation);
    observed.status.pending_secret.as_mut().unwrap().first_seen_time = Time(now() + A_YEAR);
    assert_eq!(reason(&observed), Reason::InvalidClientSecret);
}

const A_YEAR: Duration = Duration::from_hours(24 * 365);

#[test]
fn a_registered_secret_is_verified_while_its_account_was_not_reached() {
    for target in [Target::NotReconciled(account()), Target::NotReached(account())] {
        let mut observed = settled(&plain());
        observed.target = target;
        assert_eq!(conclusion_of(&observed).state, ReconcileState::Deferred);
        observed.status.last_verified_time = Some(Time(now() - Duration::from_hours(48)));
        assert_eq!(step_of(&observed), Step::Verify);
        observed.results.verification = Some(issued());
        assert_eq!(conclusion_of(&observed).state, ReconcileState::Deferred);
        observed.results.verification = Some(rejected(Reason::SecretExpired));
        assert_eq!(reason(&observed), Reason::SecretExpired);
        let rotated = Observed { target: observed.target, ..rotated(&plain()) };
        assert_eq!(step_of(&rotated), Step::Verify);
        assert_eq!(conclusion_of(&verified(rotated)).state, ReconcileState::Deferred);
    }
}

#[test]
fn a_delay_of_the_destination_does_not_delay_a_verification() {
    let mut observed = settled(&json!({"displayName": "MS Graph app"}));
    observed.status.next_attempt_time = Some(Time(now() + Duration::from_hours(24)));
    assert_eq!(conclusion_of(&observed).state, ReconcileState::Waiting);
    observed.status.last_verified_time = Some(Time(now() - Duration::from_hours(48)));
    assert_eq!(step_of(&observed), Step::Verify);
    assert_eq!(conclusion_of(&verified(observed.clone())).state, ReconcileState::Deferred);
    observed.status.next_verification_time = Some(Time(now() + Duration::from_mins(5)));
    assert_eq!(conclusion_of(&observed).state, ReconcileState::Waiting, "the last one failed");
}
