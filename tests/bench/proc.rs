//! CPU and memory of processes, from `/proc`.

use procfs::process::Process;

/// CPU time of a process so far, in milliseconds.
#[allow(clippy::cast_precision_loss)]
pub fn cpu(pid: u32) -> f64 {
    let stat = of(pid).stat().expect("the process runs");
    (stat.utime + stat.stime) as f64 * 1000.0 / procfs::ticks_per_second() as f64
}

/// Resident memory now, in MiB.
pub fn memory(pid: u32) -> f64 {
    mebibytes(of(pid).status().expect("the process runs").vmrss)
}

/// Peak resident memory since the last [`forget_peak`], in MiB.
pub fn peak(pid: u32) -> f64 {
    mebibytes(of(pid).status().expect("the process runs").vmhwm)
}

/// Resets the peak.
pub fn forget_peak(pid: u32) {
    // Source: proc_pid_clear_refs(5).
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the process runs");
}

/// The limit for the private writable memory of a process, in bytes.
pub fn data_limit(pid: u32) -> Option<u64> {
    match of(pid).limits().expect("the process runs").max_data_size.soft_limit {
        procfs::process::LimitValue::Value(bytes) => Some(bytes),
        procfs::process::LimitValue::Unlimited => None,
    }
}

/// The name of the machine for a report.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores, {}", model.map_or("unknown", |(_, model)| model.trim()))
}

fn of(pid: u32) -> Process {
    Process::new(pid.cast_signed()).expect("the process runs")
}

#[allow(clippy::cast_precision_loss)]
fn mebibytes(kibibytes: Option<u64>) -> f64 {
    kibibytes.unwrap_or_default() as f64 / 1024.0
}
