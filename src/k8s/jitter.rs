//! Random jitter, so that several processes do not act at the same time.

use std::time::Duration;

/// The duration, extended by up to a quarter, so that several operators do not retry at the same time.
pub fn jittered(duration: Duration) -> Duration {
    let mut random = [0_u8; 1];
    // Without randomness there is no jitter, which is harmless.
    let _without = getrandom::fill(&mut random);
    duration + duration.mul_f64(f64::from(random[0]) / 255.0 / 4.0)
}
