//! Export of traces and logs to an OpenTelemetry collector, by OTLP over HTTP. The standard `OTEL_*` variables enable it.
//!
//! Separate threads send from bounded queues. Nothing else waits for a collector, and telemetry that does not fit into a
//! queue is dropped.

mod client;
mod env;

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
use self::env::OtelEnv;

/// Time for the last export at the end of the process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// The exporters that the environment asks for.
#[derive(Debug, Default)]
pub struct Otlp {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    /// Settings of the environment that are not supported.
    unsupported: Vec<String>,
}

/// Why exporters cannot be created.
#[derive(Debug, Error)]
pub enum OtlpError {
    #[error("failed to set up the HTTP client for the OpenTelemetry collector")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("failed to set up the OpenTelemetry exporter: check the OTEL_EXPORTER_OTLP_* variables")]
    Exporter(#[from] ExporterBuildError),
}

// === impl Otlp ===

impl Otlp {
    /// The exporters that the environment configures; without a collector, none, and no client is created. Requests are
    /// sent on that runtime, which must live until [`Self::shutdown`] has returned.
    pub fn from_env(
        runtime: &Handle,
        http: impl Fn() -> Result<reqwest::Client, Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<Self, OtlpError> {
        let env = OtelEnv::read(|name| std::env::var(name).ok());
        let resource = resource();
        let client = |time_out, signal| {
            let http = http().map_err(OtlpError::Client)?;
            Ok::<_, OtlpError>(CollectorClient::new(runtime.clone(), http, time_out, signal))
        };
        let mut otlp = Self { unsupported: env.unsupported, ..Self::default() };
        if let Some(time_out) = env.traces {
            let exporter = SpanExporter::builder().with_http().with_http_client(client(time_out, "traces")?);
            let provider = SdkTracerProvider::builder().with_resource(resource.clone());
            otlp.traces = Some(provider.with_batch_exporter(exporter.build()?).build());
        }
        if let Some(time_out) = env.logs {
            let exporter = LogExporter::builder().with_http().with_http_client(client(time_out, "logs")?);
            let provider = SdkLoggerProvider::builder().with_resource(resource);
            otlp.logs = Some(provider.with_batch_exporter(exporter.build()?).build());
        }
        Ok(otlp)
    }

    /// Exports the operator's own spans; those of libraries would include each request to the Kubernetes API.
    pub(super) fn trace_layer<S>(&self) -> Option<impl Layer<S> + use<S>>
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

    /// Exports the operator's own log lines.
    pub(super) fn log_layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let bridge = OpenTelemetryTracingBridge::new(self.logs.as_ref()?);
        Some(bridge.with_filter(FilterFn::new(is_own)))
    }

    /// Logs what is exported, and which settings are not supported.
    pub fn announce(&self) {
        for setting in &self.unsupported {
            tracing::warn!(setting, "unsupported OpenTelemetry setting in the environment");
        }
        if self.traces.is_some() || self.logs.is_some() {
            let (traces, logs) = (self.traces.is_some(), self.logs.is_some());
            tracing::info!(traces, logs, "exporting telemetry to an OpenTelemetry collector");
        }
    }

    /// Exports what is left, for at most 5 seconds, and nothing afterwards.
    pub fn shutdown(self) {
        // What the collector does not accept in time is lost, which cannot be reported any longer.
        let traces = std::thread::spawn(move || {
            self.traces.map(|traces| traces.shutdown_with_timeout(SHUTDOWN_TIMEOUT))
        });
        let _lost_logs = self.logs.map(|logs| logs.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
        let _lost_traces = traces.join();
    }
}

/// Records the id of the span's trace in its field `trace_id`, if traces are exported. Returns whether they are.
pub fn record_trace_id(span: &Span) -> bool {
    let context = span.context();
    let trace = context.span().span_context().clone();
    let is_exported = trace.is_valid() && trace.is_sampled();
    if is_exported {
        span.record("trace_id", trace.trace_id().to_string());
    }
    is_exported
}

/// Whether a span or event comes from the operator and not from a library.
pub(super) fn is_own(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
}

/// Describes this process. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` take precedence.
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

/// Reads `OTEL_SERVICE_NAME`. The SDK's own detector would replace our name with `unknown_service` if it is unset.
struct ServiceNameDetector;

impl opentelemetry_sdk::resource::ResourceDetector for ServiceNameDetector {
    fn detect(&self) -> Resource {
        let name = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
        let named = name.map(|name| Resource::builder_empty().with_service_name(name));
        named.unwrap_or_else(Resource::builder_empty).build()
    }
}
