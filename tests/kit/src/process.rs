//! A child process that cannot outlive its parent, even one that is killed with SIGKILL.
//!
//! Between the two stands a guardian, a small shell in a process group of its own that Ctrl-C does not reach. It holds
//! the reading end of a pipe; when the writing end closes, however that came about, it kills the program and removes
//! the directory it was given.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ChildStdin,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

pub use rustix::process::Signal;

mod builder;
mod error;
mod exit;
mod guardian;

use self::guardian::State;
pub use self::{builder::Builder, error::Error, exit::Exit};

/// How long [`Process::stop`] waits between SIGTERM and SIGKILL, unless the builder says otherwise.
pub const GRACE: Duration = Duration::from_secs(10);
/// How long the guardian may take over its last duties.
const LAST_DUTIES: Duration = Duration::from_secs(30);

/// A running program; dropping it kills the program without waiting.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: rustix::process::Pid,
    log: PathBuf,
    grace: Duration,
    /// Never written to. The guardian acts when it closes.
    lifeline: Option<ChildStdin>,
    state: watch::Receiver<State>,
}

// === impl Process ===

impl Process {
    /// Prepares a program: a path, or a name to look up in `PATH`.
    pub fn builder(program: impl AsRef<Path>) -> Builder {
        Builder::new(program.as_ref())
    }

    /// The program's process id (not the guardian's).
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether the program has not ended yet.
    pub fn is_running(&self) -> bool {
        !self.state.borrow().has_ended()
    }

    /// Sends a signal to the program alone.
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

    /// Waits for the program's end.
    ///
    /// # Errors
    ///
    /// The program still runs after `bound`, or its guardian was killed.
    pub async fn wait(&self, bound: Duration) -> Result<Exit, Error> {
        let mut state = self.state.clone();
        let ended = timeout(bound, state.wait_for(State::has_ended)).await;
        match ended.map(|state| state.map(|state| state.exit)) {
            Ok(Ok(Some(exit))) => Ok(exit),
            Ok(Ok(None) | Err(_)) => Err(Error::GuardianLost { program: self.name.clone() }),
            Err(_) => Err(Error::StillRunning { program: self.name.clone(), bound }),
        }
    }

    /// All that the program wrote so far; empty if it has no log, or somebody removed it.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Where the program's output goes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Waits until the log holds `text`.
    ///
    /// # Errors
    ///
    /// The program ended without it, or it is not there after `bound`; both show the log.
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

    /// Ends the program: SIGTERM, and SIGKILL if that is not enough. When this returns, the directory to clean up is gone too.
    /// A program that ended before is no error.
    ///
    /// # Errors
    ///
    /// The program survived SIGKILL, or its guardian was killed or is stuck.
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

    /// Ends the program with SIGKILL and waits until the directory to clean up is gone.
    ///
    /// # Errors
    ///
    /// The guardian is stuck.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.lifeline = None;
        let mut state = self.state.clone();
        match timeout(LAST_DUTIES, state.wait_for(|state| state.over)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::StillRunning { program: self.name.clone(), bound: LAST_DUTIES }),
        }
    }
}
