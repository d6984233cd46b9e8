//! What the program tells about itself: logs, metrics, traces and probes.

mod causes;
pub(crate) mod logs;
pub mod metrics;
pub(crate) mod otlp;
pub(crate) mod probes;
pub mod readiness;
pub(crate) mod scrapers;
