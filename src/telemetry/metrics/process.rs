//! Metrics of this process, under the names of Prometheus' client libraries. They exist on Linux only.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::platform::{self, ProcessSample};

/// Reads the resources of the process on each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// Gauges, each with its name, unit, help text and value.
type Gauges = [(&'static str, Option<Unit>, &'static str, Option<f64>); 6];

fn gauges(process: &ProcessSample) -> Gauges {
    let (bytes, time) = (Some(Unit::Bytes), Some(Unit::Seconds));
    let (resident, address_space) = (Some(process.resident_bytes), Some(process.virtual_bytes));
    let (started_at, threads) = (Some(process.start_seconds), Some(process.threads));
    [
        ("process_resident_memory", bytes.clone(), "Resident memory of this process, in bytes.", resident),
        ("process_virtual_memory", bytes, "Virtual memory of this process, in bytes.", address_space),
        ("process_start_time", time, "Start time of this process, in seconds since 1970.", started_at),
        ("process_threads", None, "Threads of this process.", threads),
        ("process_open_fds", None, "Open file descriptors of this process.", process.open_fds),
        (
            "process_max_fds",
            None,
            "Maximum number of open file descriptors of this process.",
            process.max_fds,
        ),
    ]
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(process) = platform::process_sample() else { return Ok(()) };
        let help = "CPU time of this process, in seconds.";
        encoder
            .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
            .encode_counter::<NoLabelSet, f64, f64>(&process.cpu_seconds, None)?;
        for (name, unit, help, value) in gauges(&process) {
            if let Some(value) = value {
                encoder
                    .encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?
                    .encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}
