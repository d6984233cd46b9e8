//! Requests to the operator's own HTTP server, whose address is in its log.

use super::*;

/// Sends a GET to the HTTP server of an operator.
pub async fn send_get(operator: &Process, path: &str) -> (u16, String) {
    // If metrics have a separate address, the other one serves only the probes.
    let address = ["serving probes and metrics", "serving probes"];
    let address = address.into_iter().find_map(|message| self::address(operator, message));
    let Some(address) = address else { return (0, "not serving yet".into()) };
    http_get(&address, path).await.unwrap_or_else(|error| (0, error.to_string()))
}

/// The address in a line of the log.
pub fn address(process: &Process, message: &str) -> Option<String> {
    process.log().lines().find_map(|line| {
        // The human-readable format: `--log-format text`.
        if let Some((_, rest)) = line.split_once(&format!("{message} address=")) {
            return Some(rest.to_owned());
        }
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == message).then(|| line["address"].as_str().map(str::to_owned))?
    })
}

async fn http_get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut response = String::new();
    connection.read_to_string(&mut response).await?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    Ok((status, body.to_owned()))
}
