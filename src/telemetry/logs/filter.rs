//! What is logged, read again from a file while the program runs: a mounted `ConfigMap` changes it without a restart.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::reload::Handle;
use tracing_subscriber::{EnvFilter, Registry};

use super::chain;
use crate::settings::LogSettings;

#[derive(Debug)]
pub struct LogFilter {
    handle: Handle<EnvFilter, Registry>,
    /// `--log`, where no file says otherwise.
    standard: String,
    file: Option<PathBuf>,
    /// What holds now.
    current: String,
    /// What was last told of a file that cannot be used.
    told: Option<String>,
}

/// Why a text is no log filter.
#[derive(Debug, Error)]
pub enum FilterError {
    /// A part would be taken for the name of a target, and everything else be silent.
    #[error(
        "{0:?} is no level: give off, error, warn, info, debug or trace, or target=level, separated by commas"
    )]
    NoLevel(String),
    /// The text cannot be understood.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

/// Reads a log filter. A bare word must be a level: a misspelt one would silence everything, errors included.
pub(super) fn parse(text: &str) -> Result<EnvFilter, FilterError> {
    // A span's fields may hold commas; what stands in brackets is left to the parser.
    if text.contains('[') {
        return Ok(EnvFilter::try_new(text)?);
    }
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    for part in &parts {
        let (target, level) = part.split_once('=').unwrap_or(("", part));
        let is_level = !level.is_empty() && level.parse::<LevelFilter>().is_ok();
        if !is_level || target.contains(char::is_whitespace) {
            return Err(FilterError::NoLevel((*part).to_owned()));
        }
    }
    Ok(EnvFilter::try_new(parts.join(","))?)
}

// === impl LogFilter ===

impl LogFilter {
    pub(super) fn new(settings: &LogSettings, handle: Handle<EnvFilter, Registry>) -> Self {
        let (standard, file) = (settings.log.clone(), settings.log_filter_file.clone());
        Self { handle, current: standard.clone(), standard, file, told: None }
    }

    /// Reads the file every so often, where there is one, and does as it says. A file that is missing or empty leaves
    /// it to `--log`; one that cannot be understood changes nothing.
    pub async fn follow(mut self, every: Duration) {
        let Some(file) = self.file.clone() else { return };
        loop {
            match std::fs::read_to_string(&file) {
                Ok(text) if !text.trim().is_empty() => self.change(text.trim()),
                Err(error) if error.kind() != ErrorKind::NotFound => self.tell(chain(&error)),
                Ok(_) | Err(_) => self.change(&self.standard.clone()),
            }
            tokio::time::sleep(every).await;
        }
    }

    fn change(&mut self, filter: &str) {
        if self.current == filter {
            self.told = None;
            return;
        }
        let changed = parse(filter).map_err(|error| chain(&error)).and_then(|new| {
            // Before, for the new filter may let nothing through.
            tracing::warn!(filter, from = self.current, "what is logged changes");
            self.handle.reload(new).map_err(|error| chain(&error))
        });
        match changed {
            Ok(()) => {
                filter.clone_into(&mut self.current);
                self.told = None;
            }
            Err(error) => self.tell(error),
        }
    }

    fn tell(&mut self, error: String) {
        if self.told.as_ref() != Some(&error) {
            let file = self.file.as_ref().map(|file| file.display().to_string());
            tracing::error!(
                error,
                file,
                current = self.current,
                "--log-filter-file holds no log filter; what was logged before is logged on"
            );
            self.told = Some(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_word_is_a_level_or_an_error() {
        for text in [
            "info",
            "WARN",
            "off",
            "info,graph_credential_operator=debug",
            "info, kube=warn",
            "graph_credential_operator::woodpecker=trace",
            "info,[pass{controller=woodpeckeraccount}]=debug",
        ] {
            assert!(parse(text).is_ok(), "{text}: {:?}", parse(text).err());
        }
        for text in [
            "warning",
            "debgu",
            "verbose",
            "level: debug",
            "info\ngraph_credential_operator=debug",
            "info,graph_credential_operator",
            "kube=loud",
            "a=b=c",
            "info,",
            "",
        ] {
            let refused = parse(text).map(drop).unwrap_err().to_string();
            assert!(refused.contains("is no level"), "{text}: {refused}");
        }
    }
}
