//! The events of a run, as a function of its seed. Groups of [`WIDTH`] runs share an environment, which
//! follows from the seed too. The kills belong to the environment. So a seed that runs alone has the same
//! edits, faults and kills.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use kit::woodpecker::Op;

use crate::kill_point::KillPoint;
use crate::kind::{Hold, Kind, holds};
use crate::outcome::{OPS, Outcome};
use crate::rng::Rng;

/// How many runs share an environment.
pub const WIDTH: u64 = 25;

/// How long edits, faults and kills go on, in milliseconds: several times the settle period of a create.
const SPAN: u64 = 9_000;

/// How long before a deleted object is spared a fault for its deletion is set up.
const BEFORE_SPARING: u64 = 500;

/// How long a kill waits for its kill point.
pub const TIMEOUT: Duration = Duration::from_secs(4);

/// A run: one account with up to three objects.
#[derive(Clone, Debug)]
pub struct Script {
    pub seed: u64,
    /// For each object whether it finds a credential to adopt.
    pub objects: Vec<Start>,
    /// The events, by milliseconds from the start.
    pub acts: Vec<(u64, Act)>,
}

/// What an object finds at the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing for its app.
    Nothing,
    /// A credential of a third party for its app.
    Foreign,
}

/// An event; objects are named by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The object is created; again, after it was deleted.
    Make(usize, Policy),
    /// Its Secret gets another secret.
    Rotate(usize),
    /// Its Secret gets the earlier secret back.
    RestoreSecret(usize),
    /// It gets another display name.
    Rename(usize),
    SetPolicy(usize, Policy),
    Suspend(usize, bool),
    Delete(usize),
    /// While it is being deleted it is changed to keep its credential, by its policy or by suspension.
    Spare(usize, Spared),
    /// The next requests of this operation have this outcome.
    InjectFault(Op, Outcome, usize),
}

/// What a deletion does at Woodpecker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Retain,
    Delete,
}

/// How an object that is being deleted keeps its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spared {
    ByPolicy,
    BySuspension,
}

/// A SIGKILL of the operator, which is restarted at once.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// When it begins to wait for its kill point, in milliseconds from the start.
    pub from: u64,
    /// The kill happens when any object of the environment reaches this kill point, or after [`TIMEOUT`].
    pub at: KillPoint,
    /// The kill happens this long after the kill point, in microseconds.
    pub lag: u64,
}

/// The state of an object for the generator.
struct Life {
    exists: bool,
    suspended: bool,
    policy: Policy,
}

/// The environment of a seed.
pub fn environment_of(seed: u64) -> u64 {
    seed / WIDTH
}

/// The seeds, by environment.
pub fn environments(seeds: Range<u64>) -> Vec<Range<u64>> {
    if seeds.is_empty() {
        return Vec::new();
    }
    let environments = environment_of(seeds.start)..=environment_of(seeds.end - 1);
    environments
        .map(|environment| (environment * WIDTH).max(seeds.start)..((environment + 1) * WIDTH).min(seeds.end))
        .collect()
}

/// Forty seeds of four environments whose kills cover every kill point.
pub fn sample() -> Vec<Range<u64>> {
    (0..4).map(|environment| environment * WIDTH..environment * WIDTH + 10).collect()
}

/// The kills of an environment. Over the environments, they cover every kill point.
pub fn kills(environment: u64) -> Vec<Kill> {
    kills_at(environment, &KillPoint::ALL)
}

/// The kills of an environment, at these kill points.
pub fn kills_at(environment: u64, kill_points: &[KillPoint]) -> Vec<Kill> {
    const EACH: u64 = 5;
    let mut rng = Rng::new(environment, 1);
    let all = kill_points.len() as u64;
    let mut from = rng.within(0..2_000);
    (0..EACH)
        .map(|n| {
            // Some follow each other quickly. Most are so far apart that the effects of one can settle before
            // the next.
            let (quick, slow) = (rng.within(50..600), rng.within(1_500..3_500));
            from += rng.pick(&[quick, slow, slow]);
            let at = kill_points[usize::try_from((environment * EACH + n) % all).unwrap()];
            Kill { from, at, lag: rng.pick(&[0, 0, 0, 500, 2_000, 8_000]) }
        })
        .collect()
}

