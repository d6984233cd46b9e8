//! The events of a run of a rotation, as a function of its seed.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use kit::graph::{Fault, Op as GraphOp, Propagation, ReadLag, RetryAfter};
use kit::woodpecker::Op;

use crate::kill_point::KillPoint;
use crate::kind::{Hold, Kind, failed_writes, holds};
use crate::outcome::Outcome;
use crate::rng::Rng;
use crate::script::{Kill, Policy, WIDTH, environment_of, kills_at};

/// How long edits, faults and kills go on, in milliseconds.
const SPAN: u64 = 10_000;

/// The operations at Graph that a rotation uses.
pub const GRAPH_OPS: [GraphOp; 3] = [GraphOp::Application, GraphOp::AddPassword, GraphOp::RemovePassword];

/// The operations at Woodpecker that register a client secret.
pub const WOODPECKER_OPS: [Op; 4] = [Op::List, Op::Create, Op::Update, Op::Delete];

/// A write may take effect this long after its response was lost: while its outcome is looked for, and after that.
const SOON: Duration = Duration::from_secs(45);
const LATE: Duration = Duration::from_mins(17);

/// Until the latest effect of a write, by the double's clock.
pub const LATEST_EFFECT: Duration = Duration::from_secs(17 * 60 + 20);

/// Longer than the operator waits for Graph (15 s).
const TOO_LONG: Duration = Duration::from_secs(40);

/// A run: one app with a client secret that a person made, and one object.
#[derive(Clone, Debug)]
pub struct Script {
    pub seed: u64,
    /// What its kills and holds follow from; none for a case.
    pub environment: Option<u64>,
    pub start: Start,
    pub policy: Policy,
    /// `spec.rotation.overlap`.
    pub overlap: &'static str,
    /// The events, by milliseconds from the start.
    pub acts: Vec<(u64, Act)>,
}

/// How the object begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With rotation.
    Rotates,
    /// With the client secret that the person made, in a Secret.
    UsesSecret,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// The object is created; again, after it was deleted.
    Create,
    /// It rotates from now on, instead of using a Secret.
    Switch,
    /// A new client secret is requested, perhaps with another overlap.
    Rotate(Option<&'static str>),
    /// The next requests of the app and operation at Graph meet this fault.
    FailGraph(GraphOp, Fault, usize),
    /// The next requests of this operation at Woodpecker have this outcome.
    FailWoodpecker(Op, Outcome, usize),
    /// The next requests of each operation at Woodpecker fail.
    EndWoodpecker(usize),
    RevokeGrant,
    RestoreGrant,
    DeleteStatus,
    DeleteRecord,
    Delete,
    /// A person makes a client secret, and removes the last one so made.
    AddByHand,
    RemoveByHand,
    /// The operator of another cluster makes a client secret for its own object with the same app.
    AddInOtherCluster,
    /// Waits until the object is Ready and has no step of a rotation open.
    AwaitReady,
    /// Waits until a request has met a fault.
    AwaitFault,
}

/// How the doubles of an environment behave.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub lag: ReadLag,
    pub propagation: Propagation,
    pub write_spacing: Duration,
    /// Whether Woodpecker verifies the client secret of an update.
    pub verifies_updates: bool,
}

// === impl Conditions ===

impl Conditions {
    /// Those of an environment. A client secret counts as valid once Woodpecker's servers accept it. If Woodpecker does not
    /// verify an update, no operator can know when that is, so it propagates to both at the same time.
    pub fn of(environment: u64) -> Self {
        let mut rng = Rng::new(environment, 4);
        let mut lag = || Duration::from_secs(rng.pick(&[0, 0, 20, 60, 240]));
        let (adds, removals) = (lag(), lag());
        let tokens = Duration::from_secs(rng.pick(&[0, 0, 5, 20]));
        let verifies_updates = rng.percent(50);
        let behind = Duration::from_secs(rng.pick(&[0, 10, 20]));
        let woodpecker = if verifies_updates { tokens + behind } else { tokens };
        Self {
            lag: ReadLag { adds, removals, alternates: rng.percent(50) },
            propagation: Propagation { tokens, woodpecker, removal: Duration::ZERO },
            write_spacing: Duration::from_secs(rng.pick(&[0, 0, 5])),
            verifies_updates,
        }
    }
}

// === impl Script ===

