//! Checks that only parts for one operating system name what only that system has: CI builds the program on Linux, macOS
//! and Windows, and contributors mostly on one of them.

use std::fs;
use std::path::PathBuf;

use crate::modules::{self, ModulePath};

/// Crates that do not compile on every system, or are empty on some.
const CRATES: [&str; 4] = ["libc", "nix", "procfs", "rustix"];

/// Modules of other crates that only some systems have.
const MODULES: [&str; 6] = [
    "std::os::fd",
    "std::os::linux",
    "std::os::unix",
    "std::os::windows",
    "tokio::signal::unix",
    "tokio::signal::windows",
];

/// Folders that only Linux has.
const FOLDERS: [&str; 2] = ["/proc/", "/sys/"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn is_of_some_systems(path: &ModulePath) -> bool {
    let name = path.join("::");
    let is_below = |module: &&str| {
        name.strip_prefix(*module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    CRATES.iter().chain(&MODULES).any(is_below)
}

#[test]
fn only_parts_for_one_system_name_what_only_that_system_has() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in ["src/lib.rs", "src/main.rs"] {
        for (module, content) in modules::read_portable(&root().join(file)) {
            let paths = content.foreign.iter().filter(|path| is_of_some_systems(path));
            let found = paths.map(|path| path.join("::"));
            let is_there = |text: &&String| FOLDERS.iter().any(|folder| text.contains(folder));
            let found = found.chain(content.literals.iter().filter(is_there).cloned());
            wrong.extend(found.map(|what| format!("{file}: module {:?} names {what}", module.join("::"))));
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen} modules");
    assert!(wrong.is_empty(), "move these behind src/platform:\n{}", wrong.join("\n"));
}

#[test]
fn crates_of_some_systems_are_dependencies_on_these_alone() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest can be read");
    let (_, rest) = manifest.split_once("\n[dependencies]\n").expect("there are dependencies");
    let (everywhere, elsewhere) = rest.split_once("\n[").expect("there are other dependencies");
    let is_in =
        |section: &str, name: &str| section.lines().any(|line| line.starts_with(&format!("{name} = ")));
    for name in CRATES {
        assert!(!is_in(everywhere, name), "{name} is a dependency on every system");
    }
    assert!(is_in(elsewhere, "procfs") && is_in(elsewhere, "rustix"), "this test looks for the wrong text");
}
