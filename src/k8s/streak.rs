//! Failures in a row: told once, and waited for ever longer.

use std::time::Duration;

use crate::backoff::{doubled, jittered};
use crate::settings::Timing;

/// The failures in a row of one thing that is tried again and again.
#[derive(Debug, Default)]
pub struct Streak {
    failures: u32,
    told: Option<String>,
}

// === impl Streak ===

impl Streak {
    /// Counts a failure. Says how long to wait, doubled with each further one, and whether it is another than the one
    /// before.
    pub fn fails(&mut self, words: &str, timing: &Timing) -> (Duration, bool) {
        self.failures = self.failures.saturating_add(1);
        let wait = doubled(timing.watch_brief, self.failures).min(timing.watch_reopen);
        let told = self.told.replace(words.to_owned());
        // Less up to a fifth, so that what failed together is not tried again together.
        (jittered(wait * 4 / 5), told.as_deref() != Some(words))
    }

    /// It works. Says whether it did not before.
    pub fn works(&mut self) -> bool {
        std::mem::take(self).failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_again_with_success() {
        let mut streak = Streak::default();
        let mut wait = || streak.fails("no", &Timing::STANDARD).0.as_secs_f64();
        for longest in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let wait = wait();
            assert!((longest * 0.75..=longest).contains(&wait), "{wait} of {longest}");
        }
        assert!(streak.works());
        assert!(!streak.works());
        assert!(streak.fails("no", &Timing::STANDARD).0 <= Duration::from_secs(1));
    }

    #[test]
    fn the_same_failure_is_told_once() {
        let mut streak = Streak::default();
        let mut is_news = |words| streak.fails(words, &Timing::STANDARD).1;
        assert_eq!([is_news("a"), is_news("a"), is_news("b"), is_news("b")], [true, false, true, false]);
        assert!(streak.works());
        assert!(streak.fails("b", &Timing::STANDARD).1);
    }
}
