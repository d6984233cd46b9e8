//! Writes the pages and pictures of the docs from the figures: `bench.json`, `bench.md`, `capacity.md`,
//! `images/bench-*.svg`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::figures::{Figures, Kept, float};
use crate::plan::To;
use crate::plot::{Line, chart};
use crate::table::{cell, table};
use crate::{bounds, capacity};

/// File, title, unit, and the figures of each destination, each with whether it is the floor's.
type Picture = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str, bool)]);

/// Title, description, and columns with their figures.
type Part = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const PICTURES: [Picture; 3] = [
    (
        "bench-objects",
        "New objects, until the last event is stored",
        "objects a second",
        &[("", "operator/objects_per_second", false), (" floor", "floor/objects_per_second", true)],
    ),
    (
        "bench-cpu",
        "CPU for each new object",
        "milliseconds of the operator",
        &[("", "operator/operator_cpu_ms", false), (" floor", "floor/operator_cpu_ms", true)],
    ),
    (
        "bench-memory",
        "Resident memory: the operator at the peak of a relist, the floor settled",
        "MiB",
        &[("", "operator/relist/peak_mib", false), (" floor", "floor/settled_mib", true)],
    ),
];

const ABOUT: &str = "# Benchmarks

Written by `make bench`. An optimized build of the operator runs on the same machine as a real etcd and
kube-apiserver, with test doubles of Microsoft and Woodpecker that respond at once. The *floor* is a bare program on
kube that makes the same requests for the same kinds in the same run, driven by a watch. It has no cache, no retries,
no leader election, no checks and no encryption. Compare the ratios: they hold on other machines, the absolute figures
do not.

For `store` the requests are: read the Secret, request a token from Microsoft, create the record, replace the status,
create one event. For `woodpecker`: read the Secret, request a token, replace the status (intent), create the
credential at Woodpecker, replace the status again, create one event.
";

const REST: &str = "`serve` beside a bare axum handler that makes the same requests to the API server and to Microsoft
(a test double), without API keys, checks, encryption and logs. 8 concurrent clients use one connection per request.
The rounds alternate between the two programs. A POST makes four requests: a token, the record, the keyring again, and
the record's status. A GET lists all records of the account, page by page.
";

const SANDBOX: &str = "`sandbox --no-limits` beside a bare axum handler that parses the same body, keeps it in a map and
answers the same bytes, without API keys, checks, encryption and request log. 16 open connections send POST requests,
and the rounds alternate between the two programs. The start is the time from the start of the process to the first
answer.
";

/// Writes all files.
pub fn write(folder: &Path, kept: &Kept) {
    std::fs::create_dir_all(folder.join("images")).unwrap();
    kept.write(&folder.join("bench.json"));
    for (file, title, unit, lines) in PICTURES {
        let lines = self::lines(&kept.figures, lines);
        if !lines.is_empty() {
            std::fs::write(folder.join(format!("images/{file}.svg")), chart(title, unit, &lines)).unwrap();
        }
    }
    std::fs::write(folder.join("bench.md"), page(kept)).unwrap();
    std::fs::write(folder.join("capacity.md"), capacity::page(kept)).unwrap();
}

/// The pictures for which there are figures.
pub fn pictures(figures: &Figures) -> String {
    let drawn = PICTURES.iter().filter(|(.., lines)| !self::lines(figures, lines).is_empty());
    drawn.map(|(file, title, ..)| format!("![{title}](images/{file}.svg)\n\n")).collect()
}

fn lines(figures: &Figures, of: &[(&str, &str, bool)]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (color, to) in To::ALL.into_iter().enumerate() {
        for (suffix, figure, is_dashed) in of {
            let at = |size: usize| figures.get(&format!("{}/{size}/{figure}", to.name()));
            let sizes = figures.sizes(to.name()).into_iter();
            let points: Vec<_> = sizes.filter_map(|size| Some((float(size), at(size)?))).collect();
            if !points.is_empty() {
                let name = format!("{}{suffix}", to.name());
                lines.push(Line { name, color, is_dashed: *is_dashed, points });
            }
        }
    }
    lines
}

fn page(kept: &Kept) -> String {
    let figures = &kept.figures;
    let mut page = ABOUT.to_owned();
    page += &format!(
        "\nMachine: {}.\n",
        if kept.machine.is_empty() { "not measured yet" } else { &kept.machine }
    );
    page += &format!("\n## Many new objects\n\n{}", pictures(figures));
    for to in To::ALL {
        page += &many(figures, to);
    }
    page += &requests(figures);
    page += &afterwards(figures);
    page += &others(figures);
    page += &format!("\n## REST API\n\n{REST}\n{}", rest(figures));
    page += &format!("\n## Sandbox\n\n{SANDBOX}\n{}", sandbox(figures));
    page += "\n## Bounds\n\n";
    for (line, holds) in bounds::hold(figures) {
        page += &format!("- {}{line}\n", if holds { "" } else { "**not met:** " });
    }
    page
}

