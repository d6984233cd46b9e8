//! What to measure, from the environment: `SCENARIOS`, `N`, `ROUNDS`, `SMALL` and `BENCH_REPORT`.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// A credential's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    Store,
    Woodpecker,
}

/// A part of the benchmark that can be selected alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// New objects, single objects, a forced relist: compared with the floor, for each size.
    To(To),
    /// Steps of the operator after that.
    Restart,
    Rotation,
    Idle,
    Foreign,
    /// Scenarios with their own objects.
    Fat,
    Queue,
    Accounts,
    Beside,
    Hostile,
    Rest,
    Sandbox,
}

/// The selected measurements.
pub struct Plan {
    pub scenarios: BTreeSet<Scenario>,
    /// Numbers of objects.
    pub sizes: Vec<usize>,
    /// How often each pair of operator and floor is measured; the round with the median ratio counts.
    pub rounds: usize,
    /// A rehearsal: scenarios with a size of their own use a twentieth of it.
    pub is_small: bool,
    /// The folder for the report, relative to the workspace.
    pub report: Option<PathBuf>,
}

const ALL: [(&str, Scenario); 13] = [
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
    ("hostile", Scenario::Hostile),
    ("rest", Scenario::Rest),
    ("sandbox", Scenario::Sandbox),
];

/// The default: everything that takes twenty minutes in total.
const USUAL: &str = "store,woodpecker,restart,rotation,idle,fat,queue,rest,sandbox";

/// The size of most installations, and so the size for scenarios with a single size.
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
        let selected = env("SCENARIOS").unwrap_or_else(|| USUAL.to_owned());
        let (scenarios, all_sizes): (BTreeSet<_>, _) = match selected.as_str() {
            "all" => (ALL.iter().map(|(_, scenario)| *scenario).collect(), "100,1000,10000,50000"),
            // Only pages and pictures, from the stored figures.
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

    /// The destinations to measure; both if a step is selected alone.
    pub fn destinations(&self) -> Vec<To> {
        let selected: Vec<To> = To::ALL.into_iter().filter(|to| self.has(Scenario::To(*to))).collect();
        let steps = [Scenario::Restart, Scenario::Rotation, Scenario::Idle, Scenario::Foreign];
        if selected.is_empty() && steps.iter().any(|step| self.has(*step)) {
            To::ALL.to_vec()
        } else {
            selected
        }
    }

    /// The size for scenarios with a single size.
    pub fn usual_size(&self) -> usize {
        let fitting = self.sizes.iter().filter(|size| **size <= MOST_HAVE).max();
        fitting.or(self.sizes.first()).copied().unwrap_or(MOST_HAVE)
    }

    /// The size for a scenario with its own size.
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
