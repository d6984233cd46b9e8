//! The token endpoint: one request, one verdict. The reconcile queue is the retry loop.
//!
//! Source: Microsoft, "OAuth 2.0 client credentials flow" (v2.0).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;
use zeroize::Zeroizing;

use super::app::App;
use super::breaker::Breaker;
use super::diagnosis::{Diagnosis, ErrorBody, diagnose};
use super::pace::{Asker, Pace};
use super::{Authorities, claims, cloud};
use crate::http::{self, HttpClients};
use crate::leadership::{Leadership, NotLeading};
use crate::resources::is_guid;
use crate::secret::SecretText;
use crate::settings::Timing;
use crate::telemetry::logs::chain;
use crate::telemetry::metrics::Metrics;

/// Longest answer that is read, in bytes: a token with many roles has some thousands.
const LONGEST_ANSWER: usize = 256 << 10;

/// What Microsoft said to a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A token was issued. It is dropped at once; only its roles are kept, where they can be read.
    Issued {
        /// Sorted; nothing where the token cannot be read.
        roles: Option<Vec<String>>,
    },
    /// No token, and why.
    NotIssued {
        diagnosis: Diagnosis,
        /// How long to wait at least, where somebody said so.
        retry_after: Option<Duration>,
        /// For logs and events, never for conditions: it differs on each try.
        trace: Trace,
    },
}

/// What Microsoft's support needs to find a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// HTTP status; none where no answer came.
    pub status: Option<u16>,
    pub codes: Vec<u32>,
    /// Microsoft's trace id.
    pub id: Option<String>,
    /// Microsoft's correlation id, or the one we sent.
    pub correlation_id: Option<String>,
    /// When it answered, by Microsoft's clock.
    pub timestamp: Option<String>,
    /// Why no answer came.
    pub failure: Option<String>,
}

/// The token endpoints of all clouds.
#[derive(Clone, Debug)]
pub struct TokenEndpoint {
    parts: EndpointParts,
    time_out: Duration,
    pace: Arc<Pace>,
    breaker: Arc<Breaker>,
    asker: Asker,
}

/// What the token endpoints are made of.
#[derive(Clone, Debug)]
pub struct EndpointParts {
    pub http: HttpClients,
    pub authorities: Authorities,
    pub leadership: Leadership,
    pub metrics: Arc<Metrics>,
}

#[derive(Deserialize)]
struct TokenBody {
    access_token: SecretText,
}

// === impl TokenEndpoint ===

impl TokenEndpoint {
    pub fn new(parts: EndpointParts, timing: &Timing) -> Self {
        let (pace, breaker) = (Arc::new(Pace::new(timing)), Arc::new(Breaker::new(timing)));
        Self { parts, time_out: timing.token_call, pace, breaker, asker: Asker::Controller }
    }

    /// The same endpoints asked in another capacity. How often an app is tried is counted together.
    #[must_use]
    pub fn acting_as(&self, leadership: Leadership) -> Self {
        let parts = EndpointParts { leadership, ..self.parts.clone() };
        Self { parts, ..self.clone() }
    }

    /// The same endpoints asked for an account of the REST API, which has tries of its own for each app.
    #[must_use]
    pub fn for_account(&self, account: &str) -> Self {
        Self { asker: Asker::Account(account.to_owned()), ..self.clone() }
    }

    /// The same endpoints asked for an object of a namespace, which is known to have had a token for its app or not.
    #[must_use]
    pub fn for_namespace(&self, name: &str, had_token: bool) -> Self {
        Self { asker: Asker::Namespace { name: name.to_owned(), had_token }, ..self.clone() }
    }

    /// Divides how often accounts may try one secret of an app among so many processes from now on, this one included.
    pub fn share_among(&self, processes: usize) {
        self.pace.share_among(processes);
    }

    /// Asks for a token for Graph and drops it: a token proves tenant, client and secret, nothing else.
    /// Only a leader asks.
    pub async fn prove(&self, app: App<'_>, secret: &SecretText) -> Result<Verdict, NotLeading> {
        self.parts.leadership.admit(self.time_out)?;
        let mut leave = match self.breaker.admit(self.parts.authorities.of(app.cloud)) {
            Ok(leave) => leave,
            Err(wait) => {
                let why = "not asked: the token endpoint has not answered several times in a row";
                return Ok(held_back(Diagnosis::Unavailable, wait, why));
            }
        };
        if let Err(wait) = self.pace.admit(app, secret, &self.asker) {
            return Ok(held_back(Diagnosis::Throttled, wait, "tried too often; held back by the operator"));
        }
        let started = Instant::now();
        let span = tracing::debug_span!("microsoft token", otel.kind = "client", outcome = Empty);
        let asked = self.ask(app, secret).instrument(span.clone()).await;
        match &asked {
            Ok(_) => leave.answered(),
            Err(_) => leave.unanswered(),
        }
        let verdict = asked.unwrap_or_else(|unanswered| unanswered);
        self.pace.ended(app, &self.asker, &verdict);
        span.record("outcome", verdict.outcome());
        self.parts.metrics.remote.ended("microsoft", "token", verdict.outcome(), started.elapsed());
        Ok(verdict)
    }

