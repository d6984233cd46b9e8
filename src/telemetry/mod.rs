//! Telemetry: logs, metrics, traces and health probes.

pub(crate) mod health;
pub(crate) mod logs;
pub mod metrics;
pub(crate) mod metrics_auth;
pub(crate) mod otlp;
pub mod readiness;
