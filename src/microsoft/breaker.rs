//! Stops requests to a token endpoint that does not answer: each of them would hold up whoever sends it until it times
//! out. After some in a row without an answer, one at a time finds out whether it answers again; the others are told at once
//! that it does not.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backoff::{doubled, jittered};
use crate::settings::Timing;

/// So many requests in a row without an answer stop the others.
const FAILURES: u32 = 5;

/// The breakers of all authorities.
#[derive(Debug)]
pub(super) struct Breaker {
    first_pause: Duration,
    /// A request that is dropped after this long counts as unanswered.
    patience: Duration,
    states: Mutex<HashMap<String, State>>,
}

/// The leave to send one request.
#[derive(Debug)]
pub(super) struct Leave<'a> {
    breaker: &'a Breaker,
    authority: &'a str,
    is_probe: bool,
    since: Instant,
    is_decided: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Requests in a row that were not answered.
    failures: u32,
    pauses: u32,
    paused_until: Option<Instant>,
    is_probed: bool,
}

// === impl Breaker ===

impl Breaker {
    pub(super) fn new(timing: &Timing) -> Self {
        Self { first_pause: timing.backoff_first, patience: timing.token_call / 3, states: Mutex::default() }
    }

    /// Lets a request go to an authority, or says how long to wait before the next one.
    pub(super) fn admit<'a>(&'a self, authority: &'a str) -> Result<Leave<'a>, Duration> {
        let mut states = self.states.lock();
        let mut is_probe = false;
        if let Some(state) = states.get_mut(authority).filter(|state| state.failures >= FAILURES) {
            let rest = state.paused_until.map(|until| until.saturating_duration_since(Instant::now()));
            if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
                return Err(rest);
            }
            if state.is_probed {
                return Err(self.first_pause);
            }
            (state.is_probed, is_probe) = (true, true);
        }
        Ok(Leave { breaker: self, authority, is_probe, since: Instant::now(), is_decided: false })
    }
}

// === impl Leave ===

impl Leave<'_> {
    /// The endpoint has answered, whatever it said.
    pub(super) fn answered(&mut self) {
        self.is_decided = true;
        self.breaker.states.lock().remove(self.authority);
    }

    pub(super) fn unanswered(&mut self) {
        self.is_decided = true;
        let (now, first) = (Instant::now(), self.breaker.first_pause);
        let mut states = self.breaker.states.lock();
        let state = states.entry(self.authority.to_owned()).or_default();
        state.failures = state.failures.saturating_add(1);
        // Requests from before the pause say nothing about the time after it.
        let is_paused = state.paused_until.is_some_and(|until| now < until);
        if state.failures >= FAILURES && !is_paused {
            state.pauses = state.pauses.saturating_add(1);
            state.paused_until = Some(now + jittered(doubled(first, state.pauses).min(first * 12)));
        }
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if !self.is_decided && self.since.elapsed() >= self.breaker.patience {
            self.unanswered();
        }
        if let Some(state) = self.breaker.states.lock().get_mut(self.authority).filter(|_| self.is_probe) {
            state.is_probed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "https://one.example";

    fn broken() -> Breaker {
        let breaker = Breaker::new(&Timing::STANDARD);
        for _ in 0..FAILURES {
            breaker.admit(ONE).unwrap().unanswered();
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_does_not_answer_is_asked_by_one_at_a_time() {
        let breaker = broken();
        let wait = breaker.admit(ONE).unwrap_err();
        assert!(wait >= Duration::from_secs(5) && wait <= Duration::from_millis(6_250), "{wait:?}");
        assert!(breaker.admit("https://other.example").is_ok(), "another one is another one");
        tokio::time::advance(wait).await;
        let mut probe = breaker.admit(ONE).unwrap();
        assert!(breaker.admit(ONE).is_err());
        probe.unanswered();
        drop(probe);
        let longer = breaker.admit(ONE).unwrap_err();
        assert!(longer >= Duration::from_secs(10), "{longer:?}");
        tokio::time::advance(longer).await;
        drop(breaker.admit(ONE).unwrap());
        let mut probe = breaker.admit(ONE).unwrap();
        probe.answered();
        let (one, other) = (breaker.admit(ONE), breaker.admit(ONE));
        assert!(one.is_ok() && other.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_to_a_minute_and_what_was_sent_before_it_does_not_lengthen_it() {
        let breaker = Breaker::new(&Timing::STANDARD);
        let mut sent: Vec<_> = (0..20).map(|_| breaker.admit(ONE).unwrap()).collect();
        sent.iter_mut().for_each(Leave::unanswered);
        for _ in 0..10 {
            let wait = breaker.admit(ONE).unwrap_err();
            assert!(wait <= Duration::from_secs(75), "{wait:?}");
            tokio::time::advance(wait).await;
            breaker.admit(ONE).unwrap().unanswered();
        }
        assert!(breaker.admit(ONE).unwrap_err() >= Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_early_says_nothing_and_late_that_there_was_no_answer() {
        for (waited, is_stopped) in [(Duration::from_secs(4), false), (Duration::from_secs(5), true)] {
            let breaker = Breaker::new(&Timing::STANDARD);
            for _ in 0..FAILURES {
                let given_up = breaker.admit(ONE).unwrap();
                tokio::time::advance(waited).await;
                drop(given_up);
            }
            assert_eq!(breaker.admit(ONE).is_err(), is_stopped, "after {waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_among_failures_begins_the_count_again() {
        let breaker = Breaker::new(&Timing::STANDARD);
        for _ in 0..10 {
            for _ in 1..FAILURES {
                breaker.admit(ONE).unwrap().unanswered();
            }
            breaker.admit(ONE).unwrap().answered();
        }
        assert!(breaker.admit(ONE).is_ok());
    }
}
