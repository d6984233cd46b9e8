//! The docs, run: each command of a page stands in a scene below, which runs it as it is written, or the words before it
//! say that it is illustrative.

mod checkout;
mod helm;
mod manifests;
mod narrowing;
mod scene;

use kit::docs::{Command, commands, pages};

/// A page, and a heading of it; `*` is each.
type Place = (&'static str, &'static str);

/// Each test that runs commands, and where it has them from.
const SCENES: [(&str, &[Place]); 4] = [
    (
        "helm_installs_changes_and_uninstalls_as_the_docs_say",
        &[
            ("README.md", "Install it"),
            ("deploy/chart/README.md", "Chart of graph-credential-operator"),
            ("docs/install.md", "With helm"),
            ("docs/logs.md", "What is logged"),
            ("docs/install.md", "Uninstall"),
        ],
    ),
    (
        "what_the_docs_say_stays_is_there_after_the_manifests_are_deleted",
        &[
            ("docs/install.md", "Without helm"),
            ("docs/install.md", "Of another name"),
            ("docs/install.md", "Without the hook"),
        ],
    ),
    (
        "a_namespace_that_is_served_no_more_is_named_and_let_go_by_the_command_of_the_docs",
        &[("docs/install.md", "Serving fewer namespaces")],
    ),
    (
        "a_newcomer_gets_from_a_checkout_to_a_credential_and_to_every_command_about_it",
        &[
            ("README.md", "From a checkout"),
            ("README.md", "graph-credential-operator"),
            ("README.md", "When something is wrong"),
            ("README.md", "What is left at Woodpecker"),
            ("README.md", "The keyring"),
            ("docs/keys.md", "Commands"),
            ("docs/keys.md", "Rotating a key"),
            ("docs/rest-api.md", "Start it"),
            ("README.md", "The same API, served by us"),
            ("docs/gitops.md", "Argo CD"),
            ("docs/runbooks", "*"),
        ],
    ),
];

/// Whether it builds or checks this repository, which CI does by the same targets.
fn is_of_the_repository(command: &Command) -> bool {
    ["make ", "cargo "].iter().any(|tool| command.text.starts_with(tool))
}

fn is_at(command: &Command, (page, heading): Place) -> bool {
    let is_page = command.page == page || command.page.starts_with(&format!("{page}/"));
    is_page && (heading == "*" || command.heading == heading)
}

/// Every command that is to be run.
fn all() -> Vec<Command> {
    let pages = pages().unwrap();
    let all = pages.iter().flat_map(|page| commands(page).unwrap());
    all.filter(|command| !command.is_illustrative).collect()
}

#[test]
fn each_command_in_the_docs_is_run_by_a_test_or_said_to_be_illustrative() {
    let places: Vec<Place> = SCENES.iter().flat_map(|(_, places)| places.iter().copied()).collect();
    let all = all();
    for command in all.iter().filter(|command| !is_of_the_repository(command)) {
        let Command { page, line, text, .. } = command;
        let runs = places.iter().any(|place| is_at(command, *place));
        assert!(runs, "{page}:{line}: no test runs `{text}`, and nobody says that it is illustrative");
    }
    for place in &places {
        assert!(all.iter().any(|command| is_at(command, *place)), "nothing is to be run at {place:?}");
    }
    assert!(all.len() > 40, "{} commands", all.len());
}

#[test]
fn what_the_docs_have_made_is_in_the_makefile() {
    let makefile = std::fs::read_to_string(kit::workspace().join("Makefile")).unwrap();
    let made = all().into_iter().filter_map(|command| {
        let target = command.text.strip_prefix("make ")?.split_whitespace().next()?.to_owned();
        Some((command, target))
    });
    for (command, target) in made {
        let is_there = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
        assert!(is_there, "{}:{}: there is no target {target}", command.page, command.line);
    }
}
