//! The HTTP client of the exporters, which send from threads of their own: it does the work on the program's runtime.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

use crate::telemetry::causes::chain;

/// Sends one kind of telemetry.
#[derive(Debug)]
pub struct CollectorClient {
    http: reqwest::Client,
    runtime: Handle,
    time_out: Duration,
    signal: &'static str,
    /// Whether the last request failed, which is told once.
    is_failing: AtomicBool,
}

// === impl CollectorClient ===

impl CollectorClient {
    /// Requests end after that time, whatever the collector does.
    pub fn new(runtime: Handle, http: reqwest::Client, time_out: Duration, signal: &'static str) -> Self {
        Self { http, runtime, time_out, signal, is_failing: AtomicBool::new(false) }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (http, time_out) = (self.http.clone(), self.time_out);
        let sent = self.runtime.spawn(async move {
            let mut request: reqwest::Request = request.try_into()?;
            *request.timeout_mut() = Some(time_out);
            let answer = http.execute(request).await.map_err(reqwest::Error::without_url)?;
            let status = answer.status();
            let mut read = Response::new(answer.bytes().await?);
            *read.status_mut() = status;
            Ok::<_, reqwest::Error>(read)
        });
        let answer = sent.await.map_err(HttpError::from).and_then(|it| it.map_err(HttpError::from));
        self.tell(&answer);
        answer
    }

    fn tell(&self, answer: &Result<Response<Bytes>, HttpError>) {
        let problem = match answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("HTTP {}", answer.status().as_u16())),
            Err(error) => Some(chain(error.as_ref())),
        };
        let was_failing = self.is_failing.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(error) if !was_failing => {
                tracing::warn!(
                    error,
                    signal = self.signal,
                    "the collector takes no telemetry; it is dropped meanwhile"
                );
            }
            None if was_failing => {
                tracing::info!(signal = self.signal, "the collector takes telemetry again");
            }
            _ => {}
        }
    }
}

impl HttpClient for CollectorClient {
    // As `async_trait` has it, by which the trait is declared.
    fn send_bytes<'client, 'future>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'client: 'future,
        Self: 'future,
    {
        Box::pin(self.send(request))
    }
}
