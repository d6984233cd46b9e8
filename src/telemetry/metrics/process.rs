//! Metrics of this process from `/proc`, under the names of Prometheus' client libraries.

use std::fmt::Error;

use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// Reads `/proc/self` on each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// The CPU time in seconds; and gauges, each with its name, unit, help text and value.
type ProcessSample = (f64, [(&'static str, Option<Unit>, &'static str, Option<f64>); 6]);

#[expect(clippy::cast_precision_loss, reason = "sizes, counts and ages of a process fit")]
fn read() -> Option<ProcessSample> {
    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
    let started_at = procfs::boot_time_secs().ok()? as f64 + seconds(stat.starttime);
    let resident = stat.rss.saturating_mul(procfs::page_size()) as f64;
    let (address_space, threads) = (stat.vsize as f64, stat.num_threads as f64);
    let open = process.fd_count().ok().map(|open| open as f64);
    let max = match process.limits().ok().map(|limits| limits.max_open_files.soft_limit) {
        Some(LimitValue::Value(max)) => Some(max as f64),
        Some(LimitValue::Unlimited) | None => None,
    };
    let (bytes, time) = (Some(Unit::Bytes), Some(Unit::Seconds));
    let gauges = [
        (
            "process_resident_memory",
            bytes.clone(),
            "Resident memory of this process, in bytes.",
            Some(resident),
        ),
        ("process_virtual_memory", bytes, "Virtual memory of this process, in bytes.", Some(address_space)),
        ("process_start_time", time, "Start time of this process, in seconds since 1970.", Some(started_at)),
        ("process_threads", None, "Threads of this process.", Some(threads)),
        ("process_open_fds", None, "Open file descriptors of this process.", open),
        ("process_max_fds", None, "Maximum number of open file descriptors of this process.", max),
    ];
    Some((seconds(stat.utime.saturating_add(stat.stime)), gauges))
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some((used, gauges)) = read() else { return Ok(()) };
        let help = "CPU time of this process, in seconds.";
        encoder
            .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
            .encode_counter::<NoLabelSet, f64, f64>(&used, None)?;
        for (name, unit, help, value) in gauges {
            if let Some(value) = value {
                encoder
                    .encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?
                    .encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}
