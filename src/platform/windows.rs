//! Windows.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::signal::windows::ctrl_c;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time since its first use, including time asleep, which `Instant` counts on Windows. Source:
/// `QueryPerformanceCounter`.
pub fn clock() -> Duration {
    START.elapsed()
}

/// Disables nothing: whether Windows writes the memory of a failed process to a file is up to the administrator.
pub fn disable_core_dumps() -> Vec<(&'static str, io::Result<()>)> {
    Vec::new()
}

/// Waits for Ctrl-C, and returns its name. A second one changes nothing.
pub fn stop_signal() -> io::Result<impl Future<Output = &'static str> + Send> {
    let mut interrupt = ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
        "Ctrl-C"
    })
}

/// Creates a file with the access rights of its folder. Fails if it exists.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}
