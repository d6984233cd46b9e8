//! What a reading of an app at Microsoft Entra means for the status, and when the next one is due.
//!
//! Readings lag behind changes by up to minutes, so an earlier expiry, another entry, or one that is missing, counts only after
//! three readings over five minutes. Source: terraform-provider-azuread reads a new entry five times before it
//! believes it; other programs report that counts of entries go back and forth.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::whole_second;
use crate::api::timestamp::Time;
use crate::api::{EntraStatus, PendingExpiryChange, TenantId, UnknownFields};
use crate::core::app_secrets::{Match, MatchedBy};
use crate::core::graph_error::GraphError;
use crate::core::timing::Timing;
use crate::core::{backoff, clock};

/// Readings after which a pending change counts.
const CONFIRMATIONS: i32 = 3;

/// Age of the last reading from which a failure to read is reported, although an earlier reading succeeded.
pub const OUTDATED_AFTER: Duration = Duration::from_hours(24 * 7);

/// A reading of an app, or an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When Graph responded.
    pub at: Timestamp,
    pub result: Result<Finding, ReadingError>,
}

/// What a reading found out about the client secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Found(Match),
    /// Several entries match, and expire at different times.
    Ambiguous {
        matches: usize,
        earliest: Timestamp,
    },
    /// The app has no entry that matches.
    NotFound,
    /// The application is in another tenant, and the service principal in this one has no entry that matches.
    OtherTenant(TenantId),
    /// The tenant has neither the application nor a service principal of it, as far as the identity can read.
    AppNotFound,
}

/// Why an app could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadingError {
    pub cause: ReadingFailure,
    /// The minimum wait, if the response gave one.
    pub retry_after: Option<Duration>,
}

/// Why an app could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadingFailure {
    Graph(GraphError),
    /// There is no token for the `EntraIdentity`, whose conditions say why.
    NoToken {
        /// Whether the operator continues without a person.
        is_temporary: bool,
    },
}

/// Whether an object may have its app read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppAccess {
    /// A grant of the identity names the namespace, the tenant and the client.
    Granted,
    /// The identities have not been listed since the operator started.
    NotKnown,
    /// A grant does, but the identity is being deleted.
    IdentityDeleted,
    /// A grant does, but the identity is for another cloud.
    OtherCloud,
    /// No grant does, or there is no such identity. A namespace without a grant does not learn which.
    NotGranted,
}

/// The status after a reading. `before` is about the same client secret.
pub fn after(before: EntraStatus, reading: &Reading, timing: &Timing) -> EntraStatus {
    let mut next = before;
    let at = reading.at;
    let finding = match &reading.result {
        Ok(finding) => finding,
        Err(error) => {
            let longest = timing.resync;
            return with_retry(next, at, error.retry_after.unwrap_or_default(), longest, timing);
        }
    };
    next.last_read_time = Some(Time(whole_second(at)));
    match finding {
        Finding::Found(found) => after_match(settled(next), found, at, timing),
        // Nothing is known to have changed: the regular readings show when it is no longer ambiguous.
        Finding::Ambiguous { .. } if next.expires_at.is_some() => {
            EntraStatus { pending_change: None, ..settled(next) }
        }
        Finding::NotFound if next.expires_at.is_some() => {
            with_pending_change(settled(next), None, at, timing)
        }
        // A new entry may show up minutes later, and so may an app that is hidden by a lag or a lost permission.
        Finding::Ambiguous { .. } | Finding::NotFound | Finding::OtherTenant(_) | Finding::AppNotFound => {
            // A tenth less is still a day.
            with_retry(next, at, Duration::ZERO, timing.app_reading * 10 / 9, timing)
        }
    }
}

