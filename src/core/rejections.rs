//! Rejections of a secret for which Microsoft issued a token before. Microsoft's servers do not always agree: one may
//! reject a valid secret once, or still accept a deleted one. So such a rejection counts only after it was repeated.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{Reason, whole_second};
use crate::api::timestamp::Time;
use crate::api::{Rejections, UnknownFields};
use crate::core::diagnosis::Rejection;
use crate::core::timing::Timing;
use crate::core::{backoff, clock};

/// How many rejections in a row count as final.
pub const CONFIRMED: i32 = 4;

/// Longest verification interval after a rejection that a later token contradicted.
pub const RECHECK: Duration = Duration::from_hours(1);

/// What a response says about a secret for which a token was issued before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    Accepted,
    Rejected,
    /// A rejection that needs no confirmation.
    RejectedForGood,
}

/// Whether a rejection needs no confirmation, because the secret has expired.
pub fn is_final(rejection: &Rejection, expires_at: Timestamp, now: Timestamp) -> bool {
    rejection.reason == Reason::SecretExpired || expires_at <= now
}

/// The rejections after another response. A token after a rejection sets the count to 0, and a second token forgets the rejections.
pub fn after(
    before: Option<&Rejections>,
    evidence: Evidence,
    fingerprint: Option<&str>,
    now: Timestamp,
) -> Option<Rejections> {
    let in_a_row = before.filter(|before| before.count > 0);
    let count = match evidence {
        Evidence::Accepted => return in_a_row.map(|before| Rejections { count: 0, ..before.clone() }),
        Evidence::Rejected => in_a_row.map_or(1, |before| before.count.saturating_add(1).min(CONFIRMED)),
        Evidence::RejectedForGood => CONFIRMED,
    };
    Some(Rejections {
        fingerprint: fingerprint.map(str::to_owned),
        first_time: in_a_row.map_or_else(|| Time(whole_second(now)), |before| before.first_time.clone()),
        count,
        unknown: before.map_or_else(UnknownFields::default, |before| before.unknown.clone()),
    })
}

/// How long to wait before the next request, while the rejections are not confirmed: with the standard timing 30, 60,
/// 120 seconds.
pub fn confirmation_delay(rejections: Option<&Rejections>, timing: &Timing) -> Option<Duration> {
    let count = rejections?.count;
    (1..CONFIRMED).contains(&count).then(|| backoff::doubled(timing.confirmation_first, count.unsigned_abs()))
}

/// When the next request is due, while the rejections are not confirmed: all delays so far after the first one.
pub fn confirmation_due_at(
    rejections: Option<&Rejections>,
    timing: &Timing,
    now: Timestamp,
) -> Option<Timestamp> {
    let last = confirmation_delay(rejections, timing)?;
    let all = (last * 2).saturating_sub(timing.confirmation_first);
    let first_time = clock::began(rejections?.first_time.0, all, now);
    Some(first_time + all)
}

/// Whether a later token contradicted the last rejection.
pub fn is_contradicted(rejections: Option<&Rejections>) -> bool {
    rejections.is_some_and(|rejections| rejections.count == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_all(evidence: &[Evidence]) -> Option<Rejections> {
        let start = Timestamp::UNIX_EPOCH;
        evidence.iter().zip(0..).fold(None, |before, (evidence, minute)| {
            after(before.as_ref(), *evidence, Some("k:1"), start + Duration::from_mins(minute))
        })
    }

    #[test]
    fn rejections_are_confirmed_by_the_fourth_in_a_row() {
        use Evidence::{Accepted, Rejected, RejectedForGood};
        for (evidence, expected) in [
            (&[Accepted][..], None),
            (&[Rejected], Some((0, 1))),
            (&[Rejected, Rejected, Rejected], Some((0, 3))),
            (&[Rejected, Rejected, Rejected, Rejected, Rejected], Some((0, 4))),
            (&[RejectedForGood], Some((0, 4))),
            (&[Rejected, Rejected, Accepted], Some((0, 0))),
            (&[Rejected, Accepted, Accepted], None),
            (&[Rejected, Accepted, Rejected], Some((2, 1))),
        ] {
            let rejections = after_all(evidence);
            let summary = rejections.map(|it| (it.first_time.0.as_second() / 60, it.count));
            assert_eq!(summary, expected, "{evidence:?}");
        }
    }

    #[test]
    fn confirmation_takes_three_and_a_half_minutes() {
        let delay = |count| {
            let rejections = Rejections { count, ..after_all(&[Evidence::Rejected]).unwrap() };
            confirmation_delay(Some(&rejections), &Timing::STANDARD).map(|delay| delay.as_secs())
        };
        let delays: Vec<Option<u64>> = (0..=4).map(delay).collect();
        assert_eq!(delays, [None, Some(30), Some(60), Some(120), None]);
        let due = |count, now| {
            let rejections = Rejections { count, ..after_all(&[Evidence::Rejected]).unwrap() };
            confirmation_due_at(Some(&rejections), &Timing::STANDARD, now).map(Timestamp::as_second)
        };
        let now = Timestamp::UNIX_EPOCH;
        let times: Vec<Option<i64>> = (0..=4).map(|count| due(count, now)).collect();
        assert_eq!(times, [None, Some(30), Some(90), Some(210), None], "since the first rejection");
        let earlier = now - Duration::from_hours(24);
        assert_eq!(
            due(1, earlier),
            Some(earlier.as_second()),
            "a first rejection that is ahead of the clock"
        );
    }
}