// === impl Script ===

impl Script {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 0);
        let objects = (0..rng.within(1..4))
            .map(|_| if rng.percent(15) { Start::Foreign } else { Start::Nothing })
            .collect::<Vec<_>>();
        let mut acts = Vec::new();
        let holds = holds(environment_of(seed));
        for (index, _) in objects.iter().enumerate() {
            live(&mut rng, index, &holds, &mut acts);
        }
        inject(&mut rng, &objects, &mut acts);
        acts.sort_by_key(|(at, _)| *at);
        Self { seed, objects, acts }
    }
}

/// The edits of one object; if watches are delayed, most of them happen meanwhile.
fn live(rng: &mut Rng, index: usize, holds: &[Hold], acts: &mut Vec<(u64, Act)>) {
    let policy = rng.pick(&[Policy::Delete, Policy::Delete, Policy::Retain]);
    let mut life = Life { exists: true, suspended: false, policy };
    let mut at = rng.within(0..3_000);
    acts.push((at, Act::Make(index, policy)));
    let end = holds
        .get(2..)
        .filter(|later| !later.is_empty() && rng.percent(60))
        .map(|later| &later[usize::try_from(rng.within(0..later.len() as u64)).unwrap()]);
    let last = end.map_or(SPAN, |hold| hold.from - 800);
    for _ in 0..rng.within(0..9) {
        let (soon, later) = (rng.within(1..300), rng.within(300..2_500));
        at += rng.pick(&[soon, later]);
        let next = holds.iter().find(|hold| hold.from > at);
        if let Some(hold) = next.filter(|_| rng.percent(60)) {
            at = hold.from + rng.within(5..200);
        }
        if at >= last {
            break;
        }
        acts.push((at, life.next(rng, index)));
    }
    if let Some(hold) = end.filter(|_| life.exists) {
        spare(rng, index, &life, hold.from, acts);
        return;
    }
    if life.suspended {
        acts.push((SPAN, Act::Suspend(index, false)));
    }
    // By then most are registered, so there is something to lose.
    match rng.within(0..100) {
        0..40 if life.exists => acts.push((SPAN + rng.within(1..1_000), Act::Delete(index))),
        40..70 => acts.push((SPAN + rng.within(1..1_000), Act::Rotate(index))),
        _ => {}
    }
}

/// The operator sees that the object is deleted. It does not see that the object must keep its credential,
/// because its watches are delayed from `hold` on.
fn spare(rng: &mut Rng, index: usize, life: &Life, hold: u64, acts: &mut Vec<(u64, Act)>) {
    let ready = hold - 700;
    if life.suspended {
        acts.push((ready, Act::Suspend(index, false)));
    }
    if life.policy != Policy::Delete {
        acts.push((ready, Act::SetPolicy(index, Policy::Delete)));
    }
    acts.push((hold - rng.within(20..200), Act::Delete(index)));
    let how = rng.pick(&[Spared::ByPolicy, Spared::BySuspension]);
    acts.push((hold + rng.within(5..300), Act::Spare(index, how)));
}