fn after_match(before: EntraStatus, found: &Match, at: Timestamp, timing: &Timing) -> EntraStatus {
    let is_same_date = before.expires_at.as_ref().is_some_and(|known| found.expires_at == known.0);
    let is_earlier = before.expires_at.as_ref().is_some_and(|known| found.expires_at < known.0);
    // The dates of an entry never change, so another ID is another entry.
    let is_other = before.key_id.is_some() && before.key_id != found.key_id;
    let is_uncertain = found.by == MatchedBy::Elimination;
    let next = if !is_same_date && (is_earlier || is_other || is_uncertain) {
        with_pending_change(before, Some(found.expires_at), at, timing)
    } else {
        EntraStatus { pending_change: None, ..before }
    };
    if next.pending_change.as_deref().is_some_and(|pending| !is_confirmed(pending, timing)) {
        return next;
    }
    EntraStatus {
        key_id: found.key_id.clone(),
        holder: Some(found.holder),
        expires_at: Some(Time(found.expires_at)),
        pending_change: None,
        ..next
    }
}

/// Counts a reading of another expiry, or of none.
fn with_pending_change(
    before: EntraStatus,
    expires_at: Option<Timestamp>,
    at: Timestamp,
    timing: &Timing,
) -> EntraStatus {
    let now = Time(whole_second(at));
    let earlier = before.pending_change.filter(|pending| {
        pending.expires_at.as_ref().map(|at| at.0) == expires_at
            && clock::happened(pending.last_read_time.0, at).is_some()
    });
    let pending = match earlier {
        Some(pending) if is_confirmed(&pending, timing) => pending,
        // Another object has shared this reading, or the clock went back.
        Some(pending) if pending.last_read_time.0 >= now.0 => pending,
        Some(pending) => Box::new(PendingExpiryChange {
            last_read_time: now,
            count: pending.count.saturating_add(1).min(CONFIRMATIONS),
            ..*pending
        }),
        None => Box::new(PendingExpiryChange {
            expires_at: expires_at.map(Time),
            first_read_time: now.clone(),
            last_read_time: now,
            count: 1,
            unknown: UnknownFields::default(),
        }),
    };
    EntraStatus { pending_change: Some(pending), ..before }
}

/// Whether the change was read often enough over a long enough time.
pub fn is_confirmed(pending: &PendingExpiryChange, timing: &Timing) -> bool {
    let lasted = pending.last_read_time.0.duration_since(pending.first_read_time.0);
    pending.count >= CONFIRMATIONS
        && Duration::try_from(lasted).is_ok_and(|lasted| lasted >= timing.app_reading_confirmation)
}

fn settled(status: EntraStatus) -> EntraStatus {
    EntraStatus { next_attempt_time: None, consecutive_failures: None, ..status }
}

fn with_retry(
    status: EntraStatus,
    at: Timestamp,
    at_least: Duration,
    longest: Duration,
    timing: &Timing,
) -> EntraStatus {
    let failures = status.consecutive_failures.unwrap_or(0).saturating_add(1);
    let delay = backoff::doubled(timing.app_reading_retry, failures.unsigned_abs()).min(longest);
    let delay = backoff::shorten(&status.fingerprint, delay, 10).max(at_least).min(clock::LONGEST_WAIT);
    EntraStatus { next_attempt_time: Some(Time(at + delay)), consecutive_failures: Some(failures), ..status }
}

/// When the app must be read again, at the earliest. `app` is the same for all objects of one app, which therefore are
/// due at the same times and share a reading.
pub fn due_at(status: &EntraStatus, app: &str, timing: &Timing, now: Timestamp) -> Timestamp {
    if let Some(planned) = &status.next_attempt_time {
        return clock::planned(planned.0, now);
    }
    let Some(last) = status.last_read_time.as_ref().and_then(|last| clock::happened(last.0, now)) else {
        return now;
    };
    if let Some(pending) = status.pending_change.as_deref().filter(|it| !is_confirmed(it, timing)) {
        let last = clock::happened(pending.last_read_time.0, now).unwrap_or(last);
        return last + timing.app_reading_confirmation / 2;
    }
    next_slot(last, app, timing.app_reading)
}

