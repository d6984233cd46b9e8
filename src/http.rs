//! The HTTP client for Microsoft and Woodpecker: no redirects, connections that soon end, bounded bodies, and names
//! resolved by servers that somebody chose.

mod dns;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::{Certificate, Response};
use thiserror::Error;
use tokio::time::Instant;

use self::dns::Resolver;
pub use self::dns::{DnsError, DnsServers};
use crate::settings::Timing;

/// A client that could not be made.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No name server is known.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The file of further CA certificates cannot be read.
    #[error("failed to read --extra-ca {path}: give a file that the operator may read")]
    ReadCa {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of further CA certificates holds none.
    #[error("--extra-ca {path} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCa {
        /// The file.
        path: PathBuf,
    },
    /// TLS could not be set up, mostly for want of CA certificates.
    #[error("failed to set up TLS for Microsoft and Woodpecker: are CA certificates installed?")]
    Tls(#[source] reqwest::Error),
}

/// An answer that was not received whole.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The connection ended early or timed out.
    #[error("the answer was cut off")]
    CutOff(#[source] reqwest::Error),
    /// It is longer than any proper answer of its kind.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// Sends requests that carry secrets. Those that begin within four seconds share connections, and those after them have
/// others, for the buffers of a connection keep what came through it. One that is idle is closed within four seconds, another
/// one after its answer.
#[derive(Clone)]
pub struct HttpClient(Arc<Shared>);

struct Shared {
    extra_ca: Vec<Certificate>,
    resolver: Arc<Resolver>,
    connect_timeout: Duration,
    reuse: Duration,
    current: Mutex<Option<Connections>>,
}

/// The connections of the requests that begin within the same four seconds.
struct Connections {
    client: reqwest::Client,
    opened: Instant,
}

// === impl HttpClient ===

impl HttpClient {
    /// With these name servers and further CA certificates. Proxies come from the environment (`HTTPS_PROXY`, `NO_PROXY`).
    pub fn new(timing: &Timing, servers: &DnsServers, extra_ca: Option<&Path>) -> Result<Self, ClientError> {
        let shared = Shared {
            extra_ca: extra_ca.map_or(Ok(Vec::new()), certificates)?,
            resolver: servers.resolver()?,
            connect_timeout: timing.connect,
            reuse: timing.connection_reuse,
            current: Mutex::default(),
        };
        shared.build().map_err(ClientError::Tls)?;
        Ok(Self(Arc::new(shared)))
    }

    /// A client that one request is sent with, now. Redirects are not followed, for a 307 would send the secret on. Each
    /// request sets its own total time-out.
    pub fn get(&self) -> reqwest::Result<reqwest::Client> {
        let mut current = self.0.current.lock();
        if let Some(connections) = current.as_ref().filter(|it| it.opened.elapsed() < self.0.reuse) {
            return Ok(connections.client.clone());
        }
        let client = self.0.build()?;
        *current = Some(Connections { client: client.clone(), opened: Instant::now() });
        Ok(client)
    }

    /// One that reaches this machine alone.
    #[cfg(test)]
    pub(crate) fn testing() -> Self {
        let _other_test_was_first = rustls::crypto::ring::default_provider().install_default();
        let servers = DnsServers::Listed(vec![([127, 0, 0, 1], 1).into()]);
        Self::new(&Timing::STANDARD, &servers, None).expect("CA certificates are installed")
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn build(&self) -> reqwest::Result<reqwest::Client> {
        reqwest::Client::builder()
            .tls_certs_merge(self.extra_ca.clone())
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .pool_idle_timeout(self.reuse / 2)
            .connect_timeout(self.connect_timeout)
            .dns_resolver(self.resolver.clone())
            .build()
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let pem = std::fs::read(path).map_err(|source| ClientError::ReadCa { path: path.to_owned(), source })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(ClientError::NoCa { path: path.to_owned() }),
    }
}

/// Reads the whole body, which may have at most so many bytes.
pub async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::CutOff)? {
        if body.len() + chunk.len() > most {
            return Err(BodyError::TooLong(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Longest wait that a remote side may ask for, in seconds: a day.
const LONGEST_WAIT: u64 = 86_400;

/// What a `Retry-After` header asks for, in either of its forms. Source: RFC 9110 §10.2.3.
pub fn retry_after(headers: &http::HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds.min(LONGEST_WAIT)));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let wait = Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO);
    Some(wait.min(Duration::from_secs(LONGEST_WAIT)))
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
        let servers = DnsServers::Listed(vec![([127, 0, 0, 1], 1).into()]);
        let _other_test_was_first = rustls::crypto::ring::default_provider().install_default();
        let http = HttpClient::new(&timing, &servers, None).unwrap();
        let ask = async || http.get().unwrap().get(&url).send().await.unwrap();
        for _ in 0..3 {
            ask().await;
        }
        assert_eq!(counts(), (1, 0), "they share one");
        tokio::time::sleep(timing.connection_reuse).await;
        ask().await;
        assert_eq!(counts().0, 2, "this one came later");
        tokio::time::timeout(timing.connection_reuse * 3, async {
            while counts().1 < 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("an idle connection is closed");
    }

    fn asked(value: &str) -> Option<Duration> {
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers, "2026-11-24T08:00:00Z".parse().unwrap())
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        assert_eq!(asked("120"), Some(Duration::from_mins(2)));
        assert_eq!(asked("Tue, 24 Nov 2026 08:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(asked("Tue, 24 Nov 2026 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("soon"), None);
    }
}
