//! Random numbers that depend only on a seed, so that a run can be repeated. `SplitMix64`: Steele, Lea,
//! Flood, "Fast splittable pseudorandom number generators", 2014.

use std::ops::Range;

/// A sequence of numbers.
pub struct Rng(u64);

// === impl Rng ===

impl Rng {
    /// The sequence of this seed; `purpose` distinguishes the sequences that one seed is used for.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut mixed = Self(seed);
        let start = mixed.next() ^ purpose;
        Self(start)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.within(0..100) < chance
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = self.next() % from.len() as u64;
        from[usize::try_from(index).unwrap()]
    }
}

#[test]
fn a_seed_determines_the_numbers() {
    let take = |seed, purpose| {
        let mut rng = Rng::new(seed, purpose);
        [rng.next(), rng.next(), rng.next()]
    };
    assert_eq!(take(7, 0), take(7, 0));
    assert_ne!(take(7, 0), take(8, 0));
    assert_ne!(take(7, 0), take(7, 1));
}
