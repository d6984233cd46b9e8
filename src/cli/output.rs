//! What a command prints on standard output, for people or for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use thiserror::Error;

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for people.
    #[default]
    Text,
    /// One JSON value for programs.
    Json,
}

/// Output that could not be written.
#[derive(Debug, Error)]
#[error("failed to write to standard output")]
pub(super) struct OutputError(#[from] io::Error);

/// Prints the text as it is.
pub(super) fn print(text: &str) -> Result<(), OutputError> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => Ok(ended?),
    }
}
