//! The HTTP client for Microsoft and Woodpecker: no redirects, no pooled connections, bounded bodies, and
//! names resolved by servers that somebody chose.

mod dns;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Response};
use thiserror::Error;

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

/// Makes the client that carries secrets. Proxies come from the environment (`HTTPS_PROXY`, `NO_PROXY`).
///
/// Connections are not pooled, so no buffer of one outlives its request; redirects are not followed, for a
/// 307 would send the secret on. Each request sets its own total time-out.
pub fn client(
    timing: &Timing,
    servers: &DnsServers,
    extra_ca: Option<&Path>,
) -> Result<reqwest::Client, ClientError> {
    reqwest::Client::builder()
        .tls_certs_merge(extra_ca.map_or(Ok(Vec::new()), certificates)?)
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .pool_max_idle_per_host(0)
        .connect_timeout(timing.connect)
        .dns_resolver(servers.resolver()?)
        .build()
        .map_err(ClientError::Tls)
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
    use super::*;

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