/// The first time after `last`, and not soon after it, that is a whole number of periods after a moment that is fixed
/// for the app.
fn next_slot(last: Timestamp, app: &str, period: Duration) -> Timestamp {
    let period_ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
    let offset = i64::try_from(backoff::shorten(app, period, 1).as_millis()).unwrap_or_default();
    let from = (last + period / 10).as_millisecond();
    let since = (from - offset).rem_euclid(period_ms);
    last + period / 10 + Duration::from_millis((period_ms - since).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SecretHolder;

    const TIMING: Timing = Timing::STANDARD;

    fn now() -> Timestamp {
        "2026-11-24T08:00:00Z".parse().unwrap()
    }

    fn found(expires_at: &str) -> Finding {
        Finding::Found(Match {
            key_id: Some("ab".into()),
            holder: SecretHolder::Application,
            expires_at: expires_at.parse().unwrap(),
            by: MatchedBy::Hint,
        })
    }

    fn read(before: &EntraStatus, minutes: i64, finding: Finding) -> EntraStatus {
        let at = now() + jiff::SignedDuration::from_mins(minutes);
        after(before.clone(), &Reading { at, result: Ok(finding) }, &TIMING)
    }

    fn expiry(status: &EntraStatus) -> Option<String> {
        status.expires_at.as_ref().map(|at| at.0.to_string())
    }

    const DATE: &str = "2027-11-28T10:00:00Z";
    const EARLIER: &str = "2027-05-01T00:00:00Z";

    #[test]
    fn the_first_expiry_and_a_later_one_count_at_once() {
        let first = read(&EntraStatus::default(), 0, found(EARLIER));
        assert_eq!(expiry(&first).as_deref(), Some(EARLIER));
        assert_eq!((first.key_id.as_deref(), first.holder), (Some("ab"), Some(SecretHolder::Application)));
        assert_eq!(expiry(&read(&first, 1, found(DATE))).as_deref(), Some(DATE));
    }

    #[test]
    fn another_entry_and_one_without_a_hint_count_after_three_readings() {
        let known = read(&EntraStatus::default(), 0, found(EARLIER));
        let other = |minutes| {
            let Finding::Found(found) = found(DATE) else { panic!() };
            (minutes, Finding::Found(Match { key_id: Some("cd".into()), ..found }))
        };
        let assumed = |minutes| {
            let Finding::Found(found) = found(DATE) else { panic!() };
            (minutes, Finding::Found(Match { key_id: None, by: MatchedBy::Elimination, ..found }))
        };
        for (before, readings) in [
            (known, [other(10), other(12), other(16)]),
            (EntraStatus::default(), [assumed(10), assumed(12), assumed(16)]),
        ] {
            let start = expiry(&before);
            let [first, second, third] = readings;
            let pending = read(&read(&before, first.0, first.1), second.0, second.1);
            assert_eq!(expiry(&pending), start);
            assert_eq!(expiry(&read(&pending, third.0, third.1)).as_deref(), Some(DATE));
        }
    }

    #[test]
    fn an_ambiguous_first_reading_is_repeated_soon() {
        let ambiguous = Finding::Ambiguous { matches: 2, earliest: now() };
        let status = read(&EntraStatus::default(), 0, ambiguous);
        assert!(due_at(&status, "app", &TIMING, now()) < now() + Duration::from_mins(5));
    }

    #[test]
    fn an_earlier_expiry_counts_after_three_readings_over_five_minutes() {
        let known = read(&EntraStatus::default(), 0, found(DATE));
        let mut status = known.clone();
        for (minutes, expected) in [(1, DATE), (2, DATE), (3, DATE), (5, DATE), (6, EARLIER)] {
            status = read(&status, minutes, found(EARLIER));
            assert_eq!(expiry(&status).as_deref(), Some(expected), "after {minutes} min");
        }
        assert_eq!(status.pending_change, None);
        // One reading of the known expiry starts the count again.
        let twice = read(&read(&known, 1, found(EARLIER)), 4, found(EARLIER));
        let back = read(&twice, 5, found(DATE));
        assert_eq!(back.pending_change, None);
        assert_eq!(expiry(&read(&back, 7, found(EARLIER))).as_deref(), Some(DATE));
    }

    #[test]
    fn a_missing_entry_counts_likewise_and_keeps_the_last_expiry() {
        let mut status = read(&EntraStatus::default(), 0, found(DATE));
        for (minutes, is_gone) in [(1, false), (3, false), (6, true), (90, true)] {
            status = read(&status, minutes, Finding::NotFound);
            let pending = status.pending_change.as_deref().unwrap();
            assert_eq!(is_confirmed(pending, &TIMING), is_gone, "after {minutes} min");
            assert_eq!(expiry(&status).as_deref(), Some(DATE));
        }
        assert_eq!(read(&status, 100, found(DATE)).pending_change, None);
    }

    #[test]
    fn pending_changes_are_read_again_soon_until_they_count() {
        let known = read(&EntraStatus::default(), 0, found(DATE));
        let pending = read(&known, 1, Finding::NotFound);
        let due = due_at(&pending, "app", &TIMING, now());
        assert_eq!(due.duration_since(now()).as_secs(), 60 + 150);
        let gone = read(&read(&pending, 4, Finding::NotFound), 7, Finding::NotFound);
        let then = now() + Duration::from_mins(7);
        assert!(due_at(&gone, "app", &TIMING, then) > then + Duration::from_hours(1));
    }

    #[test]
    fn failures_are_retried_with_growing_delays_and_keep_what_is_known() {
        let mut status = read(&EntraStatus::default(), 0, found(DATE));
        let known = status.clone();
        let failure = |retry_after| Reading {
            at: now(),
            result: Err(ReadingError { cause: ReadingFailure::Graph(GraphError::Unavailable), retry_after }),
        };
        let mut before = Duration::ZERO;
        for _ in 0..4 {
            status = after(status, &failure(None), &TIMING);
            let delay = due_at(&status, "app", &TIMING, now()).duration_since(now()).unsigned_abs();
            assert!(delay > before, "{delay:?} after {before:?}");
            before = delay;
        }
        assert_eq!((&status.expires_at, &status.last_read_time), (&known.expires_at, &known.last_read_time));
        let later = after(known, &failure(Some(Duration::from_hours(3))), &TIMING);
        assert_eq!(due_at(&later, "app", &TIMING, now()), now() + Duration::from_hours(3));
        for _ in 0..40 {
            status = after(status, &failure(None), &TIMING);
        }
        assert!(due_at(&status, "app", &TIMING, now()) <= now() + TIMING.resync);
    }

    #[test]
    fn a_settled_app_is_read_once_a_day_at_its_own_time_until_it_expires() {
        for date in [DATE, "2026-12-01T00:00:00Z"] {
            let mut status = read(&EntraStatus::default(), 0, found(date));
            let (mut at, mut times) = (now(), Vec::new());
            for _ in 0..10 {
                at = due_at(&status, "tenant/client", &TIMING, at);
                times.push(at);
                status = after(status, &Reading { at, result: Ok(found(date)) }, &TIMING);
            }
            let gaps: Vec<i64> =
                times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_mins()).collect();
            assert!(gaps.iter().all(|gap| (24 * 60 - 1..=24 * 60 + 1).contains(gap)), "{date} {gaps:?}");
        }
    }

    #[test]
    fn an_app_without_a_match_is_soon_read_once_a_day() {
        let mut status = EntraStatus::default();
        let (mut at, mut count) = (now(), 0);
        while at < now() + Duration::from_hours(24 * 10) {
            status = after(status, &Reading { at, result: Ok(Finding::NotFound) }, &TIMING);
            at = due_at(&status, "app", &TIMING, at);
            count += i32::from(at > now() + Duration::from_hours(24 * 3));
        }
        assert!(count <= 8, "{count} readings in seven days");
    }

    #[test]
    fn readings_of_many_apps_are_spread_over_the_day() {
        let status = read(&EntraStatus::default(), 0, found(DATE));
        let hours: std::collections::BTreeSet<i64> = (0..500)
            .map(|n| due_at(&status, &format!("tenant/{n}"), &TIMING, now()).duration_since(now()).as_hours())
            .collect();
        assert!(hours.len() >= 24, "{hours:?}");
    }

    #[test]
    fn stored_times_in_the_future_postpone_nothing() {
        let mut status = read(&EntraStatus::default(), 0, found(DATE));
        status.last_read_time = Some(Time(now() + Duration::from_hours(1000)));
        assert_eq!(due_at(&status, "app", &TIMING, now()), now());
        status.next_attempt_time = Some(Time(now() + Duration::from_hours(1000)));
        assert_eq!(due_at(&status, "app", &TIMING, now()), now());
    }
}
