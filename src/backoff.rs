//! Waits that grow with failures in a row, and are longer by chance.

use std::time::Duration;

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
