//! A child process that cannot outlive its parent, even one that is killed with SIGKILL.
//!
//! Between the two is a supervisor, a small shell in its own process group, which Ctrl-C does not reach. It
//! holds the reading end of a pipe. When the writing end closes, for any reason, it kills the program and
//! removes the given directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

pub use rustix::process::Signal;

mod builder;
mod error;
mod exit;
mod parent_death;

pub use self::builder::Builder;
pub use self::error::Error;
pub use self::exit::Exit;
use self::parent_death::State;

/// How long [`Process::stop`] waits between SIGTERM and SIGKILL, unless the builder specifies another time.
pub const GRACE: Duration = Duration::from_secs(10);
/// How long the supervisor's cleanup may take.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running program; dropping it kills the program without waiting.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: rustix::process::Pid,
    log: PathBuf,
    grace: Duration,
    /// Never written to. The supervisor acts when it closes.
    lifeline: Option<ChildStdin>,
    state: watch::Receiver<State>,
}

// === impl Process ===

impl Process {
    /// Prepares a program: a path, or a name to look up in `PATH`.
    pub fn builder(program: impl AsRef<Path>) -> Builder {
        Builder::new(program.as_ref())
    }

    /// The program's process id (not the supervisor's).
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether the program is still running.
    pub fn is_running(&self) -> bool {
        !self.state.borrow().has_ended()
    }

    /// Sends a signal to the program only.
    ///
    /// # Errors
    ///
    /// The program has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        if !self.is_running() {
            return Err(Error::Ended { program: self.name.clone() });
        }
        rustix::process::kill_process(self.pid, signal)
            .map_err(|source| Error::Signal { program: self.name.clone(), source: source.into() })
    }

    /// Waits until the program ends.
    ///
    /// # Errors
    ///
    /// The program still runs after `bound`, or its supervisor was killed.
    pub async fn wait(&self, bound: Duration) -> Result<Exit, Error> {
        let mut state = self.state.clone();
        let ended = timeout(bound, state.wait_for(State::has_ended)).await;
        match ended.map(|state| state.map(|state| state.exit)) {
            Ok(Ok(Some(exit))) => Ok(exit),
            Ok(Ok(None) | Err(_)) => Err(Error::SupervisorLost { program: self.name.clone() }),
            Err(_) => Err(Error::StillRunning { program: self.name.clone(), bound }),
        }
    }

    /// The program's output so far; empty if it has no log, or the log was removed.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Where the program's output goes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Waits until the log contains `text`.
    ///
    /// # Errors
    ///
    /// The program ended without it, or it is missing after `bound`; both errors contain the log.
    pub async fn wait_for_log(&self, text: &str, bound: Duration) -> Result<(), Error> {
        let seen = timeout(bound, async {
            loop {
                let running = self.is_running();
                if self.log().contains(text) {
                    return true;
                }
                if !running {
                    return false;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        match seen.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => {
                Err(Error::NotInLog { program: self.name.clone(), text: text.to_owned(), log: self.log() })
            }
        }
    }

    /// Ends the program: SIGTERM, and SIGKILL if that is not enough. When this returns, the directory to
    /// clean up is removed too. A program that has already ended is not an error.
    ///
    /// # Errors
    ///
    /// The program survived SIGKILL, or its supervisor was killed or hangs.
    pub async fn stop(&mut self) -> Result<Exit, Error> {
        let exit = match self.signal(Signal::TERM) {
            Ok(()) => self.wait(self.grace).await,
            Err(_) => self.wait(Duration::ZERO).await,
        };
        self.kill().await?;
        match exit {
            Ok(exit) => Ok(exit),
            Err(_) => self.wait(Duration::ZERO).await,
        }
    }

    /// Ends the program with SIGKILL and waits until the directory to clean up is removed.
    ///
    /// # Errors
    ///
    /// The supervisor hangs.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.lifeline = None;
        let mut state = self.state.clone();
        match timeout(CLEANUP_TIMEOUT, state.wait_for(|state| state.over)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::StillRunning { program: self.name.clone(), bound: CLEANUP_TIMEOUT }),
        }
    }
}
