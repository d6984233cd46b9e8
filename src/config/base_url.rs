//! URLs that secrets are sent to: https, or plain http to this machine.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;
use thiserror::Error;

/// An absolute https URL (http only for loopback addresses) without user, query or fragment, and without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BaseUrl(Arc<str>);

/// Why a text is not a usable base URL.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BaseUrlError {
    #[error("{0:?} is not an absolute address such as https://api.woodpecker.co/rest")]
    NotAbsolute(String),
    #[error("{0:?} would send secrets unencrypted: use https (http is allowed for loopback addresses only)")]
    NotEncrypted(String),
    #[error("{0:?} must have no user, query or fragment")]
    ExtraParts(String),
}

// === impl BaseUrl ===

impl BaseUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let uri = Uri::from_str(text).map_err(|_| BaseUrlError::NotAbsolute(text.to_owned()))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(BaseUrlError::NotAbsolute(text.to_owned()));
        };
        if text.contains(['?', '#', '@']) || text.chars().any(char::is_whitespace) {
            return Err(BaseUrlError::ExtraParts(text.to_owned()));
        }
        match scheme {
            "https" => {}
            "http" if is_loopback(authority.host()) => {}
            _ => return Err(BaseUrlError::NotEncrypted(text.to_owned())),
        }
        let path = uri.path().trim_end_matches('/');
        Ok(Self(format!("{scheme}://{}{path}", authority.as_str().to_ascii_lowercase()).into()))
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_and_loopback_are_accepted() {
        for (text, kept) in [
            ("https://api.woodpecker.co/rest/", "https://api.woodpecker.co/rest"),
            ("https://API.Woodpecker.co/rest", "https://api.woodpecker.co/rest"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:80/x", "http://[::1]:80/x"),
        ] {
            assert_eq!(text.parse::<BaseUrl>().map(|url| url.to_string()), Ok(kept.to_owned()));
        }
    }

    #[test]
    fn a_url_that_would_leak_a_key_is_rejected() {
        for text in [
            "http://api.woodpecker.co/rest",
            "http://127.0.0.1.example.com",
            "ftp://127.0.0.1",
            "api.woodpecker.co",
            "/rest",
            "https://user@api.woodpecker.co",
            "https://api.woodpecker.co/rest?x=1",
            "https://api.woodpecker.co#x",
            "",
        ] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
    }
}
