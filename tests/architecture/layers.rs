//! Checks that modules use only those that `docs/architecture.md` allows, without cycles, and that `core`
//! uses next to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use crate::modules::{self, ModulePath, Modules, resolve};

/// The crates that `core` may use.
const CORE_CRATES: [&str; 3] = ["jiff", "serde", "thiserror"];

/// The modules that each module may use, by the table in `docs/architecture.md`.
type Table = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Reads rows such as "| `woodpecker` | `api` `core` | … |".
fn table() -> Table {
    let page = fs::read_to_string(root().join("docs/architecture.md")).expect("the page can be read");
    let names =
        |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = page.lines().skip_while(|line| !line.starts_with("| module | may use |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let table: Table = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').collect();
            let [module] = names(cells[1]).try_into().expect("a row is about one module");
            (module, names(cells[2]).into_iter().collect())
        })
        .collect();
    assert!(table.len() > 10, "the table has {} rows", table.len());
    table
}

/// The row of the table for a module: the longest prefix of its path.
fn unit<'a>(table: &'a Table, module: &[String]) -> Option<&'a str> {
    (1..=module.len()).rev().find_map(|length| {
        let name = module[..length].join("::");
        table.get_key_value(&name).map(|(unit, _)| unit.as_str())
    })
}

/// Every use of a row by another one, with an example.
fn arrows(table: &Table, modules: &Modules) -> BTreeMap<(String, String), String> {
    let mut arrows = BTreeMap::new();
    for (path, module) in modules {
        let Some(from) = unit(table, path) else {
            assert!(path.is_empty(), "{} is in no row of docs/architecture.md", path.join("::"));
            continue;
        };
        for used in &module.used {
            let target: ModulePath = resolve(modules, used);
            if let Some(to) = unit(table, &target).filter(|to| *to != from) {
                let example = format!("{} uses {}", path.join("::"), used.join("::"));
                arrows.entry((from.to_owned(), to.to_owned())).or_insert(example);
            }
        }
    }
    arrows
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let (table, modules) = (table(), modules::read(&modules::library()));
    let arrows = arrows(&table, &modules);
    let wrong: Vec<&String> = arrows
        .iter()
        .filter(|((from, to), _)| !table[from].contains(to))
        .map(|(_, example)| example)
        .collect();
    assert!(wrong.is_empty(), "arrows that docs/architecture.md does not allow:\n{wrong:#?}");
    let unused: Vec<String> = table
        .iter()
        .flat_map(|(from, allowed)| allowed.iter().map(move |to| (from.clone(), to.clone())))
        .filter(|arrow| !arrows.contains_key(arrow))
        .map(|(from, to)| format!("{from} -> {to}"))
        .collect();
    assert!(unused.is_empty(), "arrows that nothing needs any longer: {unused:?}");
}

#[test]
fn the_table_has_no_cycle() {
    let table = table();
    let mut left: BTreeSet<&String> = table.keys().collect();
    while !left.is_empty() {
        let free: Vec<&String> = left
            .iter()
            .copied()
            .filter(|module| table[*module].iter().all(|used| !left.contains(used)))
            .collect();
        assert!(!free.is_empty(), "a cycle among {left:?}");
        for module in free {
            left.remove(module);
        }
    }
}

#[test]
fn core_uses_no_crate_with_side_effects() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest can be read");
    let (_, dependencies) = manifest.split_once("[dependencies]").expect("there are dependencies");
    let names = dependencies.lines().filter_map(|line| line.split_once(" = "));
    let mut crates: BTreeSet<String> = names.map(|(name, _)| name.replace('-', "_")).collect();
    for allowed in CORE_CRATES {
        crates.remove(allowed);
    }
    let modules = modules::read(&modules::library());
    let core = modules.iter().filter(|(path, _)| path.first().is_some_and(|first| first == "core"));
    let mut seen = 0;
    for (path, module) in core {
        let heads = module.foreign.iter().filter_map(|path| path.first());
        let forbidden: Vec<&String> = heads.filter(|head| crates.contains(*head)).collect();
        assert!(forbidden.is_empty(), "{} uses {forbidden:?}", path.join("::"));
        seen += 1;
    }
    assert!(seen > 10, "core has {seen} modules");
}
