//! Generates `docs/reference/configuration.md` from the command line itself.

use std::iter::once;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory};
use graph_credential_operator::cli::Cli;

/// The page and its content.
pub fn generated(root: &Path) -> (PathBuf, String) {
    (root.join("docs/reference/configuration.md"), page())
}

fn page() -> String {
    let mut program = <Cli as CommandFactory>::command();
    program.build();
    let mut page = String::from(INTRO);
    for command in commands(&program) {
        page += &section("##", command.get_name(), command);
        for inner in commands(command) {
            page += &section("###", &format!("{} {}", command.get_name(), inner.get_name()), inner);
        }
    }
    page
}

fn commands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| command.get_name() != "help")
}

fn section(level: &str, name: &str, command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let is_shown = |arg: &&Arg| !matches!(arg.get_id().as_str(), "help" | "version") && !arg.is_hide_set();
    let rows: Vec<String> = command.get_arguments().filter(is_shown).map(row).collect();
    let table = if rows.is_empty() { String::new() } else { once(HEAD.to_owned()).chain(rows).collect() };
    format!("\n{level} {name}\n\n{about}.\n{table}")
}

fn row(arg: &Arg) -> String {
    let takes_values = arg.get_action().takes_values();
    let names = arg.get_value_names().unwrap_or_default();
    let value: String =
        names.iter().filter(|_| takes_values).flat_map(|name| [" <", name.as_str(), ">"]).collect();
    let flag = arg.get_long().map_or_else(|| value.trim().to_owned(), |long| format!("--{long}{value}"));
    let environment = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
    let defaults = arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy()));
    let unset = match (arg.is_required_set(), takes_values) {
        (true, _) => "required".to_owned(),
        (false, true) => defaults.collect::<Vec<_>>().join(", "),
        (false, false) => String::new(),
    };
    let meaning = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let words = meaning.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("| `{flag}` | {environment} | {unset} | {} |\n", words.replace('|', "\\|").replace('<', "\\<"))
}

const HEAD: &str = "\n| flag | environment | default | description |\n| --- | --- | --- | --- |\n";

const INTRO: &str = "\
<!-- Generated from the program's own command line by `make generate`; do not edit. -->

# Configuration

All commands of the program with their flags. A flag overrides its environment variable, and both override the
default. The chart sets the flags of `run` from its values ([deploy/chart/README.md](../../deploy/chart/README.md));
use `extraArgs` for other flags. `HTTPS_PROXY` and `NO_PROXY` set proxies
([install.md](../tasks/install.md#commands-on-your-own-machine)), and `OTEL_*` variables set the collector for traces
([traces.md](../operations/traces.md)).
";