impl Script {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 5);
        let start = rng.pick(&[Start::Rotates, Start::Rotates, Start::UsesSecret]);
        let policy = rng.pick(&[Policy::Delete, Policy::Retain]);
        let overlap = rng.pick(&["0s", "0s", "1s", "2s"]);
        let environment = Some(environment_of(seed));
        let mut script = Self { seed, environment, start, policy, overlap, acts: Vec::new() };
        script.live(&mut rng);
        script.disturb(&mut rng);
        script.fail(&mut rng);
        script.share(&mut rng);
        script.acts.sort_by_key(|(at, _)| *at);
        script
    }

    /// One fault at one step of a rotation.
    pub fn case(number: u64, fault: Act) -> Self {
        let (start, policy) = (Start::Rotates, Policy::Delete);
        let is_first = matches!(fault, Act::FailWoodpecker(Op::Create | Op::List, ..));
        let acts = if is_first {
            vec![fault, Act::Create, Act::AwaitFault]
        } else {
            vec![Act::Create, Act::AwaitReady, fault, Act::Rotate(None), Act::AwaitFault]
        };
        // Starts one after the other, because all at once would overload the machine.
        let acts = acts.into_iter().map(|act| (40 * number, act)).collect();
        Self { seed: number, environment: None, start, policy, overlap: "0s", acts }
    }

    /// Every fault of every step.
    pub fn cases() -> Vec<Self> {
        let graph = GRAPH_OPS.into_iter().flat_map(|op| {
            faults(op).into_iter().filter(|fault| *fault != Fault::ProcessedLate(LATE)).map(move |fault| {
                // The reading before a creation, and one before the removal.
                let times = if op == GraphOp::Application { 2 } else { 1 };
                Act::FailGraph(op, fault, times)
            })
        });
        let woodpecker = [Op::Create, Op::Update].into_iter().flat_map(|op| {
            let fair = outcomes(op).into_iter();
            fair.map(move |outcome| Act::FailWoodpecker(op, outcome, 1))
        });
        (0..).zip(graph.chain(woodpecker)).map(|(number, fault)| Self::case(number, fault)).collect()
    }

    /// The life of the object: it is created, perhaps switched, and its client secret is requested to rotate two or three
    /// times, mostly once the last rotation is over; sometimes it is deleted and created again.
    fn live(&mut self, rng: &mut Rng) {
        let mut at = rng.within(0..1_500);
        self.acts.push((at, Act::Create));
        if self.start == Start::UsesSecret {
            at += rng.within(300..2_500);
            self.acts.push((at, Act::Switch));
        }
        for _ in 0..rng.within(2..4) {
            let (soon, later) = (rng.within(50..600), rng.within(1_500..4_000));
            at += rng.pick(&[soon, later, later]);
            if rng.percent(60) {
                self.acts.push((at.saturating_sub(2), Act::AwaitReady));
            }
            let overlap = rng.pick(&[None, None, Some("0s"), Some("2s")]);
            self.acts.push((at, Act::Rotate(overlap)));
        }
        match rng.within(0..100) {
            0..15 => self.acts.push((at + rng.within(1..2_500), Act::Delete)),
            15..35 => {
                let deleted = at + rng.within(1..2_500);
                self.acts.push((deleted, Act::Delete));
                self.acts.push((deleted + rng.within(1..1_000), Act::Create));
            }
            _ => {}
        }
    }

    /// What people and restores do to the objects around it.
    fn disturb(&mut self, rng: &mut Rng) {
        let is_deleted = self.has(|act| *act == Act::Delete);
        if rng.percent(20) && !is_deleted {
            self.acts.push((rng.within(2_000..SPAN), Act::DeleteStatus));
        }
        if rng.percent(20) {
            self.acts.push((rng.within(2_000..SPAN), Act::DeleteRecord));
        }
        if rng.percent(20) {
            let at = rng.within(500..SPAN - 2_000);
            self.acts.push((at, Act::RevokeGrant));
            self.acts.push((at + rng.within(300..2_500), Act::RestoreGrant));
        }
        if rng.percent(40) {
            let at = rng.within(0..SPAN - 2_000);
            self.acts.push((at, Act::AddByHand));
            if rng.percent(50) {
                self.acts.push((at + rng.within(100..4_000), Act::RemoveByHand));
            }
        }
    }

    /// What the operator of another cluster does, for an object with the same app.
    fn share(&mut self, rng: &mut Rng) {
        for _ in 0..rng.pick(&[0, 0, 1, 2]) {
            self.acts.push((rng.within(0..SPAN), Act::AddInOtherCluster));
        }
    }

    /// The faults: some at any time, and some for the request that an edit leads to.
    fn fail(&mut self, rng: &mut Rng) {
        let mut wanted: Vec<u64> = (0..rng.within(0..3)).map(|_| rng.within(0..SPAN)).collect();
        let edits = self
            .acts
            .iter()
            .filter(|(_, act)| matches!(act, Act::Create | Act::Switch | Act::Rotate(_) | Act::Delete));
        let edits: Vec<u64> = edits.map(|(at, _)| at.saturating_sub(1)).collect();
        wanted.extend(edits.into_iter().filter(|_| rng.percent(60)));
        for at in wanted {
            let times = rng.pick(&[1, 1, 1, 2, 3]);
            let act = match rng.within(0..100) {
                0..70 => {
                    let op = rng.pick(&[GRAPH_OPS[0], GRAPH_OPS[1], GRAPH_OPS[1], GRAPH_OPS[2]]);
                    let all = faults(op);
                    let index = usize::try_from(rng.within(0..all.len() as u64)).unwrap();
                    Act::FailGraph(op, all[index].clone(), times)
                }
                70..93 => {
                    let op = rng.pick(&WOODPECKER_OPS);
                    let outcome = rng.pick(&outcomes(op));
                    if !self.is_fair(outcome) {
                        continue;
                    }
                    Act::FailWoodpecker(op, outcome, times)
                }
                _ => Act::EndWoodpecker(5),
            };
            self.acts.push((at, act));
        }
    }

    /// Whether a correct operator can still reach the right result.
    fn is_fair(&self, outcome: Outcome) -> bool {
        // A write that takes effect after its intent was lost, with the status or with the object, cannot be noticed.
        let takes_time = outcome.is_late() || outcome == Outcome::Slow;
        !takes_time || !self.has(|act| matches!(act, Act::DeleteStatus | Act::Delete))
    }

    pub fn has(&self, is_so: impl Fn(&Act) -> bool) -> bool {
        self.acts.iter().any(|(_, act)| is_so(act))
    }

    /// Whether a write at Graph may take effect after it is no longer looked for.
    pub fn has_late_effect(&self) -> bool {
        self.has(|act| matches!(act, Act::FailGraph(_, Fault::ProcessedLate(time), _) if *time == LATE))
    }

    /// Whether what the object knew may be lost, so that a client secret is named and not removed.
    pub fn may_lose_secrets(&self) -> bool {
        self.has(|act| matches!(act, Act::DeleteStatus | Act::DeleteRecord | Act::Delete))
    }
}

