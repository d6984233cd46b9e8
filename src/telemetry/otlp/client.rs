//! The HTTP client of the exporters. They call it from their own threads, and it sends on the program's runtime.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

use crate::core::error_chain::chain;

/// Sends one signal: traces or logs.
#[derive(Debug)]
pub struct CollectorClient {
    http: reqwest::Client,
    runtime: Handle,
    time_out: Duration,
    signal: &'static str,
    /// Whether the last request failed; each change is logged once.
    is_failing: AtomicBool,
}

// === impl CollectorClient ===

impl CollectorClient {
    pub fn new(runtime: Handle, http: reqwest::Client, time_out: Duration, signal: &'static str) -> Self {
        Self { http, runtime, time_out, signal, is_failing: AtomicBool::new(false) }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (http, time_out) = (self.http.clone(), self.time_out);
        let sent = self.runtime.spawn(async move {
            let mut request: reqwest::Request = request.try_into()?;
            *request.timeout_mut() = Some(time_out);
            let response = http.execute(request).await.map_err(reqwest::Error::without_url)?;
            let status = response.status();
            let mut read = Response::new(response.bytes().await?);
            *read.status_mut() = status;
            Ok::<_, reqwest::Error>(read)
        });
        let response = sent.await.map_err(HttpError::from).and_then(|sent| sent.map_err(HttpError::from));
        self.report(&response);
        response
    }

    fn report(&self, response: &Result<Response<Bytes>, HttpError>) {
        let problem = match response {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("HTTP {}", response.status().as_u16())),
            Err(error) => Some(chain(error.as_ref())),
        };
        let was_failing = self.is_failing.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(error) if !was_failing => {
                tracing::warn!(
                    error,
                    signal = self.signal,
                    "failed to export telemetry to the collector; dropping it meanwhile"
                );
            }
            None if was_failing => {
                tracing::info!(signal = self.signal, "the collector accepts telemetry again");
            }
            _ => {}
        }
    }
}

impl HttpClient for CollectorClient {
    // The signature that `async_trait` generates for the trait.
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
