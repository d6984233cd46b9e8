//! `completion` and `man`: shell completion and man pages, generated from the definition of the commands.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;

use crate::cli::output;

/// Arguments of `completion`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    source <(graph-credential-operator completion bash)\n  \
    graph-credential-operator completion zsh > \"${fpath[1]}/_graph-credential-operator\"\n  \
    graph-credential-operator completion fish > ~/.config/fish/completions/graph-credential-operator.fish")]
pub(super) struct CompletionArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Directory to write to, which must exist
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

/// Prints the script.
pub(super) fn print(args: &CompletionArgs, mut command: Command) -> anyhow::Result<ExitCode> {
    let (name, mut script) = (command.get_name().to_owned(), Vec::new());
    clap_complete::generate(args.shell, &mut command, name.clone(), &mut script);
    if args.shell == Shell::Bash {
        script = with_one_name(&script, &name);
    }
    output::print_script(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// `clap_complete` 4.6 spells the name of a command with a dash in two ways in a script for bash, so that it completes
/// no subcommand.
fn with_one_name(script: &[u8], name: &str) -> Vec<u8> {
    let script = String::from_utf8_lossy(script);
    script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__")).into_bytes()
}

/// Writes one page for each command.
pub(super) fn write_man_pages(args: &ManArgs, command: Command) -> anyhow::Result<ExitCode> {
    clap_mangen::generate_to(command, &args.directory).with_context(|| {
        format!("failed to write man pages to {}: specify an existing directory", args.directory.display())
    })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_script_for_bash_completes_every_subcommand() {
        let (mut command, mut script) = (Cli::command(), Vec::new());
        let name = command.get_name().to_owned();
        clap_complete::generate(Shell::Bash, &mut command, name.clone(), &mut script);
        let script = String::from_utf8(with_one_name(&script, &name)).unwrap();
        let states: Vec<&str> =
            script.split("cmd=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(states.len() > 20, "{states:?}");
        for state in states.into_iter().filter(|state| !state.is_empty()) {
            assert!(script.contains(&format!("        {state})\n")), "{state} has no completion");
        }
    }
}
