//! What the system knows of this process, under the names of Prometheus' client libraries; nothing where there is no
//! `/proc`.

use std::fmt::Error;

use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

/// Reads `/proc/self` on each scrape.
#[derive(Debug)]
struct ThisProcess;

/// What is told of it.
struct Reading {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    /// Seconds since 1970.
    started_at: f64,
    threads: i64,
    open_files: Option<usize>,
    most_files: Option<u64>,
}

pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(ThisProcess));
}

fn read() -> Option<Reading> {
    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "ticks since the start of a process or machine fit")]
    let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    let started_at = procfs::boot_time_secs().ok()? as f64 + seconds(stat.starttime);
    let most_files = match process.limits().ok().map(|limits| limits.max_open_files.soft_limit) {
        Some(LimitValue::Value(most)) => Some(most),
        Some(LimitValue::Unlimited) | None => None,
    };
    Some(Reading {
        cpu_seconds: seconds(stat.utime.saturating_add(stat.stime)),
        resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
        virtual_bytes: stat.vsize,
        started_at,
        threads: stat.num_threads,
        open_files: process.fd_count().ok(),
        most_files,
    })
}

impl Collector for ThisProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(read) = read() else { return Ok(()) };
        encoder
            .encode_descriptor(
                "process_cpu",
                "Processor time of this process in seconds.",
                Some(&Unit::Seconds),
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, f64, f64>(&read.cpu_seconds, None)?;
        let mut gauge = |name, unit: Option<&Unit>, help, value: f64| {
            encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
        };
        #[expect(clippy::cast_precision_loss, reason = "sizes and counts of a process fit")]
        {
            let bytes = Some(&Unit::Bytes);
            gauge(
                "process_resident_memory",
                bytes,
                "Memory of this process that is in use, in bytes.",
                read.resident_bytes as f64,
            )?;
            gauge(
                "process_virtual_memory",
                bytes,
                "Address space of this process, in bytes.",
                read.virtual_bytes as f64,
            )?;
            gauge(
                "process_start_time",
                Some(&Unit::Seconds),
                "When this process was started, in seconds since 1970.",
                read.started_at,
            )?;
            gauge("process_threads", None, "Threads of this process.", read.threads as f64)?;
            if let Some(open) = read.open_files {
                gauge(
                    "process_open_fds",
                    None,
                    "Files and sockets that this process has open.",
                    open as f64,
                )?;
            }
            if let Some(most) = read.most_files {
                gauge(
                    "process_max_fds",
                    None,
                    "Most files and sockets that this process may have open.",
                    most as f64,
                )?;
            }
        }
        Ok(())
    }
}
