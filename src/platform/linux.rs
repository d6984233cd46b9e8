//! What only Linux has.

use procfs::process::{LimitValue, Process};

use super::ProcessSample;

/// Turns huge pages off for this process. A kernel without huge pages rejects the request.
pub fn disable_huge_pages() {
    let _unsupported = rustix::thread::disable_transparent_huge_pages(true);
}

/// The resources of this process, from `/proc/self`.
#[expect(clippy::cast_precision_loss, reason = "sizes, counts and ages of a process fit")]
pub fn process_sample() -> Option<ProcessSample> {
    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
    let max_fds = match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(max) => Some(max as f64),
        LimitValue::Unlimited => None,
    };
    Some(ProcessSample {
        cpu_seconds: seconds(stat.utime.saturating_add(stat.stime)),
        resident_bytes: stat.rss.saturating_mul(procfs::page_size()) as f64,
        virtual_bytes: stat.vsize as f64,
        start_seconds: procfs::boot_time_secs().ok()? as f64 + seconds(stat.starttime),
        threads: stat.num_threads as f64,
        open_fds: process.fd_count().ok().map(|open| open as f64),
        max_fds,
    })
}
