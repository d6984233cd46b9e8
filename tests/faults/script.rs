//! PURE: what happens in a run, from its seed alone. Runs share an operator in worlds of [`WIDTH`], told by the seed as well,
//! and the kills are the world's: whoever plays one seed alone has the same edits, faults and kills.

use std::fmt;
use std::ops::Range;

use kit::woodpecker::Op;

use crate::moment::Moment;
use crate::outcome::{OPS, Outcome};
use crate::rng::Rng;

/// How many runs share an operator.
pub const WIDTH: u64 = 20;

/// How long edits and faults go on, in milliseconds; kills come until a moment later.
const SPAN: u64 = 4_000;

/// A run: one account with up to three objects.
#[derive(Clone, Debug)]
pub struct Script {
    pub seed: u64,
    /// For each object whether it finds a credential to take over.
    pub objects: Vec<Start>,
    /// What happens, by milliseconds from the start.
    pub acts: Vec<(u64, Act)>,
}

/// What an object finds at the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing for its app.
    Nothing,
    /// A credential that others made for its app.
    Foreign,
}

/// Something that happens; objects are told by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The object is made; once more, after it was deleted and has gone.
    Make(usize, Policy),
    /// Its Secret gets another secret.
    Rotate(usize),
    /// It gets another display name.
    Rename(usize),
    SetPolicy(usize, Policy),
    Suspend(usize, bool),
    Delete(usize),
    /// The next requests of this operation go so.
    Strike(Op, Outcome, usize),
}

/// What a deletion does at Woodpecker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Retain,
    Delete,
}

/// A SIGKILL of the operator, which is started again at once.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// When it lies in wait, in milliseconds from the start.
    pub from: u64,
    /// It strikes as soon as any object of the world comes to this moment, and at `until` at the latest.
    pub at: Moment,
    pub until: u64,
    /// It strikes so much after the moment, in microseconds.
    pub lag: u64,
}

/// What a generator must know of an object to go on.
struct Life {
    exists: bool,
    suspended: bool,
    policy: Policy,
}

/// The world that a seed belongs to.
pub fn world_of(seed: u64) -> u64 {
    seed / WIDTH
}

/// The seeds, by world.
pub fn worlds(seeds: Range<u64>) -> Vec<Range<u64>> {
    if seeds.is_empty() {
        return Vec::new();
    }
    let worlds = world_of(seeds.start)..=world_of(seeds.end - 1);
    worlds.map(|world| (world * WIDTH).max(seeds.start)..((world + 1) * WIDTH).min(seeds.end)).collect()
}

/// The kills of a world: over the worlds, each moment has its turn.
pub fn kills(world: u64) -> Vec<Kill> {
    const EACH: u64 = 10;
    let mut rng = Rng::new(world, 1);
    let all = Moment::ALL.len() as u64;
    let mut kills: Vec<Kill> = (0..EACH)
        .map(|n| {
            let from = rng.within(0..SPAN);
            let at = Moment::ALL[usize::try_from((world * EACH + n) % all).unwrap()];
            let until = match at {
                Moment::Anytime => from,
                _ => from + rng.within(100..1_500),
            };
            Kill { from, at, until, lag: rng.pick(&[0, 0, 500, 2_000, 8_000]) }
        })
        .collect();
    kills.sort_by_key(|kill| kill.from);
    kills
}

// === impl Script ===

impl Script {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 0);
        let objects = (0..rng.within(1..4))
            .map(|_| if rng.percent(15) { Start::Foreign } else { Start::Nothing })
            .collect::<Vec<_>>();
        let mut acts = Vec::new();
        for (index, _) in objects.iter().enumerate() {
            live(&mut rng, index, &mut acts);
        }
        let deletes = acts.iter().any(|(_, act)| matches!(act, Act::Delete(_)));
        strike(&mut rng, deletes, &mut acts);
        acts.sort_by_key(|(at, _)| *at);
        Self { seed, objects, acts }
    }
}

/// The edits of one object.
fn live(rng: &mut Rng, index: usize, acts: &mut Vec<(u64, Act)>) {
    let policy = rng.pick(&[Policy::Delete, Policy::Delete, Policy::Retain]);
    let mut life = Life { exists: true, suspended: false, policy };
    let mut at = rng.within(0..1_500);
    acts.push((at, Act::Make(index, policy)));
    for _ in 0..rng.within(0..6) {
        at += rng.within(5..1_200);
        if at >= SPAN {
            break;
        }
        acts.push((at, life.next(rng, index)));
    }
    if life.suspended {
        acts.push((SPAN, Act::Suspend(index, false)));
    }
}

/// The faults of the account.
fn strike(rng: &mut Rng, deletes: bool, acts: &mut Vec<(u64, Act)>) {
    for _ in 0..rng.within(0..6) {
        let op = rng.pick(&OPS);
        let mut outcome = rng.pick(&Outcome::of(op));
        // What takes effect after the object has gone, and every wait is over, nobody can clean up.
        if outcome == Outcome::LateAfterSettle && op == Op::Create && deletes {
            outcome = Outcome::LateBeforeSettle;
        }
        let times = rng.pick(&[1, 1, 1, 2, 3]);
        acts.push((rng.within(0..SPAN), Act::Strike(op, outcome, times)));
    }
}

// === impl Life ===

impl Life {
    fn next(&mut self, rng: &mut Rng, index: usize) -> Act {
        if !self.exists {
            self.exists = true;
            return Act::Make(index, self.policy);
        }
        match rng.within(0..100) {
            0..35 => Act::Rotate(index),
            35..50 => Act::Rename(index),
            50..60 => {
                self.policy = rng.pick(&[Policy::Delete, Policy::Retain]);
                Act::SetPolicy(index, self.policy)
            }
            60..75 => {
                self.suspended = !self.suspended;
                Act::Suspend(index, self.suspended)
            }
            _ => {
                self.exists = false;
                self.suspended = false;
                Act::Delete(index)
            }
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "objects: {:?}", self.objects)?;
        for (at, act) in &self.acts {
            writeln!(f, "{at:>5} ms {act:?}")?;
        }
        for kill in kills(world_of(self.seed)) {
            writeln!(f, "{:>5} ms SIGKILL at {:?} + {} µs, by {} ms", kill.from, kill.at, kill.lag, kill.until)?;
        }
        Ok(())
    }
}

#[test]
fn a_script_follows_from_its_seed() {
    for seed in 0..200 {
        let (one, other) = (Script::new(seed), Script::new(seed));
        assert_eq!(one.to_string(), other.to_string());
        assert!(one.acts.is_sorted_by_key(|(at, _)| *at));
    }
    assert_ne!(Script::new(1).to_string(), Script::new(2).to_string());
}

#[test]
fn two_worlds_kill_at_every_moment() {
    let struck: std::collections::BTreeSet<Moment> = [kills(0), kills(1)].concat().iter().map(|it| it.at).collect();
    assert_eq!(struck.len(), Moment::ALL.len());
}
