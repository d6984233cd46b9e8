//! The condition `ExpiryConfirmed`: how the expiry that is used compares with the one at Microsoft Entra.

use jiff::{SignedDuration, Timestamp};

use crate::api::conditions::{Condition, ConditionType, Desired, Reason, find};
use crate::api::timestamp::rfc3339;
use crate::api::{EntraStatus, ExpiryMode, MicrosoftGraphCredentialStatus, SecretHolder};
use crate::core::app_reading::{
    AppAccess, Finding, OUTDATED_AFTER, ReadingError, ReadingFailure, is_confirmed,
};
use crate::core::clock;
use crate::core::graph_error::GraphError;
use crate::core::model::{Observed, Source};
use crate::core::timing::Timing;

const TYPE: ConditionType = ConditionType::ExpiryConfirmed;

/// In seconds.
const DAY: i64 = 86_400;

/// Whether the operator continues without a person.
pub fn is_temporary(reason: Reason) -> bool {
    matches!(reason, Reason::ReadingPending | Reason::RateLimited | Reason::MicrosoftUnavailable)
}

/// Whether a change to this reason is reported with an event, and whether that is a warning.
pub fn event_kind(reason: Reason) -> Option<bool> {
    match reason {
        Reason::ExpiryMatches | Reason::ExpiryFollowed | Reason::ExpiresLater => Some(false),
        Reason::AwaitingSecret => None,
        reason => (!is_temporary(reason)).then_some(true),
    }
}

/// Whether the condition says that the app may not be read, because of the identity or its grants.
pub fn is_denied(status: &MicrosoftGraphCredentialStatus) -> bool {
    let has_failed = status.entra.as_deref().is_some_and(|entra| entra.consecutive_failures.is_some());
    match reason_of(status) {
        Some(Reason::GrantMissing) => true,
        // A sign-in that failed has the same reason.
        Some(Reason::IdentityNotReady) => !has_failed,
        _ => false,
    }
}

/// Whether the condition says something else about the access than what it is, for example because the grants changed
/// while the operator did not run.
pub fn contradicts(status: &MicrosoftGraphCredentialStatus, access: &AppAccess) -> bool {
    let of_reading = reason_of(status).filter(|reason| *reason != Reason::AwaitingSecret);
    let of_rotation = find(&status.conditions, ConditionType::RotationReady).and_then(Condition::as_desired);
    let differs = |reason: Reason, is_denied: bool| match access {
        AppAccess::NotKnown => false,
        AppAccess::Granted => is_denied,
        AppAccess::IdentityDeleted | AppAccess::OtherCloud => reason != Reason::IdentityNotReady,
        AppAccess::NotGranted => reason != Reason::GrantMissing,
    };
    of_reading.is_some_and(|reason| differs(reason, is_denied(status)))
        || of_rotation.is_some_and(|it| differs(it.reason, it.reason == Reason::GrantMissing))
}

fn reason_of(status: &MicrosoftGraphCredentialStatus) -> Option<Reason> {
    Some(find(&status.conditions, TYPE)?.as_desired()?.reason)
}

/// The condition; `None` without `spec.entra`.
pub fn condition(observed: &Observed, timing: &Timing, now: Timestamp) -> Option<Desired> {
    let mode = observed.object.spec.expiry_mode()?;
    let previous = find(&observed.status.conditions, TYPE).and_then(Condition::as_desired);
    match &observed.source {
        Source::NotRead => return previous,
        Source::Unusable(_) => {
            let text = "there is no usable client secret to compare";
            return Some(Desired::unknown(TYPE, Reason::AwaitingSecret, text));
        }
        Source::Usable(_) => {}
    }
    let desired = match access_problem(observed) {
        Some((reason, text)) => unknown(observed, reason, &text),
        None if observed.app_access == Some(AppAccess::NotKnown) => {
            previous.unwrap_or_else(|| pending(observed))
        }
        None => {
            // What was said about another secret does not apply to this one.
            let previous = previous.filter(|_| observed.last_reading().is_some());
            after_reading(observed, mode, previous, timing, now)
        }
    };
    Some(desired)
}

/// Why the app is not read, although an identity is named.
pub fn access_problem(observed: &Observed) -> Option<(Reason, String)> {
    let spec = &observed.object.spec;
    let identity = spec.entra.as_ref().map(|entra| entra.identity_ref.name.as_str()).unwrap_or_default();
    Some(match observed.app_access.as_ref()? {
        AppAccess::Granted | AppAccess::NotKnown => return None,
        AppAccess::IdentityDeleted => (
            Reason::IdentityNotReady,
            format!(
                "EntraIdentity {identity} is being deleted: ask the operator's administrator, or fix spec.entra.identityRef.name"
            ),
        ),
        AppAccess::OtherCloud => (
            Reason::IdentityNotReady,
            format!(
                "EntraIdentity {identity} is for another cloud than {}: use an identity of the tenant's cloud",
                spec.cloud().as_str()
            ),
        ),
        AppAccess::NotGranted => (
            Reason::GrantMissing,
            format!(
                "there is no EntraIdentity {identity} with a grant for namespace {}, tenantId {} and clientId {}, so nothing was read: ask the operator's administrator to add the grant to the identity's spec.grants, or fix spec.entra.identityRef.name",
                observed.object.namespace_name(),
                spec.tenant_id,
                spec.client_id
            ),
        ),
    })
}

