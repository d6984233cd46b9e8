//! The kinds of environments, as functions of their number. In a third of them one operator's watches are
//! delayed at times, and in some the API server is restored to an earlier state.

use kit::api_proxy::WriteFailure;

use crate::rng::Rng;

/// What happens in an environment besides faults and kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Plain,
    DelayedWatches,
    Restored,
}

/// A period in which one operator receives nothing from its watches, or from some of them.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Start, in milliseconds after the environment's start.
    pub from: u64,
    /// Duration; at most one minute by the operators' clocks.
    pub lasts: u64,
    /// Whether it is for the operator that is usually the leader.
    pub of_leader: bool,
    /// The watches: those whose path contains this.
    pub path: &'static str,
}

/// Writes of all operators to the API server that fail.
#[derive(Clone, Debug)]
pub struct FailedWrites {
    /// From when on, in milliseconds after the environment's start.
    pub from: u64,
    pub path: &'static str,
    pub failure: WriteFailure,
    pub times: usize,
}

// === impl Kind ===

impl Kind {
    pub fn of(environment: u64) -> Self {
        match environment % 12 {
            2 => Self::Restored,
            n if n % 3 == 1 => Self::DelayedWatches,
            _ => Self::Plain,
        }
    }
}

/// The delays of an environment, one after the other.
pub fn holds(environment: u64) -> Vec<Hold> {
    const EACH: u64 = 5;
    if Kind::of(environment) != Kind::DelayedWatches {
        return Vec::new();
    }
    let mut rng = Rng::new(environment, 2);
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

/// The writes of records and objects that fail in an environment.
pub fn failed_writes(environment: u64) -> Vec<FailedWrites> {
    const EACH: u64 = 6;
    const RECORDS: &str = "/sealedgraphcredentials";
    let mut rng = Rng::new(environment, 6);
    let mut from = 0;
    (0..EACH)
        .map(|_| {
            from += rng.within(300..2_500);
            FailedWrites {
                from,
                path: rng.pick(&[RECORDS, RECORDS, "/microsoftgraphcredentials"]),
                failure: rng.pick(&[
                    WriteFailure::Rejected,
                    WriteFailure::NotSent,
                    WriteFailure::ResponseLost,
                    WriteFailure::ResponseLost,
                ]),
                times: rng.pick(&[1, 1, 2, 4]),
            }
        })
        .collect()
}

/// When the state is saved to which the environment is restored, in milliseconds after its start.
pub fn saved_at(environment: u64) -> u64 {
    Rng::new(environment, 3).within(1_500..6_000)
}

#[test]
fn a_third_of_the_environments_delays_watches() {
    let count = |kind| (0..120).filter(|environment| Kind::of(*environment) == kind).count();
    assert_eq!((count(Kind::DelayedWatches), count(Kind::Restored)), (40, 10));
    assert!(
        (0..120)
            .all(|environment| (Kind::of(environment) == Kind::DelayedWatches)
                != holds(environment).is_empty())
    );
}