/// A table with a row for each size.
fn many(figures: &Figures, to: To) -> String {
    let columns = [
        ("objects/s", "operator/objects_per_second"),
        ("floor", "floor/objects_per_second"),
        ("ratio", "ratio/objects_per_second"),
        ("CPU ms per object", "operator/operator_cpu_ms"),
        ("floor", "floor/operator_cpu_ms"),
        ("API server CPU ms", "operator/apiserver_cpu_ms"),
        ("ratio", "ratio/apiserver_cpu_ms"),
        ("single object p50 ms", "operator/alone/p50_ms"),
        ("p99 ms", "operator/alone/p99_ms"),
        ("floor p50 ms", "floor/alone/p50_ms"),
        ("settled MiB", "operator/settled_mib"),
        ("peak MiB", "operator/peak_mib"),
        ("peak of a relist MiB", "operator/relist/peak_mib"),
    ];
    let name = to.name();
    let rows = figures.sizes(name).into_iter().map(|size| (size.to_string(), format!("{name}/{size}/")));
    format!("`{name}`:\n\n{}\n", table("objects", &columns, rows, figures))
}

/// Requests per object by verb and resource, at the size of most installations.
fn requests(figures: &Figures) -> String {
    let mut page =
        "## Requests per new object\n\nFrom the API server's audit log, without leases and watches.\n\n"
            .to_owned();
    for to in To::ALL {
        let name = to.name();
        let sizes = figures.sizes(name);
        let Some(size) = sizes.iter().filter(|size| **size <= 1000).max().or(sizes.first()) else { continue };
        let prefix = |who: &str| format!("{name}/{size}/{who}/requests/");
        let (operator, floor) = (prefix("operator"), prefix("floor"));
        let kinds: BTreeSet<&str> =
            figures.below(&operator).chain(figures.below(&floor)).map(|(kind, _)| kind).collect();
        page += &format!("| `{name}`, {size} objects | operator | floor |\n| --- | --- | --- |\n");
        for kind in kinds {
            let of = |prefix: &str| cell(figures.get(&format!("{prefix}{kind}")));
            page += &format!("| {} | {} | {} |\n", kind.replace('.', "/"), of(&operator), of(&floor));
        }
        let all = |who: &str| cell(figures.get(&format!("{name}/{size}/{who}/requests")));
        page += &format!("| all | {} | {} |\n\n", all("operator"), all("floor"));
    }
    page
}

fn afterwards(figures: &Figures) -> String {
    let rows = |figure: &str| {
        let mut rows = Vec::new();
        for to in To::ALL {
            for size in figures.sizes(to.name()) {
                let prefix = format!("{}/{size}/operator/{figure}/", to.name());
                if figures.below(&prefix).next().is_some() {
                    rows.push((format!("`{}`, {size}", to.name()), prefix));
                }
            }
        }
        rows
    };
    let rotation = [
        ("objects/s", "objects_per_second"),
        ("requests per object", "requests"),
        ("CPU ms per object", "operator_cpu_ms"),
    ];
    let restart = [
        ("ready after s", "ready_seconds"),
        ("settled after s", "settled_seconds"),
        ("CPU ms", "operator_cpu_ms"),
        ("lists", "lists"),
        ("requests", "requests"),
        ("writes", "writes"),
        ("events", "events"),
        ("token calls", "token_calls"),
        ("to Woodpecker", "woodpecker_requests"),
        ("settled MiB", "settled_mib"),
        ("peak MiB", "peak_mib"),
    ];
    let idle = [
        ("CPU ms", "operator_cpu_ms"),
        ("requests", "requests"),
        ("writes", "writes"),
        ("events", "events"),
        ("token calls", "token_calls"),
        ("to Woodpecker", "woodpecker_requests"),
        ("settled MiB", "settled_mib"),
    ];
    let foreign = [
        ("Secrets", "secrets"),
        ("before MiB", "before_mib"),
        ("with them MiB", "live_mib"),
        ("peak MiB", "live_peak_mib"),
        ("after a restart MiB", "restart/settled_mib"),
        ("its peak MiB", "restart/peak_mib"),
    ];
    let part = |title: &str, about: &str, columns: &[(&str, &str)], figure: &str| {
        format!("\n## {title}\n\n{about}\n\n{}", table("", columns, rows(figure).into_iter(), figures))
    };
    part(
        "Rotation of all secrets",
        "Every Secret gets a new client secret at the same time.",
        &rotation,
        "rotation",
    ) + &part("Restart without changes", "Leases and watches are not counted.", &restart, "restart")
        + &part("Idle hour", "With a clock that runs 60 times faster.", &idle, "idle")
        + &part(
            "Unrelated Secrets",
            "Secrets of 1 KB each in another namespace. The operator has the right to watch Secrets.",
            &foreign,
            "foreign",
        )
}

