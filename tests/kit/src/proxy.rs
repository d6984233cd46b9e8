//! An HTTP proxy on loopback with a few known names: it records `CONNECT name:port` and forwards it as the
//! test configures, and rejects everything else.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A proxy. Stops when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    routes: HashMap<String, u16>,
    targets: Vec<String>,
}

/// Maximum length of the head of a CONNECT request.
const MAX_HEAD: usize = 8192;

// === impl Proxy ===

impl Proxy {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::<Mutex<Shared>>::default();
        let served = shared.clone();
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, served.clone()));
            }
        });
        Ok(Self { port, shared, task })
    }

    /// Its address, for `HTTPS_PROXY`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Forwards `target` (`name:port`) to a port of 127.0.0.1.
    pub fn route(&self, target: &str, port: u16) {
        lock(&self.shared).routes.insert(target.to_owned(), port);
    }

    /// Every requested target, in order.
    pub fn targets(&self) -> Vec<String> {
        lock(&self.shared).targets.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, shared: Arc<Mutex<Shared>>) -> io::Result<()> {
    let Some(target) = read_target(&mut client).await? else {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n").await;
    };
    let port = {
        let mut shared = lock(&shared);
        shared.targets.push(target.clone());
        shared.routes.get(&target).copied()
    };
    let Some(port) = port else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
    };
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// The target of a CONNECT request; none for another request.
async fn read_target(client: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split_whitespace();
    Ok((words.next() == Some("CONNECT")).then(|| words.next().map(str::to_owned)).flatten())
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