    /// What the endpoint says, or the same for an answer that did not come.
    async fn ask(&self, app: App<'_>, secret: &SecretText) -> Result<Verdict, Verdict> {
        let url = format!("{}/{}/oauth2/v2.0/token", self.parts.authorities.of(app.cloud), app.tenant);
        let request_id = request_id();
        let mut trace = Trace { correlation_id: Some(request_id.clone()), ..Trace::default() };
        let http = match self.parts.http.current() {
            Ok(http) => http,
            Err(error) => return Err(unreachable(trace, &error)),
        };
        let request = http
            .post(url)
            .timeout(self.time_out)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .header("client-request-id", &request_id)
            .body(form(app, secret));
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(unreachable(trace, &error.without_url())),
        };
        let status = response.status().as_u16();
        let retry_after = http::retry_after(response.headers(), Timestamp::now());
        trace.status = Some(status);
        let body = match http::body(response, LONGEST_ANSWER).await {
            Ok(body) => Zeroizing::new(body),
            Err(error) => return Err(unreachable(trace, &error)),
        };
        if status == 200 {
            if let Ok(token) = serde_json::from_slice::<TokenBody>(&body) {
                return Ok(Verdict::Issued { roles: claims::roles(token.access_token.expose()) });
            }
            trace.failure = Some("the answer holds no token".into());
            return Ok(Verdict::NotIssued { diagnosis: Diagnosis::Unavailable, retry_after, trace });
        }
        let body = serde_json::from_slice::<ErrorBody>(&body).ok();
        let diagnosis = diagnose(status, body.as_ref());
        if let Some(body) = body {
            trace.take(body, secret);
        }
        Ok(Verdict::NotIssued { diagnosis, retry_after, trace })
    }
}

/// The verdict on a request that the operator itself does not send.
fn held_back(diagnosis: Diagnosis, wait: Duration, why: &str) -> Verdict {
    let trace = Trace { failure: Some(why.to_owned()), ..Trace::default() };
    Verdict::NotIssued { diagnosis, retry_after: Some(wait), trace }
}

fn unreachable(mut trace: Trace, error: &dyn std::error::Error) -> Verdict {
    trace.failure = Some(chain(error));
    Verdict::NotIssued { diagnosis: Diagnosis::Unavailable, retry_after: None, trace }
}

/// The request's form, encoded once: a secret may hold `+`, `/`, `=` and `%`.
fn form(app: App<'_>, secret: &SecretText) -> Vec<u8> {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", app.client.as_str())
        .append_pair("client_secret", secret.expose())
        .append_pair("grant_type", "client_credentials")
        .append_pair("scope", cloud::scope(app.cloud))
        .finish()
        .into_bytes()
}

