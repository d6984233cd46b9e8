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
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    output::print_script(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes one page for each command.
pub(super) fn write_man_pages(args: &ManArgs, command: Command) -> anyhow::Result<ExitCode> {
    clap_mangen::generate_to(command, &args.directory).with_context(|| {
        format!("failed to write man pages to {}: specify an existing directory", args.directory.display())
    })?;
    Ok(ExitCode::SUCCESS)
}
