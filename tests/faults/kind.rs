//! PURE: the kinds of worlds. In a third of them one operator's watches are held back now and then, and in some the API server is
//! restored to an earlier state.

use crate::rng::Rng;

/// What a world has beside faults and kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Plain,
    HeldBack,
    Restored,
}

/// A time in which one operator hears nothing from its watches, or from some of them.
#[derive(Clone, Debug)]
pub struct Hold {
    /// In milliseconds from the start.
    pub from: u64,
    /// A minute at most, by the operators' clocks.
    pub lasts: u64,
    /// Whether it is most likely the leader's.
    pub of_leader: bool,
    /// Which watches: those whose path contains this.
    pub path: &'static str,
}

// === impl Kind ===

impl Kind {
    pub fn of(world: u64) -> Self {
        match world % 12 {
            2 => Self::Restored,
            n if n % 3 == 1 => Self::HeldBack,
            _ => Self::Plain,
        }
    }
}

/// The holds of a world, one after the other.
pub fn holds(world: u64) -> Vec<Hold> {
    const EACH: u64 = 5;
    if Kind::of(world) != Kind::HeldBack {
        return Vec::new();
    }
    let mut rng = Rng::new(world, 2);
    let mut from = 0;
    (0..EACH)
        .map(|_| {
            from += rng.within(600..1_300);
            let path = rng.pick(&["", "", "/microsoftgraphcredentials"]);
            let hold = Hold { from, lasts: rng.within(600..1_501), of_leader: rng.percent(80), path };
            from += hold.lasts;
            hold
        })
        .collect()
}

/// When the state is saved that a world is restored to, in milliseconds from the start.
pub fn saved_at(world: u64) -> u64 {
    Rng::new(world, 3).within(1_500..6_000)
}

#[test]
fn a_third_of_the_worlds_is_held_back() {
    let count = |kind| (0..120).filter(|world| Kind::of(*world) == kind).count();
    assert_eq!((count(Kind::HeldBack), count(Kind::Restored)), (40, 10));
    assert!((0..120).all(|world| (Kind::of(world) == Kind::HeldBack) != holds(world).is_empty()));
}
