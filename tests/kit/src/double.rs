//! Test doubles of the services that the operator calls, for tests, the demo and benchmarks. They serve real
//! HTTP/1.1 on a loopback port, keep their own state, and fail on demand. They do not use the operator's types.
//! This module contains what the doubles share; [`crate::entra`], [`crate::graph`] and [`crate::woodpecker`] are
//! their public interfaces.

pub(crate) mod app_key;
pub(crate) mod body;
#[cfg(test)]
pub(crate) mod client;
pub(crate) mod entra;
pub(crate) mod graph;
pub(crate) mod handle;
pub(crate) mod http;
pub(crate) mod in_flight;
pub(crate) mod progress;
pub(crate) mod script;
mod secret;
pub(crate) mod server;
pub(crate) mod woodpecker;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

pub use self::handle::Double;
pub use self::secret::SecretText;

/// The value of the `Retry-After` header of a throttled response. It is for the client, so it is never
/// divided by the time scale. Source: RFC 9110 §10.2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Delay in seconds.
    Seconds(u64),
    /// An HTTP date this long after the response; HTTP dates have whole seconds, so the fraction is lost.
    Date(Duration),
}

/// The delays of one double, divided by its time scale.
#[derive(Debug)]
pub struct Delays(AtomicU32);

/// Takes a lock whose holder may have panicked: the state of a double stays readable after a failed assertion
/// elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl RetryAfter ===

impl RetryAfter {
    pub(crate) fn header_value(self) -> String {
        match self {
            Self::Seconds(seconds) => seconds.to_string(),
            Self::Date(from_now) => {
                let at = Timestamp::now().checked_add(from_now).unwrap_or(Timestamp::MAX);
                at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
            }
        }
    }
}

// === impl Delays ===

impl Delays {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(1))
    }

    pub(crate) fn divide_by(&self, scale: u32) {
        self.0.store(scale.max(1), Ordering::Relaxed);
    }

    pub(crate) fn scaled(&self, delay: Duration) -> Duration {
        delay / self.0.load(Ordering::Relaxed)
    }

    pub(crate) async fn pause(&self, delay: Duration) {
        if !delay.is_zero() {
            tokio::time::sleep(self.scaled(delay)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_an_http_date() {
        assert_eq!(RetryAfter::Seconds(7).header_value(), "7");

        let date = RetryAfter::Date(Duration::from_secs(3600)).header_value();
        let parsed = jiff::fmt::rfc2822::parse(&date.replace("GMT", "+0000")).expect(&date);
        let ahead = parsed.timestamp().as_second() - Timestamp::now().as_second();
        assert!(date.ends_with(" GMT"), "{date}");
        assert!((3595..=3600).contains(&ahead), "{ahead} s ahead");
    }

    #[test]
    fn the_time_scale_divides_delays_and_zero_counts_as_one() {
        let delays = Delays::new();
        assert_eq!(delays.scaled(Duration::from_secs(15)), Duration::from_secs(15));
        delays.divide_by(100);
        assert_eq!(delays.scaled(Duration::from_secs(15)), Duration::from_millis(150));
        delays.divide_by(0);
        assert_eq!(delays.scaled(Duration::from_secs(15)), Duration::from_secs(15));
    }
}
