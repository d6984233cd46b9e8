//! The log filter, reloaded from a file while the program runs: a mounted `ConfigMap` changes it without a restart.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::reload::Handle;
use tracing_subscriber::{EnvFilter, Registry};

use crate::config::LogSettings;
use crate::core::error_chain::chain;

#[derive(Debug)]
pub struct LogFilter {
    handle: Handle<EnvFilter, Registry>,
    /// `--log-level`, which applies without a file.
    default: String,
    file: Option<PathBuf>,
    current: String,
    /// The last logged error about the file.
    reported_error: Option<String>,
}

/// Why a text is not a log filter.
#[derive(Debug, Error)]
pub enum FilterError {
    /// The part would count as the name of a target, and everything else would be silent.
    #[error(
        "{0:?} is not a level: use off, error, warn, info, debug or trace, or target=level, separated by commas"
    )]
    NoLevel(String),
    #[error(transparent)]
    Parse(#[from] ParseError),
}

/// Parses a log filter. A bare word must be a level: a misspelled one would silence everything, errors included.
pub(super) fn parse(text: &str) -> Result<EnvFilter, FilterError> {
    // The fields of a span may contain commas, so filters with brackets are left to the parser.
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
        let (default, file) = (settings.log_level.clone(), settings.log_filter_file.clone());
        Self { handle, current: default.clone(), default, file, reported_error: None }
    }

    /// Reloads the file, if one is configured. With a missing or empty file, `--log-level` applies. An invalid filter
    /// changes nothing.
    pub async fn watch_file(mut self, interval: Duration) {
        let Some(file) = self.file.clone() else { return };
        loop {
            match std::fs::read_to_string(&file) {
                Ok(text) if !text.trim().is_empty() => self.apply(text.trim()),
                Err(error) if error.kind() != ErrorKind::NotFound => self.report(chain(&error)),
                Ok(_) | Err(_) => self.apply(&self.default.clone()),
            }
            tokio::time::sleep(interval).await;
        }
    }

    fn apply(&mut self, filter: &str) {
        if self.current == filter {
            self.reported_error = None;
            return;
        }
        let changed = parse(filter).map_err(|error| chain(&error)).and_then(|new| {
            // Logged first, because the new filter may let nothing through.
            tracing::warn!(filter, from = self.current, "changing the log filter");
            self.handle.reload(new).map_err(|error| chain(&error))
        });
        match changed {
            Ok(()) => {
                filter.clone_into(&mut self.current);
                self.reported_error = None;
            }
            Err(error) => self.report(error),
        }
    }

    fn report(&mut self, error: String) {
        if self.reported_error.as_ref() != Some(&error) {
            let file = self.file.as_ref().map(|file| file.display().to_string());
            tracing::error!(
                error,
                file,
                current = self.current,
                "--log-filter-file contains no valid log filter; the current one stays in use"
            );
            self.reported_error = Some(error);
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
            "info,[reconcile{controller=woodpeckeraccount}]=debug",
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
            let error = parse(text).map(drop).unwrap_err().to_string();
            assert!(error.contains("is not a level"), "{text}: {error}");
        }
    }
}
