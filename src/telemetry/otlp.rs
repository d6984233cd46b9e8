//! Traces and logs for an OpenTelemetry collector, by OTLP over HTTP, switched on by the standard `OTEL_*` variables.
//!
//! What is to be sent waits in bounded queues that threads of their own empty: nothing waits for a collector, and what
//! finds a queue full is dropped.

mod client;
mod switch;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{ExporterBuildError, LogExporter, SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use thiserror::Error;
use tokio::runtime::Handle;
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::registry::LookupSpan;

use self::client::CollectorClient;
use self::switch::Switches;
use crate::http::ClientError;

/// For how long what is left is sent at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The exporters that the environment asks for.
#[derive(Debug, Default)]
pub struct Otlp {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    /// What the environment asks for and cannot be had.
    refused: Vec<String>,
}

/// Exporters that cannot be made.
#[derive(Debug, Error)]
pub enum OtlpError {
    /// The HTTP client cannot be made.
    #[error("failed to set up the HTTP client for the OpenTelemetry collector")]
    Client(#[from] ClientError),
    /// A variable holds what cannot be used.
    #[error("failed to set up the OpenTelemetry exporter: check the OTEL_EXPORTER_OTLP_* variables")]
    Exporter(#[from] ExporterBuildError),
}

// === impl Otlp ===

impl Otlp {
    /// As the environment has it; nothing where it names no collector, and then no client is made. Requests are sent on
    /// that runtime, which must live until [`Self::end`] has returned.
    pub fn from_env(
        runtime: &Handle,
        http: impl Fn() -> Result<reqwest::Client, ClientError>,
    ) -> Result<Self, OtlpError> {
        let switches = Switches::read(|name| std::env::var(name).ok());
        let resource = resource();
        let client = |time_out, signal| {
            http().map(|http| CollectorClient::new(runtime.clone(), http, time_out, signal))
        };
        let mut otlp = Self { refused: switches.refused, ..Self::default() };
        if let Some(time_out) = switches.traces {
            let exporter = SpanExporter::builder().with_http().with_http_client(client(time_out, "traces")?);
            let provider = SdkTracerProvider::builder().with_resource(resource.clone());
            otlp.traces = Some(provider.with_batch_exporter(exporter.build()?).build());
        }
        if let Some(time_out) = switches.logs {
            let exporter = LogExporter::builder().with_http().with_http_client(client(time_out, "logs")?);
            let provider = SdkLoggerProvider::builder().with_resource(resource);
            otlp.logs = Some(provider.with_batch_exporter(exporter.build()?).build());
        }
        Ok(otlp)
    }

    /// Spans of the operator itself; those of libraries would tell of each request to the Kubernetes API.
    pub(super) fn spans<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = self.traces.as_ref()?.tracer(env!("CARGO_PKG_NAME"));
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false);
        Some(layer.with_filter(FilterFn::new(|metadata| metadata.is_span() && is_own(metadata))))
    }

    /// Log lines of the operator itself.
    pub(super) fn lines<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let bridge = OpenTelemetryTracingBridge::new(self.logs.as_ref()?);
        Some(bridge.with_filter(FilterFn::new(is_own)))
    }

    /// Tells what is sent, and what was asked for and is not.
    pub fn announce(&self) {
        for refused in &self.refused {
            tracing::warn!(refused, "the environment asks for OpenTelemetry in a way that is not supported");
        }
        if self.traces.is_some() || self.logs.is_some() {
            let (traces, logs) = (self.traces.is_some(), self.logs.is_some());
            tracing::info!(traces, logs, "telemetry is sent to an OpenTelemetry collector");
        }
    }

    /// Sends what is left, for some seconds at most, and nothing after it.
    pub fn end(self) {
        // What a collector does not take by then is lost; there is nowhere left to tell it.
        let traces =
            std::thread::spawn(move || self.traces.map(|traces| traces.shutdown_with_timeout(LAST_WORDS)));
        let _lost_logs = self.logs.map(|logs| logs.shutdown_with_timeout(LAST_WORDS));
        let _lost_traces = traces.join();
    }
}

/// Writes the id of the trace that a span belongs to into its field `trace_id`, where traces are sent. Returns whether they
/// are.
pub fn note_trace_id(span: &Span) -> bool {
    let context = span.context();
    let trace = context.span().span_context().clone();
    let is_sent = trace.is_valid() && trace.is_sampled();
    if is_sent {
        span.record("trace_id", trace.trace_id().to_string());
    }
    is_sent
}

/// Whether a span or a line is the operator's, not a library's.
pub(super) fn is_own(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
}

/// What the telemetry is of. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win.
fn resource() -> Resource {
    let own = Resource::builder_empty().with_service_name(env!("CARGO_PKG_NAME"));
    let own = own.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let own = match std::env::var("POD_NAME") {
        Ok(pod) if !pod.is_empty() => own.with_attribute(KeyValue::new("service.instance.id", pod)),
        _ => own,
    };
    own.with_detector(Box::new(opentelemetry_sdk::resource::EnvResourceDetector::new()))
        .with_detector(Box::new(ServiceNameDetector))
        .build()
}

/// `OTEL_SERVICE_NAME` alone: the SDK's own would put `unknown_service` in place of ours.
struct ServiceNameDetector;

impl opentelemetry_sdk::resource::ResourceDetector for ServiceNameDetector {
    fn detect(&self) -> Resource {
        let name = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
        let named = name.map(|name| Resource::builder_empty().with_service_name(name));
        named.unwrap_or_else(Resource::builder_empty).build()
    }
}
