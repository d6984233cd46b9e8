//! Log lines, in JSON or text, without the bodies of Kubernetes' answers.

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

pub use super::causes::chain;
use super::otlp::{Otlp, is_own};
use crate::settings::{LogFormat, LogSettings};

/// Logging that cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("--log {filter:?} is no log filter")]
    Filter {
        /// The filter as given.
        filter: String,
        /// Why, and what would be one.
        source: FilterError,
    },
    /// Something else logs already.
    #[error("failed to install the logger")]
    Install(#[from] TryInitError),
}

/// Installs the process's logger, which writes to standard error, and sends the same and spans to a collector where
/// there is one. What is returned changes what it logs.
pub fn install(settings: &LogSettings, otlp: &Otlp) -> Result<LogFilter, LogError> {
    let filter = filter::parse(&settings.log)
        .map_err(|source| LogError::Filter { filter: settings.log.clone(), source })?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(io::stderr).with_target(true);
    let lines = match settings.log_format {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
        LogFormat::Text => lines.with_ansi(false).boxed(),
    };
    let lines = lines.and_then(otlp.lines());
    tracing_subscriber::registry()
        .with(lines.with_filter(filter).with_filter(FilterFn::new(is_fit_for_logs)))
        .with(otlp.spans())
        .try_init()?;
    otlp.announce();
    Ok(LogFilter::new(settings, handle))
}

/// Has a panic leave a line like any other, within the span that it ends, in place of text for a terminal.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(ToString::to_string);
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(
            message,
            location,
            backtrace,
            "a part of the program panicked: this is a defect of the operator"
        );
    }));
}

/// The spans that everything else happens in: a pass, a request to the REST API, a look at one of its records.
const OUTERMOST: [&str; 3] = ["pass", "request", "record"];

/// Keeps out what no filter may let in: kube's client logs the whole body of an answer that it cannot
/// read, and that body may be a Secret.
///
/// Of spans the outermost alone counts, which names the object and the trace: each line shows the innermost that it knows,
/// and a request within a pass would hide them.
fn is_fit_for_logs(metadata: &Metadata<'_>) -> bool {
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
    fn no_filter_lets_kubes_client_log_a_body() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).with_filter(EnvFilter::new("trace"));
        let subscriber =
            tracing_subscriber::registry().with(layer.with_filter(FilterFn::new(is_fit_for_logs)));
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
    fn each_line_names_the_object_of_its_pass_whatever_happens_within() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).json().flatten_event(true);
        let layer = layer.with_current_span(true).with_span_list(false).with_filter(EnvFilter::new("trace"));
        let subscriber =
            tracing_subscriber::registry().with(layer.with_filter(FilterFn::new(is_fit_for_logs)));
        tracing::subscriber::with_default(subscriber, || {
            let _pass = tracing::error_span!("pass", object = "mail/sales-eu").entered();
            let _call = tracing::debug_span!("woodpecker", operation = "create").entered();
            let _library = tracing::trace_span!(target: "hyper", "pass").entered();
            tracing::debug!("a detail");
        });
        let line = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["span"]["object"], "mail/sales-eu", "{line}");
    }
}
