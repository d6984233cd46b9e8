//! Linux and macOS.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::signal::unix::{SignalKind, signal};

/// Counts time asleep as well. Source: `clock_gettime(2)`; the monotonic clock of macOS does that too.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// The time since the machine started, including time asleep, which `Instant` does not count.
pub fn clock() -> Duration {
    // Only a negative value could fail, and it is never negative.
    Duration::try_from(clock_gettime(CLOCK)).unwrap_or(Duration::MAX)
}

/// Disables core dumps with every setting that the system has for it. Returns their names and results.
pub fn disable_core_dumps() -> Vec<(&'static str, io::Result<()>)> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    vec![
        ("RLIMIT_CORE", setrlimit(Resource::Core, none).map_err(Into::into)),
        // Other processes of the user cannot read the memory either. macOS allows that to debuggers only.
        #[cfg(target_os = "linux")]
        (
            "PR_SET_DUMPABLE",
            rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
                .map_err(Into::into),
        ),
    ]
}

/// Waits for the signal to stop, and returns its name. Later signals change nothing.
pub fn stop_signal() -> io::Result<impl Future<Output = &'static str> + Send> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Creates a file that only its owner may access. Fails if it exists.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