/// The faults that a request at Graph can meet.
fn faults(op: GraphOp) -> Vec<Fault> {
    let mut all = vec![
        Fault::Reset,
        Fault::Hang(TOO_LONG),
        Fault::Html503,
        Fault::Throttled(RetryAfter::Seconds(1)),
        Fault::InvalidToken,
        Fault::Forbidden,
        Fault::Slow(Duration::from_secs(8)),
        Fault::ProcessedThenReset,
        Fault::ProcessedThenTruncated,
        Fault::ProcessedThenHang(TOO_LONG),
        Fault::ProcessedThenStatus(503),
    ];
    if op.is_write() {
        all.extend([409, 400, 500].map(Fault::Concurrent));
        all.extend([SOON, LATE].map(Fault::ProcessedLate));
    } else {
        all.push(Fault::TruncatedJson);
    }
    all
}

/// The outcomes of a request at Woodpecker. An empty list makes the operator register twice, and a write that takes effect
/// after every wait brings a removed client secret back: no operator can know either.
fn outcomes(op: Op) -> Vec<Outcome> {
    let unfair = [Outcome::ListsNothing, Outcome::LateAfterSettle];
    Outcome::of(op).into_iter().filter(|outcome| !unfair.contains(outcome)).collect()
}

/// Twenty seeds of four environments whose kills cover every kill point.
pub fn sample() -> Vec<Range<u64>> {
    (0..4).map(|environment| environment * WIDTH..environment * WIDTH + 5).collect()
}

/// The kills of an environment.
pub fn kills(environment: u64) -> Vec<Kill> {
    kills_at(environment, &KillPoint::ROTATION)
}

/// What else happens in an environment.
pub fn kind_of(environment: u64) -> Kind {
    match Kind::of(environment) {
        Kind::DelayedWatches => Kind::DelayedWatches,
        Kind::Plain | Kind::Restored => Kind::Plain,
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}, {:?}, overlap {}", self.start, self.policy, self.overlap)?;
        for (at, act) in &self.acts {
            writeln!(f, "{at:>5} ms {act:?}")?;
        }
        let Some(environment) = self.environment else { return Ok(()) };
        writeln!(f, "{:?}", Conditions::of(environment))?;
        for Hold { from, lasts, of_leader, path } in holds(environment) {
            writeln!(f, "{from:>5} ms watches {path:?} delayed for {lasts} ms, of the leader: {of_leader}")?;
        }
        for it in failed_writes(environment) {
            writeln!(f, "{:>5} ms {} writes of {} fail: {:?}", it.from, it.times, it.path, it.failure)?;
        }
        for kill in kills(environment) {
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
