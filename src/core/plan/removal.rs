//! Which client secret is removed at Microsoft Entra next, and what must come before it.

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason, find};
use crate::api::{EarlierSecret, RotationStatus, UnknownSecret};
use crate::core::clock;
use crate::core::model::{Observed, OperatorPolicy};
use crate::core::plan::Step;
use crate::core::plan::rotation::RotationStep;
use crate::core::rotation::is_seen;
use crate::core::timing::Timing;

/// The removal of an earlier client secret, or what must come before it.
pub(super) fn next_removal(
    observed: &Observed,
    rotation: &RotationStatus,
    policy: &OperatorPolicy,
    now: Timestamp,
) -> Option<Step> {
    if let Some(requested) = requested_removal(observed, rotation) {
        if !may_be_registered(observed, requested) {
            return Some(Step::Rotation(RotationStep::Remove(requested.key_id.clone())));
        }
        // Once the one in use is sent again, the registration has no other one.
        return observed.current_registration().map(|_| Step::Rotation(RotationStep::Resend));
    }
    let (unused, used): (Vec<&EarlierSecret>, Vec<&EarlierSecret>) =
        rotation.earlier.iter().filter(|it| is_removable(it, now)).partition(|it| it.unused);
    if let Some(unused) = unused.first() {
        return Some(Step::Rotation(RotationStep::Remove(unused.key_id.clone())));
    }
    let earlier = used.first()?;
    // Mail depends on the current one, and a previous registration may have this one.
    let is_in_use =
        !observed.status.previous_registrations.is_empty() || observed.current_registration().is_none();
    if is_in_use || observed.object.is_deleted() {
        return None;
    }
    if !is_proven(observed, &policy.timing, now) {
        return observed.results.verification.is_none().then_some(Step::Verify);
    }
    // A client secret of a Secret is known by its token only.
    let is_shown = !observed.rotates() || is_seen(rotation, &policy.timing);
    is_shown.then(|| Step::Rotation(RotationStep::Remove(earlier.key_id.clone())))
}

fn is_removable(earlier: &EarlierSecret, now: Timestamp) -> bool {
    !earlier.kept
        && earlier.removal_time.is_none()
        && earlier.remove_after_time.as_ref().is_some_and(|at| at.0 <= now)
}

/// Whether Microsoft issued a token for the client secret in use a short time ago.
fn is_proven(observed: &Observed, timing: &Timing, now: Timestamp) -> bool {
    let verified = find(&observed.status.conditions, ConditionType::Verified)
        .is_some_and(|verified| verified.is_because(Reason::TokenIssued));
    let last = observed.status.last_verified_time.as_ref().filter(|_| verified && observed.is_same_secret());
    let earlier = last.and_then(|at| clock::happened(at.0, now));
    let this = observed.results.verification.as_ref().filter(|it| it.result.is_issued()).map(|it| it.at);
    let known = if observed.results.verification.is_some() { this } else { earlier };
    known.is_some_and(|at| at + timing.token_max_age > now)
}

/// A client secret that nothing records and that a person asks to remove.
pub(super) fn requested_removal<'a>(
    observed: &Observed,
    rotation: &'a RotationStatus,
) -> Option<&'a UnknownSecret> {
    let requested = observed.object.unknown_secrets_to_remove();
    rotation.unknown_secrets.iter().find(|it| requested.contains(&it.key_id.as_str()))
}

/// Whether Woodpecker may have that client secret: the registration was not sent since it was found.
fn may_be_registered(observed: &Observed, unknown: &UnknownSecret) -> bool {
    let Some(registration) = &observed.status.registration else { return false };
    let sent = registration.registration_time.0;
    unknown.first_seen_time.as_ref().is_none_or(|first| sent <= first.0)
}
