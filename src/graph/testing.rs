//! Microsoft Graph with prepared responses, for tests.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::core::timing::Timing;
use crate::graph::client::{GraphClient, GraphConfig};
use crate::graph::roots::GraphRoots;
use crate::http::client::HttpClients;
use crate::k8s::leadership::Leadership;

/// Graph with prepared responses.
pub(super) struct PreparedGraph {
    root: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl PreparedGraph {
    /// Sends these responses, one for each request, each on a connection of its own. An empty one closes the connection.
    pub(super) async fn start(responses: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let received = requests.clone();
        tokio::spawn(async move {
            for response in responses {
                let (mut connection, _) = listener.accept().await.unwrap();
                let request = read(&mut connection).await;
                received.lock().push(request);
                connection.write_all(response.as_bytes()).await.unwrap();
            }
        });
        Self { root, requests }
    }

    pub(super) fn client(&self, leadership: Leadership) -> GraphClient {
        client(&self.root, leadership)
    }

    /// The requests so far, as they were sent.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

/// A client of Graph at this root.
pub(super) fn client(root: &str, leadership: Leadership) -> GraphClient {
    let http = HttpClients::testing(&Timing::STANDARD);
    let roots = GraphRoots::new(root.parse().unwrap());
    GraphClient::new(GraphConfig { http, roots, leadership, metrics: Arc::default() }, &Timing::STANDARD)
}

/// A response with a JSON body.
pub(super) fn json(status: u16, body: &str) -> String {
    with_header(status, "content-type: application/json", body)
}

/// A response with this header and a body.
pub(super) fn with_header(status: u16, header: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{header}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// Reads one request with its body.
async fn read(connection: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let mut piece = [0; 4096];
        let length = connection.read(&mut piece).await.unwrap();
        text.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let announced = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            body.len() == announced.map_or(0, |length| length.parse().unwrap())
        });
        if whole || length == 0 {
            return text;
        }
    }
}
