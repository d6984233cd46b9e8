//! Times that were stored earlier, as now seen. A clock that jumped, another machine's clock, a restored backup or an edit
//! can put them into the future; no stored time may postpone anything longer than it could have been planned.

use std::time::Duration;

use jiff::Timestamp;

/// How far apart the clocks of two machines may be.
pub const SKEW: Duration = Duration::from_mins(1);

/// The longest wait until a planned attempt.
pub const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// When a planned attempt is due: now, if its time is further ahead than any plan.
pub fn planned(at: Timestamp, now: Timestamp) -> Timestamp {
    if at > now + LONGEST_WAIT + SKEW { now } else { at }
}

/// When a period began: a period of which the begin is ahead counts as over.
pub fn began(at: Timestamp, period: Duration, now: Timestamp) -> Timestamp {
    if at > now + SKEW { now - period } else { at }
}

/// When something last happened: never, if its time is ahead.
pub fn happened(at: Timestamp, now: Timestamp) -> Option<Timestamp> {
    (at <= now + SKEW).then_some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::timestamp::LATEST;

    /// Any time that a status can hold.
    fn times() -> impl Strategy<Value = Timestamp> {
        let seconds = -62_135_596_800..=LATEST.as_second();
        seconds.prop_map(|second| Timestamp::from_second(second).unwrap())
    }

    /// A time at which the program may run.
    fn present() -> impl Strategy<Value = Timestamp> {
        (1_700_000_000_i64..4_000_000_000).prop_map(|second| Timestamp::from_second(second).unwrap())
    }

    proptest! {
        #[test]
        fn no_stored_time_postpones_anything_longer_than_it_could_have_been_planned(
            at in times(), now in present(), minutes in 0_u64..100_000
        ) {
            let period = Duration::from_mins(minutes);
            prop_assert!(planned(at, now) <= now + LONGEST_WAIT + SKEW);
            prop_assert!(began(at, period, now) + period <= now + period + SKEW);
            prop_assert!(happened(at, now).is_none_or(|at| at + period <= now + period + SKEW));
        }

        #[test]
        fn a_credible_time_stays_as_it_is(now in present(), back in 0_i64..1_000_000, ahead in 0_i64..86_400) {
            let (past, next) = (now - Duration::from_secs(back.unsigned_abs()), now + Duration::from_secs(ahead.unsigned_abs()));
            prop_assert_eq!(planned(past, now), past);
            prop_assert_eq!(planned(next, now), next);
            prop_assert_eq!(began(past, LONGEST_WAIT, now), past);
            prop_assert_eq!(happened(past, now), Some(past));
        }

        #[test]
        fn a_period_of_which_the_begin_is_ahead_is_over(now in present(), ahead in 61_u64..1_000_000_000) {
            let at = now + Duration::from_secs(ahead);
            prop_assert_eq!(began(at, LONGEST_WAIT, now) + LONGEST_WAIT, now);
            prop_assert_eq!(happened(at, now), None);
        }
    }
}
