//! How long to wait after failures. The count and the time of the next attempt live in the object's status,
//! so that a restart neither forgets nor multiplies them.

use std::time::Duration;

use super::jitter;
use crate::backoff::doubled;
use crate::settings::Timing;

/// Delay after the `failures`-th failure in a row (1 is the first): doubled each time up to the longest,
/// less up to a tenth that is fixed for the object.
pub fn delay(timing: &Timing, failures: u32, uid: &str) -> Duration {
    let grown = doubled(timing.backoff_first, failures).min(timing.backoff_longest);
    jitter::shorten(uid, grown, 10)
}

/// Delay while a new secret spreads through Entra: twice the first delay of other failures, growing to
/// twelve times it. With the standard timing 10, 20, 40, 60, 60 … seconds, below ten tries in five minutes.
pub fn propagation_delay(timing: &Timing, failures: u32) -> Duration {
    doubled(timing.backoff_first * 2, failures).min(timing.backoff_first * 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let seconds = |failures| delay(&Timing::STANDARD, failures, "uid").as_secs_f64();
        assert!((4.5..=5.0).contains(&seconds(1)));
        assert!((9.0..=10.0).contains(&seconds(2)));
        assert!((810.0..=900.0).contains(&seconds(20)));
        assert!((810.0..=900.0).contains(&seconds(u32::MAX)));
    }

    #[test]
    fn an_object_that_always_fails_costs_at_most_ten_calls_an_hour() {
        let an_hour = Timing::STANDARD.backoff_longest * 9 / 10 * 10;
        assert!(an_hour >= Duration::from_hours(1), "ten delays last {an_hour:?}");
    }

    #[test]
    fn propagation_is_tried_less_than_ten_times_in_five_minutes() {
        let delays: Vec<u64> = (1..=6).map(|n| propagation_delay(&Timing::STANDARD, n).as_secs()).collect();
        assert_eq!(delays, [10, 20, 40, 60, 60, 60]);
    }
}
