//! An HTTP client that sends requests as they are, well-formed or not, and reads until the end.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a response may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A response.
pub struct HttpResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Sends one request on a new connection, which the server must close.
pub async fn send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> HttpResponse {
    let mut lines = vec![format!("{method} {path} HTTP/1.1"), format!("host: {address}")];
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    if !body.is_empty() {
        lines.push(format!("content-length: {}", body.len()));
    }
    let raw = [lines.join("\r\n").as_bytes(), b"\r\n\r\n", body].concat();
    let response = send_raw(address, &raw).await.unwrap_or_else(|| panic!("no response to {method} {path}"));
    assert_eq!(response.header("connection"), Some("close"), "{method} {path}: {response:?}");
    response
}

/// Sends bytes as they are; returns none if the connection ended without a response.
pub async fn send_raw(address: &str, bytes: &[u8]) -> Option<HttpResponse> {
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    // The server may close before it has read everything.
    let _partly = connection.write_all(bytes).await;
    read(&mut connection).await
}

/// Reads the response until the server closes the connection.
pub async fn read(connection: &mut TcpStream) -> Option<HttpResponse> {
    let mut bytes = Vec::new();
    let all = async {
        let mut piece = vec![0; 16 << 10];
        while let Ok(read @ 1..) = connection.read(&mut piece).await {
            bytes.extend_from_slice(&piece[..read]);
        }
    };
    tokio::time::timeout(TIMEOUT, all).await.expect("an end of the response");
    HttpResponse::parse(&bytes)
}

// === impl HttpResponse ===

impl HttpResponse {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Some(Self { status, headers, body: bytes[end + 4..].to_vec() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Checks the vendor's format of an error that is not about the request's content.
    pub fn is_problem(&self, title: &str, detail: &str) {
        let body = self.json();
        let keys: Vec<_> = body.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys, ["detail", "status", "timestamp", "title"], "{self:?}");
        assert_eq!((&body["title"], &body["detail"]), (&title.into(), &detail.into()), "{self:?}");
        assert_eq!(body["status"], self.status, "{self:?}");
        let time = body["timestamp"].as_str().unwrap();
        assert_eq!(time.len(), "2025-03-05 17:57:00".len(), "{time}");
        let time: jiff::Timestamp = format!("{}Z", time.replace(' ', "T")).parse().expect("a time");
        assert!(time.duration_since(jiff::Timestamp::now()).abs() < jiff::SignedDuration::from_mins(1));
    }
}

impl std::fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {:?}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}
