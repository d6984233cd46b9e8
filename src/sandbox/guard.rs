//! Refuses requests that a website may have caused. Every website can send requests to this machine, and with DNS rebinding it
//! can read the responses. A browser then names another host, or another origin.
//!
//! Strict sandboxes also refuse headers that the API does not know.

use std::net::IpAddr;

use axum::extract::Request;
use axum::response::Response;
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;

use crate::rest::problem;

/// Headers that clients and proxies send, apart from those that begin with `accept`, `content-`, `sec-` or `x-forwarded-`.
const KNOWN_HEADERS: [&str; 22] = [
    "authorization",
    "baggage",
    "cache-control",
    "connection",
    // Browsers send those of every program on this machine.
    "cookie",
    "dnt",
    "expect",
    "forwarded",
    "host",
    // Java's client asks for HTTP/2.
    "http2-settings",
    "keep-alive",
    "origin",
    "pragma",
    "priority",
    "referer",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
];

/// Says whether another website caused the request. Every browser sends it to this machine.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

const API_HEADERS: [&str; 2] = ["x-api-key", "x-company-id"];

#[derive(Debug)]
pub(super) struct Guard {
    /// Further names of this machine, such as the name of a container.
    pub hosts: Vec<String>,
    /// Whether unknown headers are refused.
    pub is_strict: bool,
}

// === impl Guard ===

impl Guard {
    /// The response to a request that a website may have caused, or that a strict sandbox refuses.
    pub fn refusal(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let refuse = |status, reason: &str| Some(problem(status, reason, Timestamp::now()));
        let Some(host) = single(headers, &HOST).filter(|host| self.allows_host(host)) else {
            let reason = "The Host header names another host than this one; see --allowed-host";
            return refuse(StatusCode::FORBIDDEN, reason);
        };
        let is_other_origin =
            headers.contains_key(ORIGIN) && single(headers, &ORIGIN) != Some(&format!("http://{host}"));
        // The request for an image or a script of another website has no origin. Other websites may link to the page.
        let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
        let is_embedded = site.is_some_and(|site| site != b"same-origin" && site != b"none");
        if is_other_origin || (is_embedded && request.uri().path() != "/") {
            return refuse(StatusCode::FORBIDDEN, "Websites cannot send requests to the sandbox");
        }
        let unknown = headers.keys().find(|name| self.is_strict && !is_known(name))?;
        refuse(StatusCode::BAD_REQUEST, &format!("The API does not know the header {unknown}"))
    }

    /// An address is no danger: rebinding needs a name.
    fn allows_host(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host();
        // The parser ignores what is between an IPv6 address and a port.
        let port = authority.port().map(|port| format!(":{port}")).unwrap_or_default();
        if host != format!("{name}{port}") {
            return false;
        }
        let name = name.trim_matches(['[', ']']);
        let is_local = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok();
        is_local || self.hosts.iter().any(|it| it.eq_ignore_ascii_case(name))
    }
}

fn is_known(name: &HeaderName) -> bool {
    let name = name.as_str();
    let families = ["accept", "content-", "sec-", "x-forwarded-"];
    KNOWN_HEADERS.contains(&name)
        || API_HEADERS.contains(&name)
        || families.iter().any(|family| name.starts_with(family))
}

/// The text of a header that occurs exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_named_hosts_are_allowed() {
        let guard = Guard { hosts: vec!["sandbox".to_owned()], is_strict: false };
        for host in
            ["127.0.0.1:8445", "[::1]:8445", "localhost", "LOCALHOST:1", "10.0.0.7:80", "sandbox:8445"]
        {
            assert!(guard.allows_host(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com:80",
            "sandbox.example.com",
            "a b",
            "[::1].example.com",
            "user@127.0.0.1",
        ] {
            assert!(!guard.allows_host(host), "{host}");
        }
    }
}