/// A fresh random GUID (version 4), by which Microsoft's support finds the request.
fn request_id() -> String {
    let mut bytes = [0_u8; 16];
    // Without randomness the id is all zeros: a request that is harder to find, nothing worse.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = [0; 16];
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

// === impl Trace ===

impl Trace {
    /// Codes and ids by which Microsoft's support finds the request: for an event, never for a condition.
    pub fn ids(&self) -> String {
        let codes = self.codes.iter().map(|code| format!("AADSTS{code}"));
        let ids = [
            ("trace", &self.id),
            ("correlation", &self.correlation_id),
            ("time", &self.timestamp),
            ("failure", &self.failure),
        ];
        let ids = ids.iter().filter_map(|(name, id)| id.as_ref().map(|id| format!("{name} {id}")));
        codes.chain(ids).collect::<Vec<_>>().join(", ")
    }

    /// Takes over what has the shape that Microsoft gives it. What answers may be a proxy that says back what
    /// it was sent, the secret with it, and a trace is shown in logs, in events and by `verify`.
    fn take(&mut self, body: ErrorBody, secret: &SecretText) {
        // Some old secrets are GUIDs themselves.
        let is_id = |id: &String| is_guid(id) && !id.eq_ignore_ascii_case(secret.expose());
        self.codes = body.error_codes;
        self.id = body.trace_id.filter(is_id);
        self.correlation_id = body.correlation_id.filter(is_id).or(self.correlation_id.take());
        self.timestamp = body.timestamp.filter(|time| is_time(time));
    }
}

/// Whether the text is a time as Microsoft writes it, `2016-01-09 02:02:12Z`, or in RFC 3339.
fn is_time(text: &str) -> bool {
    text.ends_with('Z') && text.parse::<Timestamp>().is_ok()
}

// === impl Verdict ===

impl Verdict {
    /// As metrics name it.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Issued { .. } => "issued",
            Self::NotIssued { diagnosis: Diagnosis::Refused(_), .. } => "refused",
            Self::NotIssued { diagnosis: Diagnosis::Throttled, .. } => "throttled",
            Self::NotIssued { diagnosis: Diagnosis::Unavailable, .. } => "unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::leadership::testing::clock;
    use crate::resources::{Cloud, TenantId};

    #[tokio::test]
    async fn only_a_leader_asks_and_only_what_ends_in_time() {
        let _other_test_was_first = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = format!("http://{}", listener.local_addr().unwrap());
        let leadership = Leadership::none(clock, Duration::from_secs(5));
        let parts = EndpointParts {
            http: HttpClients::testing(&Timing::STANDARD),
            authorities: Authorities::new(authority.parse().unwrap()),
            leadership: leadership.clone(),
            metrics: Arc::default(),
        };
        let endpoint = TokenEndpoint::new(parts, &Timing::STANDARD);
        let tenant = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
        let client = "e1c6ac69-480e-4a17-9b85-3467967bd179".parse().unwrap();
        let app = App { cloud: Cloud::Global, tenant: &tenant, client: &client };
        let secret = SecretText::new("s3cret".into());
        for left in [0, 19] {
            leadership.extend(clock() + Duration::from_secs(left));
            assert_eq!(endpoint.prove(app, &secret).await, Err(NotLeading), "{left} s are left");
        }
        leadership.extend(clock() + Duration::from_secs(30));
        tokio::select! {
            connected = listener.accept() => assert!(connected.is_ok()),
            ended = endpoint.prove(app, &secret) => panic!("it is sent: {ended:?}"),
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_does_not_answer_is_not_asked_by_everybody() {
        let _other_test_was_first = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = format!("http://{}", listener.local_addr().unwrap());
        let parts = EndpointParts {
            http: HttpClients::testing(&Timing::STANDARD),
            authorities: Authorities::new(authority.parse().unwrap()),
            leadership: Leadership::always(),
            metrics: Arc::default(),
        };
        let endpoint = TokenEndpoint::new(parts, &Timing::STANDARD.divided_by(100));
        let (tenant, secret) =
            ("bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap(), SecretText::new("x".into()));
        let mut waits = Vec::new();
        for app in 0..8 {
            let client = format!("e1c6ac69-480e-4a17-9b85-3467967bd1{app:02}").parse().unwrap();
            let app = App { cloud: Cloud::Global, tenant: &tenant, client: &client };
            let Verdict::NotIssued { diagnosis, retry_after, .. } =
                endpoint.prove(app, &secret).await.unwrap()
            else {
                panic!("nobody answers")
            };
            assert_eq!(diagnosis, Diagnosis::Unavailable);
            waits.push(retry_after);
        }
        assert_eq!(waits[..5], [None; 5]);
        assert!(waits[5..].iter().all(Option::is_some), "{waits:?}");
    }

    #[test]
    fn a_secret_is_encoded_exactly_once() {
        let tenant = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
        let client = "e1c6ac69-480e-4a17-9b85-3467967bd179".parse().unwrap();
        let app = App { cloud: Cloud::Global, tenant: &tenant, client: &client };
        let body = String::from_utf8(form(app, &SecretText::new("a+b%2B/=~ \"".into()))).unwrap();
        assert_eq!(
            body,
            "client_id=e1c6ac69-480e-4a17-9b85-3467967bd179&client_secret=a%2Bb%252B%2F%3D%7E+%22\
             &grant_type=client_credentials&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"
        );
    }

    #[test]
    fn a_trace_holds_nothing_but_ids_and_a_time() {
        let body = |id: &str, time: &str| ErrorBody {
            error_codes: vec![7_000_215],
            trace_id: Some(id.into()),
            correlation_id: Some(id.into()),
            timestamp: Some(time.into()),
            ..ErrorBody::default()
        };
        let own = Trace { correlation_id: Some("ours".into()), ..Trace::default() };
        let id = "0f1a2b3c-4d5e-4f60-8a7b-9c0d1e2f3a4b";
        let guid = "77777777-4d5e-4f60-8a7b-9c0d1e2f3a4b";
        let secret = SecretText::new(guid.into());
        for time in ["2016-01-09 02:02:12Z", "2016-01-09T02:02:12Z"] {
            let mut trace = own.clone();
            trace.take(body(id, time), &secret);
            assert_eq!((trace.id.as_deref(), trace.timestamp.as_deref()), (Some(id), Some(time)));
            assert_eq!(trace.correlation_id.as_deref(), Some(id));
        }
        for echo in [guid, "my~secret", "\u{1b}[31m", "", "2016-01-09 02:02:12Z my~secret", "12345"] {
            let mut trace = own.clone();
            trace.take(body(echo, echo), &secret);
            assert_eq!(trace, Trace { codes: vec![7_000_215], ..own.clone() }, "{echo:?}");
        }
    }

    #[test]
    fn request_ids_are_fresh_guids() {
        let (one, other) = (request_id(), request_id());
        assert_ne!(one, other);
        assert!(one.parse::<TenantId>().is_ok(), "{one}");
        assert_eq!(one.as_bytes()[14], b'4');
    }
}
