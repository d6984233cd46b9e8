//! What can go wrong with a cluster.

use std::{io, path::PathBuf, time::Duration};

use crate::{assets, process};

/// How much of a failed program's log is shown.
const SHOWN_LINES: usize = 40;

/// Why a cluster could not be started or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs are not there.
    #[error(transparent)]
    Assets(#[from] assets::Error),
    /// A program could not be run.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The runtime ended during a start.
    #[error("the start was aborted")]
    Aborted(#[source] tokio::task::JoinError),
    /// A file of the cluster or for it.
    #[error("cannot {action} {path:?}")]
    Files {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no free port.
    #[error("no free port on 127.0.0.1")]
    NoPort(#[source] io::Error),
    /// Keys and the certificate could not be made.
    #[error("cannot make the cluster's keys")]
    Keys(#[source] rcgen::Error),
    /// The system gives no random numbers.
    #[error("no random numbers for the tokens")]
    Random(#[source] getrandom::Error),
    /// A program ended by itself.
    #[error("{program} ended ({exit}); the end of its log:\n{log}")]
    Died {
        /// Which.
        program: &'static str,
        /// How.
        exit: process::Exit,
        /// The end of its log.
        log: String,
    },
    /// The API does not answer.
    #[error("kube-apiserver is not ready after {bound:?} ({answer}); the end of its log:\n{log}")]
    NotReady {
        /// How long the wait was.
        bound: Duration,
        /// What it answered last.
        answer: String,
        /// The end of its log.
        log: String,
    },
    /// No client could be made.
    #[error("cannot set up a client for {server}")]
    Client {
        /// Where the API is.
        server: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API refused.
    #[error("cannot {action}")]
    Api {
        /// What was asked.
        action: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// A file is not the YAML it should be.
    #[error("{path:?} holds no CRDs: {detail}")]
    Crds {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A CRD is accepted but its API does not come up.
    #[error("the API does not serve {name} within {bound:?}; {detail}")]
    NotServed {
        /// The CRD's name.
        name: String,
        /// How long the wait was.
        bound: Duration,
        /// What was seen last.
        detail: String,
    },
    /// The answer is no table.
    #[error("the answer for {path} is no table")]
    Table {
        /// The API path.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

// === impl Error ===

impl Error {
    /// Whether another start, on other ports, may well work.
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
