//! What to measure, as the environment says: `SCENARIOS`, `N`, `ROUNDS`, `SMALL` and `BENCH_REPORT`.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// What a credential's destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    Store,
    Woodpecker,
}

/// A part of the benchmark that can be asked for alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// New objects, one alone, a forced relist: beside the floor, for each size.
    To(To),
    /// Steps of the operator after that.
    Restart,
    Rotation,
    Idle,
    Foreign,
    /// Scenarios of their own.
    Fat,
    Queue,
    Accounts,
    Beside,
    Rest,
}

/// What is asked for.
pub struct Plan {
    pub scenarios: BTreeSet<Scenario>,
    /// Numbers of objects.
    pub sizes: Vec<usize>,
    /// How often each pair of operator and floor is measured; the round with the median ratio counts.
    pub rounds: usize,
    /// A rehearsal: what has a size of its own has a twentieth of it.
    pub is_small: bool,
    /// The folder, from the workspace on, that the report goes to.
    pub report: Option<PathBuf>,
}

const ALL: [(&str, Scenario); 11] = [
    ("store", Scenario::To(To::Store)),
    ("woodpecker", Scenario::To(To::Woodpecker)),
    ("restart", Scenario::Restart),
    ("rotation", Scenario::Rotation),
    ("idle", Scenario::Idle),
    ("foreign", Scenario::Foreign),
    ("fat", Scenario::Fat),
    ("queue", Scenario::Queue),
    ("accounts", Scenario::Accounts),
    ("beside", Scenario::Beside),
    ("rest", Scenario::Rest),
];

/// What is measured where nothing is asked for: what ends within twenty minutes.
const USUAL: &str = "store,woodpecker,restart,rotation,idle,fat,queue,rest";

/// As many as most installations have, and so the size of scenarios that have one size only.
const MOST_HAVE: usize = 1000;

// === impl To ===

impl To {
    pub const ALL: [Self; 2] = [Self::Store, Self::Woodpecker];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Woodpecker => "woodpecker",
        }
    }

    pub fn of_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|to| to.name() == name).expect("store or woodpecker")
    }
}

// === impl Plan ===

impl Plan {
    pub fn from_env() -> Self {
        let asked = env("SCENARIOS").unwrap_or_else(|| USUAL.to_owned());
        let (scenarios, all_sizes): (BTreeSet<_>, _) = match asked.as_str() {
            "all" => (ALL.iter().map(|(_, scenario)| *scenario).collect(), "100,1000,10000,50000"),
            // Pages and pictures alone, from the figures that are kept.
            "none" => (BTreeSet::new(), ""),
            some => (some.split(',').map(scenario).collect(), "100,1000,10000"),
        };
        let sizes = env("N").unwrap_or_else(|| all_sizes.to_owned());
        let number = |text: &str| text.trim().parse().unwrap_or_else(|_| panic!("no number: {text:?}"));
        Self {
            scenarios,
            sizes: sizes.split(',').filter(|size| !size.is_empty()).map(number).collect(),
            rounds: env("ROUNDS").map_or(1, |rounds| number(&rounds)).max(1),
            is_small: env("SMALL").is_some(),
            report: env("BENCH_REPORT").map(PathBuf::from),
        }
    }

    pub fn has(&self, scenario: Scenario) -> bool {
        self.scenarios.contains(&scenario)
    }

    /// The destinations to measure: where a step is asked for alone, both.
    pub fn destinations(&self) -> Vec<To> {
        let asked: Vec<To> = To::ALL.into_iter().filter(|to| self.has(Scenario::To(*to))).collect();
        let steps = [Scenario::Restart, Scenario::Rotation, Scenario::Idle, Scenario::Foreign];
        if asked.is_empty() && steps.iter().any(|step| self.has(*step)) { To::ALL.to_vec() } else { asked }
    }

    /// The one size of scenarios that are measured at one size.
    pub fn usual_size(&self) -> usize {
        let fitting = self.sizes.iter().filter(|size| **size <= MOST_HAVE).max();
        fitting.or(self.sizes.first()).copied().unwrap_or(MOST_HAVE)
    }

    /// A size of a scenario's own.
    pub fn sized(&self, size: usize) -> usize {
        if self.is_small { size.div_ceil(20) } else { size }
    }
}

fn scenario(name: &str) -> Scenario {
    let Some((_, found)) = ALL.iter().find(|(known, _)| *known == name.trim()) else {
        let known: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
        panic!("no scenario {name:?}: all, none, or some of {}", known.join(","))
    };
    *found
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
