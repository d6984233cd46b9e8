//! Errors of a cluster.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::{assets, process};

/// How many lines of a failed program's log are shown.
const SHOWN_LINES: usize = 40;

/// Why a cluster could not be started or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs are not available.
    #[error(transparent)]
    Assets(#[from] assets::Error),
    /// A program could not be run.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The runtime ended during a start.
    #[error("the start was aborted")]
    Aborted(#[source] tokio::task::JoinError),
    /// A file of the cluster could not be read or written.
    #[error("cannot {action} {path:?}")]
    Files {
        /// The action that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// There is no free port.
    #[error("no free port on 127.0.0.1")]
    NoPort(#[source] io::Error),
    /// Keys or the certificate could not be created.
    #[error("cannot create the cluster's keys")]
    Keys(#[source] rcgen::Error),
    /// The system provides no random numbers.
    #[error("no random numbers for the tokens")]
    Random(#[source] getrandom::Error),
    /// A program exited unexpectedly.
    #[error("{program} ended ({exit}); the end of its log:\n{log}")]
    Died {
        /// The program.
        program: &'static str,
        /// Its exit.
        exit: process::Exit,
        /// The end of its log.
        log: String,
    },
    /// The API does not respond.
    #[error("kube-apiserver is not ready after {bound:?} ({response}); the end of its log:\n{log}")]
    NotReady {
        /// How long the wait was.
        bound: Duration,
        /// The last response.
        response: String,
        /// The end of its log.
        log: String,
    },
    /// No client could be created.
    #[error("cannot set up a client for {server}")]
    Client {
        /// The URL of the API.
        server: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API rejected a request.
    #[error("cannot {action}")]
    Api {
        /// The action.
        action: String,
        /// The response.
        source: Box<kube::Error>,
    },
    /// A file is not the expected YAML.
    #[error("{path:?} contains no CRDs: {detail}")]
    Crds {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A CRD was accepted, but its API is not served.
    #[error("the API does not serve {name} within {bound:?}; {detail}")]
    NotServed {
        /// The CRD's name.
        name: String,
        /// How long the wait was.
        bound: Duration,
        /// What was seen last.
        detail: String,
    },
    /// The response is not a table.
    #[error("the response for {path} is not a table")]
    Table {
        /// The API path.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

// === impl Error ===

impl Error {
    /// Whether another start on other ports may succeed.
    pub(super) fn is_port_collision(&self) -> bool {
        matches!(self, Self::Died { log, .. } if log.contains("address already in use"))
    }

    pub(super) fn files(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Files { action, path, source }
    }

    pub(super) fn api(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Api { action, source: Box::new(source) }
    }
}

/// The last lines of a log.
pub(super) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}
