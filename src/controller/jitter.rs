//! Spread that is the same for an object after every restart: drawn from its uid, not from a die.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// `duration` less up to one of its `parts`, fixed for that uid.
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
    fn the_spread_is_steady_bounded_and_wide() {
        let most = Duration::from_secs(1000);
        let draws: Vec<Duration> = (0..200).map(|n| spread(&format!("uid-{n}"), most)).collect();
        assert_eq!(spread("uid-7", most), draws[7]);
        assert!(draws.iter().all(|draw| *draw <= most));
        assert!(draws.iter().any(|draw| *draw < most / 10) && draws.iter().any(|draw| *draw > most * 9 / 10));
    }
}
