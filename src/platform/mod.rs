//! What differs between operating systems: clock, protection of memory, signals, access to files, resources of the
//! process. Nothing else in the crate names what only some systems have; a test checks that.
//!
//! The operator runs on Linux. Its commands also run on macOS and Windows.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub use self::linux::{disable_huge_pages, process_sample};
#[cfg(unix)]
pub use self::unix::{clock, create_private_file, disable_core_dumps, stop_signal};
#[cfg(windows)]
pub use self::windows::{clock, create_private_file, disable_core_dumps, stop_signal};

/// Resources of this process. A field is `None` if it is unknown or unlimited.
#[derive(Clone, Copy, Debug)]
pub struct ProcessSample {
    /// CPU time.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub resident_bytes: f64,
    /// Virtual memory.
    pub virtual_bytes: f64,
    /// Start, since 1970.
    pub start_seconds: f64,
    /// Threads.
    pub threads: f64,
    /// Open file descriptors.
    pub open_fds: Option<f64>,
    /// Maximum number of open file descriptors.
    pub max_fds: Option<f64>,
}

/// Turns huge pages off for this process. Only Linux has them without being asked for.
#[cfg(not(target_os = "linux"))]
pub fn disable_huge_pages() {}

/// The resources of this process: read on Linux only.
#[cfg(not(target_os = "linux"))]
pub fn process_sample() -> Option<ProcessSample> {
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_clock_runs_forwards() {
        let (earlier, later) = (clock(), clock());
        assert!(later > Duration::ZERO && earlier <= later);
    }

    #[test]
    fn a_private_file_is_new() {
        let path = std::env::temp_dir().join(format!("private-{:016x}", getrandom::u64().unwrap()));
        create_private_file(&path).unwrap();
        assert_eq!(create_private_file(&path).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        std::fs::remove_file(path).unwrap();
    }
}
