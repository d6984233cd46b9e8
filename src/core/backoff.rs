//! Exponential backoff with jitter.

use std::time::Duration;

use super::timing::Timing;

/// The wait after that many consecutive failures (1 is the first): doubled each time.
pub fn doubled(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(16))
}

/// Delay after that many consecutive failures (1 is the first): doubled each time up to the longest, less up to a tenth
/// that is fixed for the object. The count and the time of the next attempt are in the object's status, so they survive
/// a restart.
pub fn delay(timing: &Timing, failures: u32, uid: &str) -> Duration {
    let grown = doubled(timing.backoff_first, failures).min(timing.backoff_longest);
    shorten(uid, grown, 10)
}

/// Delay while a new secret propagates through Entra: twice the first delay of other failures, growing to
/// twelve times it. With the standard timing 10, 20, 40, 60, 60 … seconds, fewer than ten attempts in five minutes.
pub fn propagation_delay(timing: &Timing, failures: u32) -> Duration {
    doubled(timing.backoff_first * 2, failures).min(timing.backoff_first * 12)
}

/// `duration` less up to one of its `parts`, fixed for that UID: the same after every restart.
pub fn shorten(uid: &str, duration: Duration, parts: u32) -> Duration {
    duration.saturating_sub(spread(uid, duration / parts.max(1)))
}

/// A duration between zero and `most`, fixed for that UID.
fn spread(uid: &str, most: Duration) -> Duration {
    most.mul_f64(f64::from(hash(uid)) / f64::from(u32::MAX))
}

/// FNV-1a, and a final mix so that the upper bits depend on every byte: the same in every version of the program.
fn hash(text: &str) -> u32 {
    let fnv =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mixed = (fnv ^ (fnv >> 16)).wrapping_mul(0x7feb_352d);
    let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x846c_a68b);
    mixed ^ (mixed >> 16)
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
    fn an_object_that_always_fails_sends_at_most_ten_requests_an_hour() {
        let an_hour = Timing::STANDARD.backoff_longest * 9 / 10 * 10;
        assert!(an_hour >= Duration::from_hours(1), "ten delays last {an_hour:?}");
    }

    #[test]
    fn a_propagating_secret_is_tried_fewer_than_ten_times_in_five_minutes() {
        let delays: Vec<u64> = (1..=6).map(|n| propagation_delay(&Timing::STANDARD, n).as_secs()).collect();
        assert_eq!(delays, [10, 20, 40, 60, 60, 60]);
    }

    #[test]
    fn the_jitter_is_stable_bounded_and_wide() {
        let most = Duration::from_secs(1000);
        let draws: Vec<Duration> = (0..200).map(|n| spread(&format!("uid-{n}"), most)).collect();
        assert_eq!(spread("uid-7", most), draws[7]);
        assert_eq!(hash("2f4b8a52-8c8b-4c1e-9c58-6b1a3a5b7f10"), 0x979a_7860);
        assert!(draws.iter().all(|draw| *draw <= most));
        assert!(draws.iter().any(|draw| *draw < most / 10) && draws.iter().any(|draw| *draw > most * 9 / 10));
    }
}
