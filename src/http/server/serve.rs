//! An HTTP server with a limit on connections, and for each connection limits on request heads, idleness, responses and age.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::error_chain::chain;
use crate::core::timing::Timing;
use crate::http::listener::{self, ListenError};
use crate::http::server::connections::{ConnectionLimiter, ConnectionSlot};
use crate::http::server::lingering_close::LingeringClose;
use crate::http::server::write_timeout::WriteTimeout;

/// Longest request head, in bytes.
const MAX_HEAD: usize = 32 << 10;

const MAX_HEADERS: usize = 64;

/// Wait after a failed accept, which most likely means that there are no file descriptors left.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub struct Listen {
    /// Port 0 selects a free one.
    pub address: SocketAddr,
    /// The flag that sets the address, for error messages.
    pub flag: &'static str,
    /// `None` for plain HTTP.
    pub tls: Option<TlsAcceptor>,
}

/// Called with each change of the number of connections.
pub type ConnectionGauge = Arc<dyn Fn(i64) + Send + Sync>;

/// A server whose socket is bound, but not served yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    tls: Option<TlsAcceptor>,
    gauge: ConnectionGauge,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most concurrent connections; further ones wait to be accepted.
    pub connections: usize,
    pub timing: Timing,
}

// === impl Server ===

impl Server {
    pub async fn bind(listen: Listen, limits: &Limits, gauge: ConnectionGauge) -> Result<Self, ListenError> {
        let (listener, address) = listener::listen(listen.address, listen.flag).await?;
        Ok(Self { listener, address, limits: *limits, tls: listen.tls, gauge })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, and then until open requests have ended, for a bounded time. Requests that are still open then
    /// are dropped: none continues after this has returned.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let abort = CancellationToken::new();
        let limiter =
            ConnectionLimiter::new(self.limits.connections, self.limits.timing.unauthenticated_grace);
        let connections = TaskTracker::new();
        while let Some((stream, slot)) = stop.run_until_cancelled(self.accept(&limiter)).await {
            let connection = Connection {
                router: TowerToHyperService::new(router.clone()),
                tls: self.tls.clone(),
                timing: self.limits.timing,
                gauge: self.gauge.clone(),
                stop: stop.clone(),
                slot,
            };
            let abort = abort.clone();
            connections.spawn(async move {
                let slot = connection.slot.clone();
                tokio::select! {
                    () = connection.serve(stream) => {}
                    () = slot.evicted() => tracing::debug!("closed an unauthenticated connection for another one"),
                    () = abort.cancelled() => {}
                }
            });
        }
        drop(self.listener);
        connections.close();
        if tokio::time::timeout(self.limits.timing.rest_drain, connections.wait()).await.is_err() {
            tracing::warn!(left = connections.len(), "dropped requests that were still in progress");
            abort.cancel();
            connections.wait().await;
        }
    }

    /// Accepts a connection, then waits for a slot, so that nothing is evicted before a connection arrives.
    async fn accept(&self, limiter: &Arc<ConnectionLimiter>) -> (TcpStream, Arc<ConnectionSlot>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return (stream, limiter.acquire().await),
                Err(error) => {
                    tracing::debug!(error = chain(&error), "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

struct Connection {
    router: TowerToHyperService<Router>,
    tls: Option<TlsAcceptor>,
    timing: Timing,
    gauge: ConnectionGauge,
    stop: CancellationToken,
    slot: Arc<ConnectionSlot>,
}

// === impl Connection ===

impl Connection {
    async fn serve(self, stream: TcpStream) {
        // A response is one small write, so there is nothing to wait for.
        let _best_effort = stream.set_nodelay(true);
        (self.gauge)(1);
        let Some(tls) = &self.tls else { return self.serve_connection(stream).await };
        match tokio::time::timeout(self.timing.rest_head, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.serve_connection(stream).await,
            Ok(Err(error)) => tracing::debug!(error = chain(&error), "a TLS handshake failed"),
            Err(_) => tracing::debug!("a client did not complete the TLS handshake in time"),
        }
    }

    async fn serve_connection(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let write_timeout = WriteTimeout::default();
        tokio::select! {
            () = self.drive(stream, &write_timeout) => {}
            () = write_timeout.stalled(self.timing.rest_response) => {
                tracing::debug!("a client did not read its response in time");
            }
        }
    }

    async fn drive(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        write_timeout: &WriteTimeout,
    ) {
        // Not layers of the router, which each request of each connection would pay for.
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(self.slot.clone());
            write_timeout.requested();
            let response = self.router.call(request);
            async {
                let response = response.await;
                write_timeout.responded();
                response
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.timing.rest_head)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(LingeringClose::new(stream)), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            _ = tokio::time::timeout(self.timing.rest_connection, self.stop.cancelled()) => {
                connection.as_mut().graceful_shutdown();
                let bound = self.timing.rest_request + self.timing.rest_drain;
                tokio::time::timeout(bound, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = chain(&error), "a connection failed");
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        (self.gauge)(-1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    /// More than the socket buffers hold.
    const LONG: usize = 32 << 20;

    #[tokio::test]
    async fn a_client_that_is_still_sending_receives_its_response() {
        let (address, open, _stop) = serve(1000, Duration::from_secs(30)).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: {LONG}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..9 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            client.write_all(&vec![b'x'; 100_000]).await.expect("the connection is not reset");
        }
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.expect("the complete response");
        assert!(received.starts_with(b"HTTP/1.1 200") && received.len() > 1000, "{}", received.len());
        tokio::time::timeout(Duration::from_secs(3), async {
            while open.load(Ordering::SeqCst) != 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the connection ends soon");
    }

    /// A server with a response of that length and that write timeout; also returns its number of connections.
    async fn serve(
        length: usize,
        rest_response: Duration,
    ) -> (SocketAddr, Arc<AtomicI64>, CancellationToken) {
        let open = Arc::new(AtomicI64::new(0));
        let counted = open.clone();
        let gauge: ConnectionGauge = Arc::new(move |change| {
            counted.fetch_add(change, Ordering::SeqCst);
        });
        let timing = Timing { rest_response, ..Timing::STANDARD };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listen = Listen { address, flag: "--health-probe-bind-address", tls: None };
        let server = Server::bind(listen, &Limits { connections: 4, timing }, gauge).await.unwrap();
        let (address, stop) = (server.address(), CancellationToken::new());
        let router = Router::new().route("/", get(async move || "x".repeat(length)));
        tokio::spawn(server.serve(router, stop.clone()));
        (address, open, stop)
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_its_response_is_disconnected_and_one_that_does_is_not() {
        let within = Duration::from_millis(300);
        let (address, open, _stop) = serve(LONG, within).await;
        let mut idler = TcpStream::connect(address).await.unwrap();
        idler.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let began = Instant::now();
        tokio::time::timeout(Duration::from_secs(20), async {
            while open.load(Ordering::SeqCst) != 0 || began.elapsed() < within {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the connection ends");
        let mut received = Vec::new();
        let _cut_off = idler.read_to_end(&mut received).await;
        assert!(received.len() < LONG, "the response was cut off");

        let mut reader = TcpStream::connect(address).await.unwrap();
        for _ in 0..3 {
            reader.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let mut left = LONG;
            while left > 0 {
                let read = reader.read(&mut vec![0; 1 << 20]).await.unwrap();
                assert!(read > 0, "the connection stays open");
                left = left.saturating_sub(read);
            }
        }
    }
}
