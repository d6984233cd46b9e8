//! A small HTTP client for the doubles' own tests. It distinguishes a whole response from a cut one, and a
//! reset from a close.

use std::io::ErrorKind;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the client received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Response(HttpResponse),
    /// TCP reset before a whole head.
    Reset,
    /// Closed cleanly before a whole head.
    Closed,
    /// Connection refused.
    Refused,
}

/// A response's head, and its body as far as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// A kept-alive connection.
pub(crate) struct Connection(Option<TcpStream>);

/// Sends one request on a new connection; `url` includes the path.
pub(crate) async fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Received {
    let rest = url.strip_prefix("http://").expect("http");
    let path = rest.find('/').map_or("/", |slash| &rest[slash..]);
    let mut connection = Connection::open(url).await;
    connection.send(method, path, headers, body).await
}

impl Connection {
    pub(crate) async fn open(url: &str) -> Self {
        let authority = url["http://".len()..].split('/').next().expect("authority");
        Self(TcpStream::connect(authority).await.ok())
    }

    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Received {
        let Some(stream) = &mut self.0 else {
            return Received::Refused;
        };
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: double\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n{body}", body.len());
        if let Err(error) = stream.write_all(request.as_bytes()).await {
            return Received::broken(error.kind());
        }
        read(stream).await
    }
}

async fn read(stream: &mut TcpStream) -> Received {
    let mut text = Vec::new();
    let mut end = ErrorKind::UnexpectedEof;
    loop {
        let so_far = String::from_utf8_lossy(&text).into_owned();
        if let Some(response) = HttpResponse::parse(&so_far)
            && response.is_whole()
        {
            return Received::Response(response);
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) => {}
            Ok(n) => {
                text.extend_from_slice(&piece[..n]);
                continue;
            }
            Err(error) => end = error.kind(),
        }
        return HttpResponse::parse(&so_far).map_or(Received::broken(end), Received::Response);
    }
}

impl Received {
    pub(crate) fn response(&self) -> &HttpResponse {
        match self {
            Self::Response(response) => response,
            other => panic!("no response but {other:?}"),
        }
    }

    fn broken(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::ConnectionReset => Self::Reset,
            _ => Self::Closed,
        }
    }
}

impl HttpResponse {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    pub(crate) fn is_whole(&self) -> bool {
        let length = self.header("content-length");
        length.map_or(0, |it| it.parse().expect("a length")) == self.body.len()
    }

    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_ascii_lowercase(), value.to_owned()))
        });
        Some(Self { status, headers: headers.collect(), body: body.to_owned() })
    }
}
