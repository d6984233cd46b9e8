//! The HTTP client for Microsoft and Woodpecker: no redirects, short-lived connections, bounded bodies, and name
//! resolution by configured servers only.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::Response;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::time::Instant;

use super::dns::Resolver;
pub use super::dns::{DnsError, DnsServers};
use super::roots::{RootsError, TrustedRoots};
use crate::core::timing::Timing;

/// Why a client could not be created.
#[derive(Debug, Error)]
pub enum ClientError {
    #[error(transparent)]
    Dns(#[from] DnsError),
    #[error(transparent)]
    Roots(#[from] RootsError),
    #[error("failed to set up the HTTP client for Microsoft and Woodpecker")]
    Setup(#[source] reqwest::Error),
}

/// Why a response body was not received completely.
#[derive(Debug, Error)]
pub enum BodyError {
    #[error("the response was cut off")]
    CutOff(#[source] reqwest::Error),
    #[error("the response is longer than {0} bytes")]
    TooLong(usize),
}

/// Creates the clients for requests that carry secrets. Requests that start within four seconds share a client and its
/// connections, and later ones get another client, because the buffers of a connection may keep what it received. An idle
/// connection is closed within four seconds. A connection whose client was replaced is closed after its response.
#[derive(Clone)]
pub struct HttpClients(Arc<Shared>);

struct Shared {
    resolver: Arc<Resolver>,
    connect_timeout: Duration,
    reuse: Duration,
    state: Mutex<State>,
}

struct State {
    trust: TrustedRoots,
    current: Option<Current>,
}

/// The client for requests that start within the same four seconds.
struct Current {
    client: reqwest::Client,
    since: Instant,
}

// === impl HttpClients ===

impl HttpClients {
    /// `ca_bundle` adds CA certificates. Proxies come from the environment (`HTTPS_PROXY`, `NO_PROXY`).
    pub fn new(timing: &Timing, servers: &DnsServers, ca_bundle: Option<&Path>) -> Result<Self, ClientError> {
        let trust = TrustedRoots::new(ca_bundle)?;
        let roots = trust.roots();
        let shared = Shared {
            resolver: Resolver::new(servers),
            connect_timeout: timing.connect,
            reuse: timing.connection_reuse,
            state: Mutex::new(State { trust, current: None }),
        };
        shared.build(roots).map_err(ClientError::Setup)?;
        Ok(Self(Arc::new(shared)))
    }

    /// Whether names can be resolved. Until then only requests to IP addresses succeed.
    pub fn check_dns(&self) -> Result<(), DnsError> {
        self.0.resolver.open().map(drop)
    }

    /// The client for a request that is sent now. It follows no redirects, because a 307 would send the secret to another
    /// server. Each request sets its own total timeout.
    pub fn current(&self) -> reqwest::Result<reqwest::Client> {
        let mut state = self.0.state.lock();
        if let Some(current) = state.current.as_ref().filter(|current| current.since.elapsed() < self.0.reuse)
        {
            return Ok(current.client.clone());
        }
        let client = self.0.build(state.trust.refresh())?;
        state.current = Some(Current { client: client.clone(), since: Instant::now() });
        Ok(client)
    }

    /// Clients that reach only this machine.
    #[cfg(test)]
    pub(crate) fn testing(timing: &Timing) -> Self {
        let _other_test_was_first = rustls::crypto::ring::default_provider().install_default();
        let servers = DnsServers::Listed(vec![([127, 0, 0, 1], 1).into()]);
        Self::new(timing, &servers, None).expect("CA certificates are installed")
    }
}

impl fmt::Debug for HttpClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClients").finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn build(&self, roots: Arc<RootCertStore>) -> reqwest::Result<reqwest::Client> {
        let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .pool_idle_timeout(self.reuse / 2)
            .connect_timeout(self.connect_timeout)
            .dns_resolver(self.resolver.clone())
            .build()
    }
}

/// Reads the whole body, of at most `max` bytes.
pub async fn body(mut response: Response, max: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::CutOff)? {
        if body.len() + chunk.len() > max {
            return Err(BodyError::TooLong(max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Longest wait that a server may ask for, in seconds: a day.
const MAX_WAIT: u64 = 86_400;

/// The wait that a `Retry-After` header asks for, in either of its forms. Source: RFC 9110 §10.2.3.
pub fn retry_after(headers: &http::HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds.min(MAX_WAIT)));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let wait = Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO);
    Some(wait.min(Duration::from_secs(MAX_WAIT)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn connections_are_shared_for_a_while_and_then_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (opened, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = || (opened.load(Ordering::Relaxed), closed.load(Ordering::Relaxed));
        let (on_open, on_close) = (opened.clone(), closed.clone());
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                on_open.fetch_add(1, Ordering::Relaxed);
                let ended = on_close.clone();
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    while connection.read(&mut head).await.is_ok_and(|length| length > 0) {
                        connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                    }
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        let timing = Timing::STANDARD.divided_by(4);
        let http = HttpClients::testing(&timing);
        let request = async || http.current().unwrap().get(&url).send().await.unwrap();
        for _ in 0..3 {
            request().await;
        }
        assert_eq!(counts(), (1, 0), "they share a connection");
        let started = Instant::now();
        while started.elapsed() < timing.connection_reuse {
            request().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        request().await;
        assert_eq!(counts().0, 2, "a connection in constant use is replaced as well");
        tokio::time::timeout(timing.connection_reuse * 3, async {
            while counts().1 < 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("idle connections are closed");
    }

    fn parsed(value: &str) -> Option<Duration> {
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers, "2026-11-24T08:00:00Z".parse().unwrap())
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        assert_eq!(parsed("120"), Some(Duration::from_mins(2)));
        assert_eq!(parsed("Tue, 24 Nov 2026 08:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(parsed("Tue, 24 Nov 2026 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parsed("soon"), None);
    }
}
