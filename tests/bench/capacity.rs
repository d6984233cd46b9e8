//! Writes the page about the capacity of one installation from the figures.

use crate::figures::{Figures, Kept, float};
use crate::plan::To;
use crate::report::pictures;
use crate::table::{cell, table};

const ABOUT: &str = "# Capacity of one installation

Written by `make bench` from [bench.json](bench.json); [bench.md](bench.md) describes how it is measured. Of several
replicas, only the leader reconciles; the others stand by. So the capacity of an installation is the capacity of one
leader, and more replicas do not make it faster.
";

const LIMITS: &str = "
## Limits

- **The API server's CPU.** Registering costs it more than the operator, so the API server sets the speed. By default
  the leader reconciles 16 objects of each kind at a time (`--max-concurrent-reconciles`).
- **Woodpecker.** One request at a time for each account: an account whose requests take 50 ms accepts at most 20 new
  credentials per second, however many objects wait. Other accounts do not wait for it.
- **Microsoft.** Each secret is verified once a day, so 10 000 credentials need one token request every 9 seconds.
- **Memory.** It grows with the number of objects, not with what tenants write into their metadata. The chart's limit
  is 256 MiB (`resources.limits.memory`). Keep it well above the highest peak in the table above.
- **Changed Secrets.** With `secretAccess: get` the operator requests the metadata of a limited number of Secrets each
  second, so with many Secrets it notices a change later. With `secretAccess: watch` it notices a change immediately
  ([install.md](../tasks/install.md)).

## Scaling further

Use one release for each set of namespaces. Install the chart again with another name in another namespace, and give
each release its own `watchNamespaces`; no namespace may be in two releases. The CRDs belong to the first release: set
`crds.enabled=false` in the others. Each release has a leader, a keyring and a Lease of its own, so a restart or a
rotation of keys affects only its own namespaces.

Keep all objects of one Woodpecker account in one release: the rule of one request at a time holds within a release,
and two releases at one account would receive 429 responses. The same applies to an Entra app, because each release
counts its own attempts at Microsoft.

Two releases that share a busy API server do not register faster. In this case, use another cluster.
";

pub fn page(kept: &Kept) -> String {
    let figures = &kept.figures;
    let machine = if kept.machine.is_empty() { "not measured yet" } else { &kept.machine };
    let mut page =
        format!("{ABOUT}\n## Capacity of one leader\n\nMachine, shared with the API server: {machine}.\n\n");
    page += &carried(figures);
    page += &pictures(figures);
    page + LIMITS.trim_start()
}

/// A row for each size of each destination: durations and resources.
fn carried(figures: &Figures) -> String {
    let columns = [
        ("objects/s", "objects_per_second"),
        ("all registered after min", "minutes"),
        ("settled after a restart s", "restart/settled_seconds"),
        ("settled MiB", "settled_mib"),
        ("highest peak MiB", "highest_mib"),
        ("CPU of an idle hour ms", "idle/operator_cpu_ms"),
    ];
    let (mut shown, mut rows) = (Figures::default(), Vec::new());
    shown.extend("", figures);
    for to in To::ALL {
        for size in figures.sizes(to.name()) {
            let prefix = format!("{}/{size}/operator/", to.name());
            if let Some(rate) = figures.get(&format!("{prefix}objects_per_second")) {
                shown.set(format!("{prefix}minutes"), float(size) / rate / 60.0);
            }
            let peaks = ["peak_mib", "relist/peak_mib", "rotation/peak_mib", "restart/peak_mib"]
                .map(|peak| figures.get(&format!("{prefix}{peak}")));
            if let Some(highest) = peaks.into_iter().flatten().max_by(f64::total_cmp) {
                shown.set(format!("{prefix}highest_mib"), highest);
            }
            rows.push((format!("`{}`, {size} objects", to.name()), prefix));
        }
    }
    let peak = |prefix: &str| shown.get(&format!("{prefix}highest_mib")).unwrap_or_default();
    let largest_size = To::ALL.iter().flat_map(|to| figures.sizes(to.name())).max().unwrap_or_default();
    let of_that_size = rows.iter().filter(|(_, prefix)| prefix.contains(&format!("/{largest_size}/")));
    let largest = of_that_size.max_by(|(_, one), (_, other)| peak(one).total_cmp(&peak(other)));
    let largest = largest.map(|(_, prefix)| prefix.clone());
    let table = table("", &columns, rows.into_iter(), &shown);
    let Some(prefix) = largest else { return table + "\n" };
    let of = |name: &str| cell(shown.get(&format!("{prefix}{name}")));
    format!(
        "{table}\nAt the largest size measured, a leader needs {} MiB once settled and {} MiB at the highest peak.\n\n",
        of("settled_mib"),
        of("highest_mib")
    )
}
