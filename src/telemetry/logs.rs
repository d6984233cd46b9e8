//! Logs, as JSON or text, without bodies of Kubernetes API responses.

mod filter;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;

use thiserror::Error;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt, reload};

pub use self::filter::{FilterError, LogFilter};

use crate::config::{LogFormat, LogSettings};
pub use crate::core::error_chain::chain;
use crate::telemetry::otlp::{Otlp, is_own};

/// Why logging cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("--log-level {filter:?} is not a valid log filter")]
    Filter { filter: String, source: FilterError },
    #[error("failed to install the logger")]
    Install(#[from] TryInitError),
}

/// Installs the process's logger, which writes to standard error. With an OpenTelemetry collector, it also sends the logs
/// and the spans there. The returned filter can change what is logged.
pub fn install(settings: &LogSettings, otlp: &Otlp) -> Result<LogFilter, LogError> {
    let filter = filter::parse(&settings.log_level)
        .map_err(|source| LogError::Filter { filter: settings.log_level.clone(), source })?;
    let (filter, handle) = reload::Layer::new(filter);
    let output = fmt::layer().with_writer(io::stderr).with_target(true);
    let output = match settings.log_format {
        LogFormat::Json => {
            output.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
        LogFormat::Text => output.with_ansi(false).boxed(),
    };
    let output = output.and_then(otlp.log_layer());
    tracing_subscriber::registry()
        .with(output.with_filter(filter).with_filter(FilterFn::new(is_loggable)))
        .with(otlp.trace_layer())
        .try_init()?;
    otlp.announce();
    Ok(LogFilter::new(settings, handle))
}

/// Logs panics like other errors, within their span, instead of writing plain text.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(ToString::to_string);
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(message, location, backtrace, "panic: this is a bug in the operator");
    }));
}

/// The outermost spans: a reconcile, a request to the REST API, the check of a record.
const OUTERMOST: [&str; 3] = ["reconcile", "request", "record"];

/// Excludes what no filter may let in: kube's client logs the whole body of a response that it cannot parse, and that body
/// may be a Secret.
///
/// Only the outermost spans are logged, because they name the object and the trace. Each line shows the innermost span that
/// the layer knows, so the span of a request within a reconcile would hide them.
fn is_loggable(metadata: &Metadata<'_>) -> bool {
    if metadata.is_span() {
        return is_own(metadata) && OUTERMOST.contains(&metadata.name());
    }
    !metadata.target().starts_with("kube_client::client") || *metadata.level() == Level::ERROR
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::EnvFilter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map_err(|_| io::ErrorKind::Other)?.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_filter_lets_the_kube_client_log_a_body() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).with_filter(EnvFilter::new("trace"));
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(FilterFn::new(is_loggable)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "kube_client::client", "failed to read {}", "the body");
            tracing::error!(target: "kube_client::client", "no connection");
            tracing::trace!(target: "kube_runtime", "a detail");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("the body"), "{text}");
        assert!(text.contains("no connection") && text.contains("a detail"), "{text}");
    }

    #[test]
    fn each_line_names_the_object_of_its_reconcile_whatever_the_inner_spans() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).json().flatten_event(true);
        let layer = layer.with_current_span(true).with_span_list(false).with_filter(EnvFilter::new("trace"));
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(FilterFn::new(is_loggable)));
        tracing::subscriber::with_default(subscriber, || {
            let _reconcile = tracing::error_span!("reconcile", object = "mail/sales-eu").entered();
            let _call = tracing::debug_span!("woodpecker", operation = "create").entered();
            let _library = tracing::trace_span!(target: "hyper", "reconcile").entered();
            tracing::debug!("a detail");
        });
        let line = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["span"]["object"], "mail/sales-eu", "{line}");
    }
}
