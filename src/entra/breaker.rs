//! Circuit breaker for endpoints at Microsoft that do not answer, because each request would block until it times out.
//!
//! After several unanswered requests in a row, one request at a time probes the endpoint. The others fail at once.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::core::backoff::doubled;
use crate::core::timing::Timing;
use crate::k8s::jitter::jittered;

/// Unanswered requests in a row that open the circuit.
const FAILURE_THRESHOLD: u32 = 5;

/// The circuit breakers of all endpoints, by their base URLs.
#[derive(Debug)]
pub(crate) struct Breaker {
    first_pause: Duration,
    /// A request that is dropped after this time counts as unanswered.
    unanswered_after: Duration,
    states: Mutex<HashMap<String, State>>,
}

/// Permission to send one request.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    breaker: &'a Breaker,
    endpoint: &'a str,
    is_probe: bool,
    since: Instant,
    is_recorded: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Unanswered requests in a row.
    failures: u32,
    pauses: u32,
    paused_until: Option<Instant>,
    is_probed: bool,
}

// === impl Breaker ===

impl Breaker {
    /// `time_out` is that of a request.
    pub(crate) fn new(timing: &Timing, time_out: Duration) -> Self {
        Self { first_pause: timing.backoff_first, unanswered_after: time_out / 3, states: Mutex::default() }
    }

    /// Allows a request to an endpoint, or returns how long to wait before the next one.
    pub(crate) fn admit<'a>(&'a self, endpoint: &'a str) -> Result<Admission<'a>, Duration> {
        let mut states = self.states.lock();
        let mut is_probe = false;
        if let Some(state) = states.get_mut(endpoint).filter(|state| state.failures >= FAILURE_THRESHOLD) {
            let remaining = state.paused_until.map(|until| until.saturating_duration_since(Instant::now()));
            if let Some(remaining) = remaining.filter(|remaining| !remaining.is_zero()) {
                return Err(remaining);
            }
            if state.is_probed {
                return Err(self.first_pause);
            }
            (state.is_probed, is_probe) = (true, true);
        }
        Ok(Admission { breaker: self, endpoint, is_probe, since: Instant::now(), is_recorded: false })
    }
}

// === impl Admission ===

impl Admission<'_> {
    /// The endpoint responded, with a token or an error.
    pub(crate) fn responded(&mut self) {
        self.is_recorded = true;
        self.breaker.states.lock().remove(self.endpoint);
    }

    pub(crate) fn got_no_response(&mut self) {
        self.is_recorded = true;
        let (now, first) = (Instant::now(), self.breaker.first_pause);
        let mut states = self.breaker.states.lock();
        let state = states.entry(self.endpoint.to_owned()).or_default();
        state.failures = state.failures.saturating_add(1);
        // Requests sent before the pause say nothing about the time after it.
        let is_paused = state.paused_until.is_some_and(|until| now < until);
        if state.failures >= FAILURE_THRESHOLD && !is_paused {
            state.pauses = state.pauses.saturating_add(1);
            state.paused_until = Some(now + jittered(doubled(first, state.pauses).min(first * 12)));
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if !self.is_recorded && self.since.elapsed() >= self.breaker.unanswered_after {
            self.got_no_response();
        }
        if let Some(state) = self.breaker.states.lock().get_mut(self.endpoint).filter(|_| self.is_probe) {
            state.is_probed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "https://one.example";

    fn broken() -> Breaker {
        let breaker = Breaker::new(&Timing::STANDARD, Timing::STANDARD.token_call);
        for _ in 0..FAILURE_THRESHOLD {
            breaker.admit(ONE).unwrap().got_no_response();
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_does_not_answer_is_probed_by_one_request_at_a_time() {
        let breaker = broken();
        let wait = breaker.admit(ONE).unwrap_err();
        assert!(wait >= Duration::from_secs(5) && wait <= Duration::from_millis(6_250), "{wait:?}");
        assert!(breaker.admit("https://other.example").is_ok(), "each endpoint has its own circuit");
        tokio::time::advance(wait).await;
        let mut probe = breaker.admit(ONE).unwrap();
        assert!(breaker.admit(ONE).is_err());
        probe.got_no_response();
        drop(probe);
        let longer = breaker.admit(ONE).unwrap_err();
        assert!(longer >= Duration::from_secs(10), "{longer:?}");
        tokio::time::advance(longer).await;
        drop(breaker.admit(ONE).unwrap());
        let mut probe = breaker.admit(ONE).unwrap();
        probe.responded();
        let (one, other) = (breaker.admit(ONE), breaker.admit(ONE));
        assert!(one.is_ok() && other.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_to_a_minute_and_earlier_requests_do_not_extend_it() {
        let breaker = Breaker::new(&Timing::STANDARD, Timing::STANDARD.token_call);
        let mut sent: Vec<_> = (0..20).map(|_| breaker.admit(ONE).unwrap()).collect();
        sent.iter_mut().for_each(Admission::got_no_response);
        for _ in 0..10 {
            let wait = breaker.admit(ONE).unwrap_err();
            assert!(wait <= Duration::from_secs(75), "{wait:?}");
            tokio::time::advance(wait).await;
            breaker.admit(ONE).unwrap().got_no_response();
        }
        assert!(breaker.admit(ONE).unwrap_err() >= Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_request_counts_as_unanswered_only_after_a_while() {
        for (waited, is_stopped) in [(Duration::from_secs(4), false), (Duration::from_secs(5), true)] {
            let breaker = Breaker::new(&Timing::STANDARD, Timing::STANDARD.token_call);
            for _ in 0..FAILURE_THRESHOLD {
                let dropped = breaker.admit(ONE).unwrap();
                tokio::time::advance(waited).await;
                drop(dropped);
            }
            assert_eq!(breaker.admit(ONE).is_err(), is_stopped, "after {waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_resets_the_count_of_failures() {
        let breaker = Breaker::new(&Timing::STANDARD, Timing::STANDARD.token_call);
        for _ in 0..10 {
            for _ in 1..FAILURE_THRESHOLD {
                breaker.admit(ONE).unwrap().got_no_response();
            }
            breaker.admit(ONE).unwrap().responded();
        }
        assert!(breaker.admit(ONE).is_ok());
    }
}
