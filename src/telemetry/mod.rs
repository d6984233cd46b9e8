//! What the program tells about itself: logs, metrics and probes.

pub mod logs;
pub mod metrics;
pub mod probes;
