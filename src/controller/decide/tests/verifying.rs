//! Proofs at Microsoft, and patience with refusals.

use super::*;

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
    assert_eq!(rests(&observed), Rest { standing: Standing::Waiting, retry: Retry::WhenCalled });
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