fn after_reading(
    observed: &Observed,
    mode: ExpiryMode,
    previous: Option<Desired>,
    timing: &Timing,
    now: Timestamp,
) -> Desired {
    let Some(entra) = observed.last_reading() else { return pending(observed) };
    let Some(reading) = &observed.results.reading else {
        let is_about_reading = |it: &Desired| {
            use Reason::{AwaitingSecret, GrantMissing, IdentityNotReady};
            !matches!(it.reason, GrantMissing | IdentityNotReady | AwaitingSecret)
        };
        // The status does not say why the last reading found no expiry.
        return match previous.filter(is_about_reading) {
            Some(previous) if !is_compared(previous.reason) => previous,
            previous => compared(observed, entra, mode, previous, timing),
        };
    };
    match &reading.result {
        Err(error) => failed(observed, entra, error, previous, now),
        Ok(Finding::Ambiguous { matches, earliest }) => {
            let text = format!(
                "{matches} client secrets of the app at Entra can be this one, and the earliest of them expires at {}: remove those that are not used",
                rfc3339(*earliest)
            );
            unknown(observed, Reason::AmbiguousMatch, &text)
        }
        Ok(finding @ (Finding::OtherTenant(_) | Finding::AppNotFound)) => not_found(observed, finding),
        Ok(finding) if entra.expires_at.is_none() => not_found(observed, finding),
        Ok(_) => compared(observed, entra, mode, previous, timing),
    }
}

/// Whether the reason comes from a comparison of dates.
fn is_compared(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ExpiryMatches
            | Reason::ExpiryFollowed
            | Reason::ExpiresEarlier
            | Reason::ExpiresLater
            | Reason::EntryMissing
    )
}

fn not_found(observed: &Observed, finding: &Finding) -> Desired {
    let client = &observed.object.spec.client_id;
    match finding {
        Finding::OtherTenant(home) => {
            let text = format!(
                "the app belongs to tenant {home}, where its client secrets are, and its service principal in this tenant does not have this one: its expiry cannot be read here"
            );
            unknown(observed, Reason::AppInOtherTenant, &text)
        }
        Finding::AppNotFound => {
            let text = format!(
                "Microsoft Graph shows no app {client} in the tenant to the identity: check clientId and tenantId, and the identity's permissions"
            );
            unknown(observed, Reason::ApplicationNotFound, &text)
        }
        Finding::Found(_) => {
            let text = "the only client secret of the app at Entra is probably this one; the operator reads the app again before its expiry counts";
            unknown(observed, Reason::ReadingPending, text)
        }
        Finding::Ambiguous { .. } | Finding::NotFound => {
            let text = "no client secret of the app at Entra matches this one, although Microsoft issues tokens for it; a new one may show up in some minutes";
            unknown(observed, Reason::NoMatchingSecret, text)
        }
    }
}

fn failed(
    observed: &Observed,
    entra: &EntraStatus,
    error: &ReadingError,
    previous: Option<Desired>,
    now: Timestamp,
) -> Desired {
    let identity =
        observed.object.spec.entra.as_ref().map(|it| it.identity_ref.name.as_str()).unwrap_or_default();
    let (reason, text) = match &error.cause {
        ReadingFailure::NoToken { is_temporary: false } => (
            Reason::IdentityNotReady,
            format!("EntraIdentity {identity} gets no token for the tenant: see its conditions"),
        ),
        ReadingFailure::Graph(GraphError::Forbidden) => (
            Reason::ReadForbidden,
            format!(
                "Microsoft Graph does not let EntraIdentity {identity} read the app: grant it the application permission Application.Read.All or Application.ReadWrite.OwnedBy with admin consent in tenant {}",
                observed.object.spec.tenant_id
            ),
        ),
        ReadingFailure::Graph(GraphError::Throttled) => {
            (Reason::RateLimited, "Microsoft Graph limits the rate of requests; the operator retries automatically".into())
        }
        ReadingFailure::Graph(GraphError::Rejected(status)) => (
            Reason::ReadForbidden,
            format!("Microsoft Graph rejects the request to read the app with HTTP status {status}: see the operator's log"),
        ),
        ReadingFailure::NoToken { is_temporary: true }
        | ReadingFailure::Graph(GraphError::Unavailable | GraphError::InvalidToken | GraphError::NotFound) => (
            Reason::MicrosoftUnavailable,
            "Microsoft Graph could not be reached or returned an error; the operator retries automatically".into(),
        ),
    };
    let is_recent = entra
        .last_read_time
        .as_ref()
        .and_then(|last| clock::happened(last.0, now))
        .is_some_and(|last| last + OUTDATED_AFTER > now);
    match previous {
        // Most failures end before anyone needs to know.
        Some(previous) if is_temporary(reason) && is_recent => previous,
        _ => unknown(observed, reason, &text),
    }
}

