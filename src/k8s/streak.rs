//! Back-off and deduplicated logging of failures in a row.

use std::time::Duration;

use crate::core::backoff::doubled;
use crate::core::timing::Timing;
use crate::k8s::jitter::jittered;

/// The failures in a row of one operation that is retried.
#[derive(Debug, Default)]
pub struct FailureStreak {
    failures: u32,
    last_error: Option<String>,
}

// === impl FailureStreak ===

impl FailureStreak {
    /// Counts a failure. Returns how long to wait, which doubles with each further one, and whether its text differs
    /// from the last one's.
    pub fn record_failure(&mut self, error: &str, timing: &Timing) -> (Duration, bool) {
        self.failures = self.failures.saturating_add(1);
        let wait = doubled(timing.watch_brief, self.failures).min(timing.watch_reopen);
        let last_error = self.last_error.replace(error.to_owned());
        // Jitter of up to a fifth, so that operations that failed together are not retried together.
        (jittered(wait * 4 / 5), last_error.as_deref() != Some(error))
    }

    /// Resets the count. Returns whether the operation failed before.
    pub fn record_success(&mut self) -> bool {
        std::mem::take(self).failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_success() {
        let mut streak = FailureStreak::default();
        let mut wait = || streak.record_failure("no", &Timing::STANDARD).0.as_secs_f64();
        for longest in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let wait = wait();
            assert!((longest * 0.75..=longest).contains(&wait), "{wait} of {longest}");
        }
        assert!(streak.record_success());
        assert!(!streak.record_success());
        assert!(streak.record_failure("no", &Timing::STANDARD).0 <= Duration::from_secs(1));
    }

    #[test]
    fn a_repeated_failure_is_not_new() {
        let mut streak = FailureStreak::default();
        let mut is_new = |error| streak.record_failure(error, &Timing::STANDARD).1;
        assert_eq!([is_new("a"), is_new("a"), is_new("b"), is_new("b")], [true, false, true, false]);
        assert!(streak.record_success());
        assert!(streak.record_failure("b", &Timing::STANDARD).1);
    }
}
