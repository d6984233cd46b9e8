//! The bounds for the figures of one run.

use crate::figures::Figures;
use crate::plan::To;

/// Smaller sizes are printed but not checked, because the cost of a start is a large part of them.
const LEAST_SIZE: usize = 1000;

enum Bound {
    Least(f64),
    Most(f64),
}

use Bound::{Least, Most};

/// Bounds for many objects, at each size; `{to}` is the destination and its size.
const OF_MANY: [(&str, Bound); 14] = [
    ("ratio/objects_per_second", Least(0.9)),
    ("ratio/operator_cpu_ms", Most(1.3)),
    ("ratio/apiserver_cpu_ms", Most(1.2)),
    ("ratio/alone/p50_ms", Most(2.0)),
    // Counts of a whole run include a few requests of timers.
    ("operator/events", Most(1.01)),
    ("operator/events", Least(0.99)),
    ("operator/rotation/events", Most(1.01)),
    ("operator/relist/writes", Most(0.0)),
    ("operator/restart/writes", Most(0.0)),
    ("operator/restart/events", Most(0.0)),
    ("operator/restart/token_calls", Most(0.0)),
    ("operator/restart/woodpecker_requests", Most(1.0)),
    ("operator/idle/writes", Most(0.0)),
    ("operator/idle/events", Most(0.0)),
];

/// Bounds for many objects, at one size or for one destination.
const OF_ONE: [(To, Option<usize>, &str, Bound); 10] = [
    (To::Store, None, "operator/requests", Most(4.05)),
    (To::Woodpecker, None, "operator/requests", Most(5.05)),
    (To::Store, None, "operator/rotation/requests", Most(4.05)),
    (To::Woodpecker, None, "operator/rotation/requests", Most(5.05)),
    (To::Store, Some(1000), "operator/settled_mib", Most(40.0)),
    (To::Woodpecker, Some(1000), "operator/settled_mib", Most(40.0)),
    (To::Store, Some(10_000), "operator/peak_mib", Most(80.0)),
    (To::Woodpecker, Some(10_000), "operator/peak_mib", Most(80.0)),
    (To::Store, Some(10_000), "operator/relist/peak_mib", Most(80.0)),
    (To::Woodpecker, Some(10_000), "operator/relist/peak_mib", Most(80.0)),
];

/// Bounds for other scenarios.
const OF_OTHERS: [(&str, Bound); 15] = [
    ("sandbox/ratio/per_second", Least(0.6)),
    ("fat/added_mib", Most(16.0)),
    ("queue/idle_percent", Most(5.0)),
    ("queue/most_at_a_time", Most(1.0)),
    ("accounts/ratio/seconds", Most(1.3)),
    ("accounts/ratio/reconcile_cpu_ms", Most(1.5)),
    ("beside/due/ratio_p50", Most(2.0)),
    ("beside/due/ratio_p99", Most(3.0)),
    ("beside/failing/ratio_p50", Most(2.0)),
    ("beside/failing/ratio_p99", Most(3.0)),
    ("hostile/ratio_p50", Most(2.0)),
    ("hostile/lost", Most(0.0)),
    ("rest/10/ratio/POST/per_second", Least(0.8)),
    ("rest/900/ratio/POST/per_second", Least(0.8)),
    ("rest/growth/POST/mean_ms", Most(1.1)),
];

/// A line for each bound that has a figure: the figure, the bound, and whether it holds.
pub fn hold(figures: &Figures) -> Vec<(String, bool)> {
    let mut lines = Vec::new();
    let mut check = |name: String, bound: &Bound| {
        if let Some(value) = figures.get(&name) {
            let (word, limit, holds) = match bound {
                Least(limit) => ("at least", limit, value >= *limit),
                Most(limit) => ("at most", limit, value <= *limit),
            };
            lines.push((format!("{name} is {value}, bound: {word} {limit}"), holds));
        }
    };
    for to in To::ALL {
        for size in figures.sizes(to.name()).into_iter().filter(|size| *size >= LEAST_SIZE) {
            let name = |name: &str| format!("{}/{size}/{name}", to.name());
            for (it, bound) in &OF_MANY {
                check(name(it), bound);
            }
            for (of, at, it, bound) in &OF_ONE {
                if *of == to && at.is_none_or(|at| at == size) {
                    check(name(it), bound);
                }
            }
        }
    }
    for (name, bound) in &OF_OTHERS {
        check((*name).to_owned(), bound);
    }
    lines
}
