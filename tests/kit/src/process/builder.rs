//! How a program is started.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf, absolute};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use tokio::time::timeout;

use super::parent_death::{self, State};
use super::{Error, GRACE, Process};

/// How long the supervisor may take to start the program.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The command line and environment of a program. Its output is discarded unless [`Builder::log`] names a
/// file.
#[derive(Debug)]
pub struct Builder {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    clear_env: bool,
    current_dir: Option<PathBuf>,
    log: PathBuf,
    cleanup_dir: Option<PathBuf>,
    grace: Duration,
}

impl Builder {
    pub(super) fn new(program: &Path) -> Self {
        Self {
            program: program.to_path_buf(),
            args: Vec::new(),
            env: Vec::new(),
            clear_env: false,
            current_dir: None,
            log: PathBuf::from("/dev/null"),
            cleanup_dir: None,
            grace: GRACE,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts from an empty environment instead of the parent's. The shell in between may still set `PWD`, and some
    /// shells `OLDPWD`, `SHLVL` and `_`.
    #[must_use]
    pub const fn clear_env(mut self) -> Self {
        self.clear_env = true;
        self
    }

    /// The program's working directory; the parent's by default.
    #[must_use]
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = Some(dir.into());
        self
    }

    /// The file that stdout and stderr are appended to. Its directory is created if missing.
    #[must_use]
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = path.into();
        self
    }

    /// A directory to remove, with its content, once the program has ended and the parent has ended or
    /// stopped it.
    #[must_use]
    pub fn cleanup_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cleanup_dir = Some(dir.into());
        self
    }

    /// How long [`Process::stop`] waits between SIGTERM and SIGKILL; [`GRACE`] by default.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    ///
    /// The program does not exist (a name that is not in `PATH` is detected only by its exit code 127), the
    /// directory to clean up is unsafe, or the supervisor cannot be started.
    pub async fn spawn(self) -> Result<Process, Error> {
        let name =
            self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned();
        let spawn_error = |source| Error::Spawn { program: name.clone(), source };
        let log = absolute(&self.log).map_err(spawn_error)?;
        if let Some(dir) = log.parent() {
            fs::create_dir_all(dir).map_err(spawn_error)?;
        }
        // Here and not in the supervisor, which could not report why it failed.
        fs::OpenOptions::new().append(true).create(true).open(&log).map_err(spawn_error)?;
        let mut child = self.command(&log)?.spawn().map_err(spawn_error)?;
        let lifeline = child.stdin.take();
        let mut state = parent_death::follow(child).map_err(spawn_error)?;
        let started = timeout(START_TIMEOUT, state.wait_for(State::has_started)).await;
        let pid = started.ok().and_then(Result::ok).and_then(|state| state.pid);
        match pid {
            Some(pid) => Ok(Process { name, pid, log, grace: self.grace, lifeline, state }),
            None => Err(spawn_error(io::Error::other("it did not report the program's process id"))),
        }
    }

    fn command(&self, log: &Path) -> Result<Command, Error> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", parent_death::SCRIPT, "supervisor"]).arg(log);
        command.arg(self.removable_dir()?).arg(self.executable()?).args(&self.args);
        if self.clear_env {
            command.env_clear();
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.current_dir {
            command.current_dir(dir);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.process_group(0);
        Ok(command)
    }

    /// A path is made absolute, because it is relative to the parent; a bare name is left to `PATH`.
    fn executable(&self) -> Result<PathBuf, Error> {
        let no_program = || Error::NoProgram { program: self.program.clone() };
        if self.program.components().count() < 2 {
            return Ok(self.program.clone());
        }
        absolute(&self.program).ok().filter(|path| path.is_file()).ok_or_else(no_program)
    }

    fn removable_dir(&self) -> Result<&OsStr, Error> {
        match &self.cleanup_dir {
            None => Ok(OsStr::new("")),
            Some(dir) if is_removable(dir) => Ok(dir.as_os_str()),
            Some(dir) => Err(Error::UnsafeCleanup { dir: dir.clone() }),
        }
    }
}

/// A mistake here would remove more than a test's own files.
fn is_removable(dir: &Path) -> bool {
    let climbs = dir.components().any(|component| component == Component::ParentDir);
    dir.is_absolute() && !climbs && dir.components().count() > 2
}
