//! The proxy for requests to the API server, chosen as kubectl does. Source: Go's `golang.org/x/net/http/httpproxy`, and
//! client-go for `proxy-url`. `socks5h` is not supported.

use std::net::IpAddr;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use thiserror::Error;

/// Schemes of proxies.
const SCHEMES: [&str; 3] = ["http", "https", "socks5"];

/// An address of a proxy that cannot be used. It is not shown, because it may contain a password.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{place} is not the address of a proxy: set it to http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT"
)]
pub struct ProxyError {
    place: &'static str,
}

/// The proxy for a server: `proxy-url` of the kubeconfig, or else what the environment names. The environment does not
/// apply to this machine, and not to what `NO_PROXY` names.
pub fn select(
    server: &Uri,
    proxy_url: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, ProxyError> {
    if let Some(url) = proxy_url.filter(|url| !url.is_empty()) {
        return parse("proxy-url of the kubeconfig", url).map(Some);
    }
    let set = |names: [&'static str; 2]| {
        let value = |name| variable(name).filter(|value| !value.is_empty());
        names.into_iter().find_map(|name| Some((name, value(name)?)))
    };
    let is_plain = server.scheme_str() == Some("http");
    let names = if is_plain { ["HTTP_PROXY", "http_proxy"] } else { ["HTTPS_PROXY", "https_proxy"] };
    let no_proxy = set(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
    match set(names) {
        Some((name, url)) if !is_direct(server, &no_proxy) => parse(name, &url).map(Some),
        _ => Ok(None),
    }
}

/// The scheme is optional.
fn parse(place: &'static str, url: &str) -> Result<Uri, ProxyError> {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri = url.parse::<Uri>().map_err(|_| ProxyError { place })?;
    if uri.scheme_str().is_some_and(|scheme| SCHEMES.contains(&scheme)) {
        Ok(uri)
    } else {
        Err(ProxyError { place })
    }
}

/// Whether the server is on this machine, or `NO_PROXY` names it.
fn is_direct(server: &Uri, no_proxy: &str) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_loopback || host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
    let entries: Vec<&str> =
        no_proxy.split(',').filter_map(|entry| host_of(entry.trim(), &port.to_string())).collect();
    if entries.contains(&"*") {
        return true;
    }
    // The matcher counts a domain as its own subdomain.
    let is_wider =
        |entry: &str| entry.strip_prefix('.').is_some_and(|domain| domain.eq_ignore_ascii_case(host));
    let entries: Vec<&str> = entries.into_iter().filter(|entry| !is_wider(entry)).collect();
    Matcher::builder().all("http://proxy").no(entries.join(",")).build().intercept(server).is_none()
}

/// The host of an entry of `NO_PROXY` in the form that the matcher knows; `None` if the entry is for another port.
fn host_of<'a>(entry: &'a str, port: &str) -> Option<&'a str> {
    if entry.contains('/') || entry.parse::<IpAddr>().is_ok() {
        return Some(entry);
    }
    let (host, wanted) = match entry.rsplit_once(':') {
        Some((host, wanted)) if !entry.ends_with(']') => (host, wanted),
        _ => (entry, ""),
    };
    let host = host.trim_matches(['[', ']']);
    // `*.example.com` is `.example.com`.
    let host = if host.starts_with("*.") { &host[1..] } else { host };
    (wanted.is_empty() || wanted == port).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(
        server: &'static str,
        proxy_url: Option<&str>,
        set: &[(&str, &str)],
    ) -> Result<Option<String>, ProxyError> {
        let variable =
            |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        let selected = select(&Uri::from_static(server), proxy_url, variable)?;
        Ok(selected.map(|uri| uri.to_string()))
    }

    fn uses_proxy(server: &'static str, no_proxy: &str) -> bool {
        let set = [("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", no_proxy)];
        selected(server, None, &set).unwrap().is_some()
    }

    #[test]
    fn no_proxy_names_servers_that_are_reached_directly() {
        let (name, v4, v6) =
            ("https://k8s.example.com:6443", "https://10.1.2.3:6443", "https://[fd00::1]:6443");
        for (server, no_proxy) in [
            (name, "k8s.example.com"),
            (name, "example.com"),
            (name, "K8S.Example.COM"),
            (name, ".example.com"),
            (name, "*.example.com"),
            (name, "k8s.example.com:6443"),
            (name, ".example.com:6443"),
            (name, "other, , k8s.example.com ,"),
            (name, "*"),
            (v4, "10.1.2.3"),
            (v4, "10.1.2.3:6443"),
            (v4, "10.1.0.0/16,"),
            (v4, "*"),
            (v6, "fd00::1"),
            (v6, "[fd00::1]"),
            (v6, "[fd00::1]:6443"),
            (v6, "fd00::/8"),
            ("https://k8s.example.com", "example.com:443"),
        ] {
            assert!(!uses_proxy(server, no_proxy), "{server} {no_proxy:?}");
        }
        for (server, no_proxy) in [
            (name, ""),
            (name, ","),
            (name, "proxy"),
            (name, "s.example.com"),
            (name, ".k8s.example.com"),
            (name, "*.k8s.example.com"),
            (name, "k8s.example.com:443"),
            (name, "10.0.0.0/8"),
            (v4, "10.1.2.4,10.2.0.0/16"),
            (v4, "10.1.2.3:443"),
            (v6, "[fd00::1]:443"),
        ] {
            assert!(uses_proxy(server, no_proxy), "{server} {no_proxy:?}");
        }
    }

    #[test]
    fn a_server_on_this_machine_is_reached_directly() {
        for server in ["https://localhost:6443", "https://127.0.0.1:6443", "https://[::1]:6443"] {
            assert!(!uses_proxy(server, ""), "{server}");
        }
        let set = [("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "*")];
        let of_kubeconfig = selected("https://localhost:6443", Some("http://other:3128"), &set);
        assert_eq!(of_kubeconfig, Ok(Some("http://other:3128/".to_owned())), "except by the kubeconfig");
    }

    #[test]
    fn the_variable_is_that_of_the_scheme_and_upper_case_comes_first() {
        let set = [
            ("HTTPS_PROXY", ""),
            ("https_proxy", "proxy:3128"),
            ("HTTP_PROXY", "socks5://plain:1080"),
            ("http_proxy", "other:1"),
        ];
        assert_eq!(selected("https://k8s", None, &set), Ok(Some("http://proxy:3128/".to_owned())));
        assert_eq!(selected("http://k8s", None, &set), Ok(Some("socks5://plain:1080/".to_owned())));
        assert_eq!(selected("https://k8s", Some(""), &[]), Ok(None));
    }

    #[test]
    fn an_address_that_is_no_proxy_is_an_error_that_does_not_show_it() {
        let set = [("HTTPS_PROXY", "ftp://user:canary@proxy"), ("NO_PROXY", "direct")];
        let error = selected("https://k8s", None, &set).unwrap_err().to_string();
        assert!(error.starts_with("HTTPS_PROXY is not") && !error.contains("canary"), "{error}");
        assert_eq!(selected("https://direct", None, &set), Ok(None), "it is not needed");
        let error = selected("https://k8s", Some("http://user:canary@pro xy"), &[]).unwrap_err().to_string();
        assert!(error.starts_with("proxy-url of the kubeconfig") && !error.contains("canary"), "{error}");
    }
}