fn others(figures: &Figures) -> String {
    let parts: [Part; 5] = [
        (
            "Large metadata",
            "Objects with 250 KB of annotations each, created and listed again.",
            &[
                ("objects", "fat/objects"),
                ("peak MiB without", "fat/lean_peak_mib"),
                ("with", "fat/fat_peak_mib"),
                ("added", "fat/added_mib"),
            ],
        ),
        (
            "Queue of one account",
            "New objects at one account, 50 ms per request.",
            &[
                ("objects/s", "queue/objects_per_second"),
                ("requests per object", "queue/woodpecker_requests"),
                ("time without a request %", "queue/idle_percent"),
                ("most concurrent requests", "queue/most_at_a_time"),
            ],
        ),
        (
            "Many accounts",
            "20 objects each: with a Woodpecker that takes 50 ms per request, and with one that responds at once. The CPU time of an account's reconcile is compared with that of ten accounts.",
            &[
                ("accounts", "accounts/accounts"),
                ("at once s", "accounts/at_once/seconds"),
                ("50 ms each s", "accounts/slow/seconds"),
                ("ratio", "accounts/ratio/seconds"),
                ("reconcile CPU ms", "accounts/at_once/reconcile_cpu_ms"),
                ("ratio to ten", "accounts/ratio/reconcile_cpu_ms"),
            ],
        ),
        (
            "New object beside others",
            "One at a time, 50 ms per token: beside others whose verification is due in the same minute, and beside others whose secret Microsoft rejects at every attempt.",
            &[
                ("due", "beside/due/others"),
                ("alone p50 ms", "beside/due/alone_p50_ms"),
                ("ratio p50", "beside/due/ratio_p50"),
                ("ratio p99", "beside/due/ratio_p99"),
                ("failing", "beside/failing/others"),
                ("alone p50 ms", "beside/failing/alone_p50_ms"),
                ("ratio p50", "beside/failing/ratio_p50"),
                ("ratio p99", "beside/failing/ratio_p99"),
            ],
        ),
        (
            "New object beside a hostile tenant",
            "The operator has the memory limit of the chart (256 MiB). Another tenant has thousands of objects with one Secret, half of them for the apps of others, objects with 250 KB of annotations, Secrets of 1 MB, and rewrites statuses and records all the time. 300 connections send half of a request. New objects are compared with the same requests by a bare client in the same minute, 50 ms per token.",
            &[
                ("hostile objects", "hostile/hostile_objects"),
                ("p50 ms", "hostile/operator_p50_ms"),
                ("bare client p50 ms", "hostile/bare_p50_ms"),
                ("ratio p50", "hostile/ratio_p50"),
                ("p99 ms", "hostile/operator_p99_ms"),
                ("bare client p99 ms", "hostile/bare_p99_ms"),
                ("peak MiB", "hostile/peak_mib"),
                ("after a restart", "hostile/restart_peak_mib"),
                ("lost", "hostile/lost"),
            ],
        ),
    ];
    let row = || std::iter::once((String::new(), String::new()));
    let part = |(title, about, columns): Part| {
        format!("\n## {title}\n\n{about}\n\n{}", table("", columns, row(), figures))
    };
    parts.map(part).concat()
}

fn rest(figures: &Figures) -> String {
    let columns =
        [("requests per second", "per_second"), ("median ms", "p50_ms"), ("99 % within ms", "p99_ms")];
    let mut rows = Vec::new();
    for records in [10, 900] {
        for kind in ["POST", "GET"] {
            for (who, name) in [("serve", "serve"), ("bare", "bare axum handler"), ("ratio", "ratio")] {
                rows.push((
                    format!("{kind}, {records} records, {name}"),
                    format!("rest/{records}/{who}/{kind}/"),
                ));
            }
        }
    }
    table("request", &columns, rows.into_iter(), figures)
}

fn sandbox(figures: &Figures) -> String {
    let columns = [
        ("requests per second", "sandbox/per_second"),
        ("bare axum handler", "bare/per_second"),
        ("ratio", "ratio/per_second"),
        ("start ms", "start_p50_ms"),
        ("MiB after the start", "start_mib"),
        ("peak MiB", "sandbox/peak_mib"),
    ];
    table("", &columns, std::iter::once((String::new(), "sandbox/".to_owned())), figures)
}
