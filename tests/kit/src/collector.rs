//! A fake OpenTelemetry collector. It receives spans and log records by OTLP over HTTP (`POST /v1/traces`,
//! `/v1/logs`, protobuf), keeps them, and hangs or rejects on demand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use crate::double::http::{HttpResponse, Reply, ReplyKind, Request};
use crate::double::lock;
use crate::double::server::Server;

/// A running fake of a collector; stops when dropped.
pub struct Collector {
    state: Arc<Mutex<State>>,
    server: Server,
}

/// A received span.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// The id of the parent span; empty for a root.
    pub parent_id: String,
    /// Whether it ended with an error.
    pub is_error: bool,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Attributes of the sender.
    pub resource: BTreeMap<String, String>,
}

/// A received log record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its message.
    pub body: String,
    /// The severity, such as `INFO`.
    pub severity: String,
    /// The id of its trace; empty if it has none.
    pub trace_id: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
}

/// How requests are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Behavior {
    #[default]
    Accept,
    Reject,
    Hang,
}

#[derive(Default)]
struct State {
    behavior: Behavior,
    spans: Vec<Span>,
    records: Vec<Record>,
    requests: usize,
    raw: Vec<u8>,
}

// === impl Collector ===

impl Collector {
    /// Starts on a free loopback port, with nothing received.
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let serving = Arc::clone(&state);
        let server = Server::start(move |request| {
            let state = Arc::clone(&serving);
            async move { Reply { what: receive(&state, &request), held: Vec::new() } }
        })
        .await;
        Self { state, server }
    }

    /// A value for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// All received spans.
    pub fn spans(&self) -> Vec<Span> {
        lock(&self.state).spans.clone()
    }

    /// All received log records.
    pub fn records(&self) -> Vec<Record> {
        lock(&self.state).records.clone()
    }

    /// Number of received requests, with any response.
    pub fn requests(&self) -> usize {
        lock(&self.state).requests
    }

    /// Everything received, byte for byte.
    pub fn raw(&self) -> Vec<u8> {
        lock(&self.state).raw.clone()
    }

    /// Responds with 503 from now on.
    pub fn reject(&self) {
        lock(&self.state).behavior = Behavior::Reject;
    }

    /// Does not respond from now on.
    pub fn hang(&self) {
        lock(&self.state).behavior = Behavior::Hang;
    }

    /// Accepts requests from now on.
    pub fn accept(&self) {
        lock(&self.state).behavior = Behavior::Accept;
    }
}

fn receive(state: &Mutex<State>, request: &Request) -> ReplyKind {
    let mut state = lock(state);
    state.requests += 1;
    match state.behavior {
        Behavior::Hang => return ReplyKind::Hang(Duration::from_mins(10)),
        Behavior::Reject => return ReplyKind::Response(HttpResponse::new(503, "text/plain", "not now")),
        Behavior::Accept => {}
    }
    if request.method != "POST" || !request.has_content_type("application/x-protobuf") {
        return ReplyKind::Response(HttpResponse::new(415, "text/plain", "only protobuf is accepted"));
    }
    state.raw.extend_from_slice(&request.body);
    let is_decoded = match request.path.as_str() {
        "/v1/traces" => ExportTraceServiceRequest::decode(request.body.clone())
            .map(|traces| state.spans.extend(spans(traces)))
            .is_ok(),
        "/v1/logs" => ExportLogsServiceRequest::decode(request.body.clone())
            .map(|logs| state.records.extend(records(logs)))
            .is_ok(),
        _ => false,
    };
    if is_decoded {
        ReplyKind::Response(HttpResponse::new(200, "application/x-protobuf", Bytes::new()))
    } else {
        ReplyKind::Response(HttpResponse::new(400, "text/plain", "not OTLP"))
    }
}

fn spans(request: ExportTraceServiceRequest) -> impl Iterator<Item = Span> {
    request.resource_spans.into_iter().flat_map(|group| {
        let resource = group.resource.map(|Resource { attributes, .. }| map(attributes)).unwrap_or_default();
        let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.map(move |span| Span {
            name: span.name,
            trace_id: hex(&span.trace_id),
            span_id: hex(&span.span_id),
            parent_id: hex(&span.parent_span_id),
            is_error: span.status.is_some_and(|status| status.code == 2),
            attributes: map(span.attributes),
            resource: resource.clone(),
        })
    })
}

fn records(request: ExportLogsServiceRequest) -> impl Iterator<Item = Record> {
    let scopes = request.resource_logs.into_iter().flat_map(|group| group.scope_logs);
    scopes.flat_map(|scope| scope.log_records).map(|record| Record {
        body: text(record.body),
        severity: record.severity_text,
        trace_id: hex(&record.trace_id),
        attributes: map(record.attributes),
    })
}

fn map(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is_so)) => is_so.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