fn pending(observed: &Observed) -> Desired {
    unknown(observed, Reason::ReadingPending, "the app has not been read at Microsoft Entra yet")
}

/// A condition Unknown, which says what is used meanwhile.
fn unknown(observed: &Observed, reason: Reason, text: &str) -> Desired {
    let used = observed.usable_source().and_then(|source| source.expires_at);
    let meanwhile = match (observed.object.spec.follows_entra(), used) {
        (false, _) => String::new(),
        (true, Some(used)) => {
            format!("; the last expiry that was read, {}, is used meanwhile", rfc3339(used))
        }
        (true, None) => "; nothing is registered before the expiry is known".to_owned(),
    };
    Desired::unknown(TYPE, reason, format!("{text}{meanwhile}"))
}

/// The comparison with what was last read. A change that was not read often enough does not count.
fn compared(
    observed: &Observed,
    entra: &EntraStatus,
    mode: ExpiryMode,
    previous: Option<Desired>,
    timing: &Timing,
) -> Desired {
    let given = observed.usable_source().and_then(|source| source.expires_at);
    let (Some(at_entra), Some(given)) = (entra.expires_at.as_ref().map(|at| at.0), given) else {
        return pending(observed);
    };
    match entra.pending_change.as_deref() {
        Some(change) if is_confirmed(change, timing) && change.expires_at.is_none() => {
            return missing(entra, at_entra, mode);
        }
        Some(_) if previous.is_some() => return previous.unwrap_or_else(|| pending(observed)),
        Some(_) | None => {}
    }
    let (ours, theirs) = (rfc3339(given), rfc3339(at_entra));
    let place = place(entra);
    match mode {
        ExpiryMode::Follow => Desired::met(
            TYPE,
            Reason::ExpiryFollowed,
            format!("the expiry at Entra is used: {theirs}{place}"),
        ),
        ExpiryMode::Check => match compare(given, at_entra) {
            Comparison::Same => Desired::met(
                TYPE,
                Reason::ExpiryMatches,
                format!("the given expiry {ours} matches the one at Entra, {theirs}{place}"),
            ),
            Comparison::EarlierAtEntra => Desired::unmet(
                TYPE,
                Reason::ExpiresEarlier,
                format!(
                    "at Entra the client secret expires at {theirs}{place}, earlier than the given expiry {ours}: correct the given expiry, and create a new client secret in time"
                ),
            ),
            Comparison::LaterAtEntra => Desired::unmet(
                TYPE,
                Reason::ExpiresLater,
                format!(
                    "at Entra the client secret expires at {theirs}{place}, later than the given expiry {ours}: correct the given expiry"
                ),
            ),
        },
    }
}

fn missing(entra: &EntraStatus, at_entra: Timestamp, mode: ExpiryMode) -> Desired {
    let used = if mode == ExpiryMode::Follow { ", which is still used" } else { "" };
    let text = format!(
        "Entra no longer shows the client secret, whose expiry was {}{}{used}: it was removed, or will be; create a new one",
        rfc3339(at_entra),
        place(entra)
    );
    Desired::unmet(TYPE, Reason::EntryMissing, text)
}

/// Where a secret is that the Entra admin center does not show.
fn place(entra: &EntraStatus) -> &'static str {
    match entra.holder {
        Some(SecretHolder::ServicePrincipal) => " (on the service principal)",
        Some(SecretHolder::Application) | None => "",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Same,
    EarlierAtEntra,
    LaterAtEntra,
}

/// Compares a given expiry with the one at Entra. A plain date, given as the last second of its day, means any time of that
/// day. A given expiry that is less than a day too early is close enough.
fn compare(given: Timestamp, at_entra: Timestamp) -> Comparison {
    let is_end_of_day = given.as_second().rem_euclid(DAY) == DAY - 1;
    let day = |at: Timestamp| at.as_second().div_euclid(DAY);
    if given == at_entra || is_end_of_day && day(given) == day(at_entra) {
        Comparison::Same
    } else if at_entra < given {
        Comparison::EarlierAtEntra
    } else if at_entra.duration_since(given) < SignedDuration::from_secs(DAY) {
        Comparison::Same
    } else {
        Comparison::LaterAtEntra
    }
}

#[cfg(test)]
mod tests;
