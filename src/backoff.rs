//! Waits that grow with failures in a row, and how they are spread.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::settings::Timing;

/// The wait after so many failures in a row (1 is the first): doubled each time.
pub fn doubled(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(16))
}

/// The duration, longer by up to a quarter: several operators behind one remote side must not come back at once.
pub fn jittered(duration: Duration) -> Duration {
    let mut random = [0_u8; 1];
    // Without randomness there is no jitter, which is no harm.
    let _without = getrandom::fill(&mut random);
    duration + duration.mul_f64(f64::from(random[0]) / 255.0 / 4.0)
}

/// Delay after the `failures`-th failure in a row (1 is the first): doubled each time up to the longest,
/// less up to a tenth that is fixed for the object. The count and the time of the next attempt live in the object's status,
/// so that a restart neither forgets nor multiplies them.
pub fn delay(timing: &Timing, failures: u32, uid: &str) -> Duration {
    let grown = doubled(timing.backoff_first, failures).min(timing.backoff_longest);
    shorten(uid, grown, 10)
}

/// Delay while a new secret spreads through Entra: twice the first delay of other failures, growing to
/// twelve times it. With the standard timing 10, 20, 40, 60, 60 … seconds, below ten tries in five minutes.
pub fn propagation_delay(timing: &Timing, failures: u32) -> Duration {
    doubled(timing.backoff_first * 2, failures).min(timing.backoff_first * 12)
}

/// `duration` less up to one of its `parts`, fixed for that uid: the same after every restart.
pub fn shorten(uid: &str, duration: Duration, parts: u32) -> Duration {
    duration.saturating_sub(spread(uid, duration / parts.max(1)))
}

/// A duration between zero and `most`, fixed for that uid.
fn spread(uid: &str, most: Duration) -> Duration {
    let digest = Sha256::digest(uid.as_bytes());
    let draw = digest.iter().take(4).fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    most.mul_f64(f64::from(draw) / f64::from(u32::MAX))
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

    #[test]
    fn the_spread_is_steady_bounded_and_wide() {
        let most = Duration::from_secs(1000);
        let draws: Vec<Duration> = (0..200).map(|n| spread(&format!("uid-{n}"), most)).collect();
        assert_eq!(spread("uid-7", most), draws[7]);
        assert!(draws.iter().all(|draw| *draw <= most));
        assert!(draws.iter().any(|draw| *draw < most / 10) && draws.iter().any(|draw| *draw > most * 9 / 10));
    }
}
