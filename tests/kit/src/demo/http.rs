//! A single request over plain HTTP, for what the demo looks up.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Difference;

/// Sends the request; returns status and body.
pub(super) async fn send_request(
    address: &str,
    request: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<(u16, String), Difference> {
    let mut lines = vec![format!("{request} HTTP/1.0"), format!("host: {address}")];
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    lines.push(format!("content-length: {}\r\n\r\n{body}", body.len()));
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(lines.join("\r\n").as_bytes()).await?;
    let mut response = String::new();
    connection.read_to_string(&mut response).await?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    Ok((status, body.to_owned()))
}
