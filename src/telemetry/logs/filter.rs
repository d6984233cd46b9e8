//! What is logged, read again from a file while the program runs: a mounted `ConfigMap` changes it without a restart.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::reload::Handle;
use tracing_subscriber::{EnvFilter, Registry};

use super::chain;
use crate::settings::LogSettings;

/// What is logged.
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
                Ok(_) => self.change(&self.standard.clone()),
                Err(error) if error.kind() == ErrorKind::NotFound => self.change(&self.standard.clone()),
                Err(error) => self.tell(chain(&error)),
            }
            tokio::time::sleep(every).await;
        }
    }

    fn change(&mut self, filter: &str) {
        if self.current == filter {
            self.told = None;
            return;
        }
        match EnvFilter::try_new(filter) {
            Ok(new) => match self.handle.reload(new) {
                Ok(()) => {
                    filter.clone_into(&mut self.current);
                    self.told = None;
                    // Most filters let a warning through.
                    tracing::warn!(filter, "what is logged has changed");
                }
                Err(error) => self.tell(chain(&error)),
            },
            Err(error) => self.tell(chain(&error)),
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
