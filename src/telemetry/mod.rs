//! What the program tells about itself: logs, metrics, traces and probes.

mod causes;
pub mod logs;
pub mod metrics;
pub mod otlp;
pub mod probes;
pub mod readiness;
pub mod scrapers;
