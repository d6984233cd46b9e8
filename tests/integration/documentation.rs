//! Runs the commands of the docs. Each command of a page belongs to a test below, which runs it as written,
//! or the words before it call it illustrative.

mod checkout;
mod guides;
mod helm;
mod manifests;
mod narrowing;
mod scenario;

use kit::docs::{Command, commands, pages};

/// A page and one of its headings; `*` means every heading.
pub type Place = (&'static str, &'static str);

/// The tests that run commands, each with the sections that the commands are from.
pub const SECTIONS_BY_TEST: [(&str, &[Place]); 6] = [
    (
        "helm_installs_changes_and_uninstalls_as_the_docs_say",
        &[
            ("README.md", "Install"),
            ("deploy/chart/README.md", "Chart of graph-credential-operator"),
            ("docs/tutorials/quick-start-kind.md", "Install the operator"),
            ("docs/tasks/install.md", "With helm"),
            ("examples/README.md", "One team"),
            ("examples/README.md", "A chart for each client"),
            ("docs/operations/logs.md", "What is logged"),
            ("docs/tasks/install.md", "Uninstall"),
        ],
    ),
    (
        "documented_leftovers_remain_after_the_manifests_are_deleted",
        &[
            ("docs/tasks/install.md", "Without helm"),
            ("docs/tasks/install.md", "Of another name"),
            ("docs/tasks/install.md", "Without the hook"),
        ],
    ),
    (
        "a_namespace_no_longer_watched_is_reported_and_cleaned_up_as_documented",
        &[("docs/tasks/install.md", "Serving fewer namespaces")],
    ),
    (
        "the_guides_lead_from_nothing_to_ready_through_a_rotation_and_a_migration",
        &[
            ("docs/tutorials/from-nothing-to-ready.md", "Step 3: create the Secrets"),
            ("docs/tutorials/from-nothing-to-ready.md", "Step 4: declare the account and the credential"),
            ("docs/tasks/rotate.md", "Put it into the Secret"),
            ("docs/tasks/rotate.md", "Wait for the registration"),
            ("docs/tasks/migrate.md", "Print the manifests"),
            ("docs/tasks/migrate.md", "Create the Secrets"),
            ("docs/tasks/migrate.md", "Apply"),
            ("docs/tasks/migrate.md", "Check"),
        ],
    ),
    (
        "the_page_of_the_sandbox_works_as_written",
        &[
            ("docs/tasks/sandbox.md", "Start it"),
            ("docs/tasks/sandbox.md", "Save a credential"),
            ("docs/tasks/sandbox.md", "Provoke an answer"),
            ("docs/tasks/sandbox.md", "Move the clock"),
            ("docs/tasks/sandbox.md", "Reset and seed"),
        ],
    ),
    (
        "the_guide_leads_from_a_checkout_to_a_credential",
        &[
            ("docs/tutorials/getting-started.md", "From a checkout"),
            ("docs/tutorials/getting-started.md", "Step 4: check that it is Ready"),
            ("docs/troubleshooting.md", "Explain a reason or an error code"),
            ("docs/tasks/command-line.md", "*"),
            ("docs/tasks/orphaned-credentials.md", "List orphaned credentials"),
            ("docs/tasks/keyring.md", "Example: a complete rotation"),
            ("docs/tasks/keyring.md", "Commands"),
            ("docs/tasks/keyring.md", "Rotating a key"),
            ("docs/reference/rest-api.md", "Start it"),
            ("docs/tasks/rest-api.md", "Save a credential"),
            ("docs/tasks/gitops.md", "Argo CD"),
            ("docs/operations/runbooks", "*"),
        ],
    ),
];

/// Whether a command builds or checks this repository, which CI does with the same targets.
fn is_of_the_repository(command: &Command) -> bool {
    ["make ", "cargo "].iter().any(|tool| command.text.starts_with(tool))
}

fn is_at(command: &Command, (page, heading): Place) -> bool {
    let is_page = command.page == page || command.page.starts_with(&format!("{page}/"));
    is_page && (heading == "*" || command.heading == heading)
}

/// Every command that must be run.
fn all() -> Vec<Command> {
    let pages = pages().unwrap();
    let all = pages.iter().flat_map(|page| commands(page).unwrap());
    all.filter(|command| !command.is_illustrative).collect()
}

#[test]
fn each_command_in_the_docs_is_run_by_a_test_or_marked_illustrative() {
    let places: Vec<Place> = SECTIONS_BY_TEST.iter().flat_map(|(_, places)| places.iter().copied()).collect();
    let all = all();
    for command in all.iter().filter(|command| !is_of_the_repository(command)) {
        let Command { page, line, text, .. } = command;
        let runs = places.iter().any(|place| is_at(command, *place));
        assert!(runs, "{page}:{line}: no test runs `{text}`, and the page does not call it illustrative");
    }
    for place in &places {
        assert!(all.iter().any(|command| is_at(command, *place)), "nothing is to be run at {place:?}");
    }
    assert!(all.len() > 40, "{} commands", all.len());
}

#[test]
fn make_targets_in_the_docs_exist() {
    let makefile = std::fs::read_to_string(kit::workspace().join("Makefile")).unwrap();
    let created = all().into_iter().filter_map(|command| {
        let target = command.text.strip_prefix("make ")?.split_whitespace().next()?.to_owned();
        Some((command, target))
    });
    for (command, target) in created {
        let is_there = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
        assert!(is_there, "{}:{}: there is no target {target}", command.page, command.line);
    }
}
