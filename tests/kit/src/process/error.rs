//! Errors of a child process.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a program could not be started, watched or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program does not exist.
    #[error("there is no program {program:?}")]
    NoProgram {
        /// The path given.
        program: PathBuf,
    },
    /// A directory that must not be removed.
    #[error(
        "{dir:?} cannot be a directory to clean up: it must be absolute and below a directory other than the root"
    )]
    UnsafeCleanup {
        /// The directory given.
        dir: PathBuf,
    },
    /// The supervisor could not be started.
    #[error("cannot start the supervisor of {program}")]
    Spawn {
        /// The program's name.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// The supervisor ended before the program: it was killed.
    #[error("the supervisor of {program} was killed, so it is unknown how the program ended")]
    SupervisorLost {
        /// The program's name.
        program: String,
    },
    /// The program has ended already.
    #[error("{program} has ended")]
    Ended {
        /// The program's name.
        program: String,
    },
    /// A signal could not be sent.
    #[error("cannot signal {program}")]
    Signal {
        /// The program's name.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// A wait was too short.
    #[error("{program} still runs after {bound:?}")]
    StillRunning {
        /// The program's name.
        program: String,
        /// How long the wait was.
        bound: Duration,
    },
    /// A text did not appear.
    #[error("{program} did not log {text:?}; it logged:\n{log}")]
    NotInLog {
        /// The program's name.
        program: String,
        /// The text waited for.
        text: String,
        /// The whole log.
        log: String,
    },
}