/// The faults of the account: some at any time, and some for the request that an edit leads to.
fn inject(rng: &mut Rng, objects: &[Start], acts: &mut Vec<(u64, Act)>) {
    let mut wanted: Vec<(u64, Op)> =
        (0..rng.within(0..4)).map(|_| (rng.within(0..SPAN), rng.pick(&OPS))).collect();
    for (at, act) in acts.iter() {
        let op = match act {
            Act::Make(..) => rng.pick(&[Op::List, Op::Create, Op::Create, Op::Rename]),
            Act::Rotate(_) | Act::RestoreSecret(_) => Op::Update,
            Act::Rename(_) => Op::Rename,
            // With the second, a failed deletion is repeated after the object has changed.
            Act::Delete(_) | Act::Spare(..) => Op::Delete,
            Act::SetPolicy(..) | Act::Suspend(..) | Act::InjectFault(..) => continue,
        };
        if matches!(act, Act::Spare(..)) {
            wanted.push((at.saturating_sub(BEFORE_SPARING), op));
        } else if rng.percent(40) {
            wanted.push((*at, op));
        }
    }
    for (at, op) in wanted {
        let mut outcome = rng.pick(&Outcome::of(op));
        while !is_fair(op, outcome, objects, acts) {
            outcome = rng.pick(&Outcome::of(op));
        }
        acts.push((at.saturating_sub(1), Act::InjectFault(op, outcome, rng.pick(&[1, 1, 1, 2, 3]))));
    }
}

/// Whether a correct operator can still reach the right result.
fn is_fair(op: Op, outcome: Outcome, objects: &[Start], acts: &[(u64, Act)]) -> bool {
    let has = |is_so: fn(&Act) -> bool| acts.iter().any(|(_, act)| is_so(act));
    match (op, outcome) {
        // An empty list makes the operator create a credential although there is one to adopt. It also makes
        // it believe that a lost create had no effect, so it releases a deleted object. And for a credential
        // that the list lacks it sends a rename, which may take effect late and bring back an earlier name.
        (Op::List, Outcome::ListsNothing) => {
            let late =
                |act: &Act| matches!(act, Act::InjectFault(Op::Rename, outcome, _) if outcome.is_late());
            !objects.contains(&Start::Foreign) && !has(|act| matches!(act, Act::Delete(_))) && !has(late)
        }
        // A create that takes effect after every wait, when the object is deleted, cannot be cleaned up.
        (Op::Create, Outcome::LateAfterSettle) => !has(|act| matches!(act, Act::Delete(_))),
        // A change that overwrites a later one after every wait cannot be noticed.
        (Op::Update, Outcome::LateAfterSettle) => {
            !has(|act| matches!(act, Act::Rotate(_) | Act::RestoreSecret(_)))
        }
        (Op::Rename, Outcome::LateAfterSettle) => {
            !has(|act| matches!(act, Act::Rename(_) | Act::InjectFault(Op::List, Outcome::ListsNothing, _)))
        }
        (Op::Rename, Outcome::LateBeforeSettle) => {
            !has(|act| matches!(act, Act::InjectFault(Op::List, Outcome::ListsNothing, _)))
        }
        _ => true,
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
            0..25 => Act::Rotate(index),
            25..35 => Act::RestoreSecret(index),
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
        for Hold { from, lasts, of_leader, path } in holds(environment_of(self.seed)) {
            writeln!(f, "{from:>5} ms watches {path:?} delayed for {lasts} ms, of the leader: {of_leader}")?;
        }
        if Kind::of(environment_of(self.seed)) == Kind::Restored {
            writeln!(
                f,
                "{:>5} ms saved, and restored at the end",
                crate::kind::saved_at(environment_of(self.seed))
            )?;
        }
        for kill in kills(environment_of(self.seed)) {
            writeln!(f, "{:>5} ms SIGKILL at {:?} + {} µs", kill.from, kill.at, kill.lag)?;
        }
        Ok(())
    }
}

#[test]
fn a_seed_determines_the_script() {
    for seed in 0..200 {
        let (one, other) = (Script::new(seed), Script::new(seed));
        assert_eq!(one.to_string(), other.to_string());
        assert!(one.acts.is_sorted_by_key(|(at, _)| *at));
    }
    assert_ne!(Script::new(1).to_string(), Script::new(2).to_string());
}

#[test]
fn four_environments_cover_every_kill_point() {
    for all in [&KillPoint::ALL, &KillPoint::ROTATION] {
        let kills = (0..4).flat_map(|environment| kills_at(environment, all));
        let covered: std::collections::BTreeSet<KillPoint> = kills.map(|it| it.at).collect();
        assert_eq!(covered.len(), all.len());
    }
}
