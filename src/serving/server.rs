//! An HTTP server: so many connections, each with a bound on heads, idleness, answers and age.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answers::Answers;
use super::lingering::Lingering;
use super::seats::{Seat, Seats};
use crate::listening::{self, ListenError};
use crate::settings::Timing;
use crate::telemetry::logs::chain;

/// Longest head of a request, in bytes.
const LONGEST_HEAD: usize = 32 << 10;

/// Most headers of a request.
const MOST_HEADERS: usize = 64;

/// How long to wait after a connection could not be taken: most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub struct Listen {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// The flag that gives it, for people.
    pub flag: &'static str,
    /// Without TLS it speaks plain HTTP.
    pub tls: Option<TlsAcceptor>,
}

/// Hears of connections: one more, or one less.
pub type Count = Arc<dyn Fn(i64) + Send + Sync>;

/// A socket that is bound and not yet served.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    tls: Option<TlsAcceptor>,
    count: Count,
}

/// What bounds the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections at the same time; further ones wait to be taken.
    pub connections: usize,
    pub timing: Timing,
}

// === impl Server ===

impl Server {
    /// Binds the address. `count` hears of its connections.
    pub async fn bind(listen: Listen, limits: &Limits, count: Count) -> Result<Self, ListenError> {
        let (listener, address) = listening::listen(listen.address, listen.flag).await?;
        Ok(Self { listener, address, limits: *limits, tls: listen.tls, count })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, and then until open requests have ended, for a bounded time. What is still under way then is
    /// dropped: no request goes on when this has returned.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let over = CancellationToken::new();
        let seats = Seats::new(self.limits.connections, self.limits.timing.rest_stranger);
        let connections = TaskTracker::new();
        while let Some((stream, seat)) = stop.run_until_cancelled(self.accept(&seats)).await {
            let connection = Connection {
                router: router.clone().layer(Extension(seat.clone())),
                tls: self.tls.clone(),
                timing: self.limits.timing,
                count: self.count.clone(),
                stop: stop.clone(),
                seat,
            };
            let over = over.clone();
            connections.spawn(async move {
                let seat = connection.seat.clone();
                tokio::select! {
                    () = connection.serve(stream) => {}
                    () = seat.asked_to_leave() => tracing::debug!("a client without an API key makes room"),
                    () = over.cancelled() => {}
                }
            });
        }
        drop(self.listener);
        connections.close();
        if tokio::time::timeout(self.limits.timing.rest_drain, connections.wait()).await.is_err() {
            tracing::warn!(left = connections.len(), "requests were still under way, and are dropped");
            over.cancel();
            connections.wait().await;
        }
    }

    /// The next connection, once there is room for it. Nobody makes room before there is one.
    async fn accept(&self, seats: &Arc<Seats>) -> (TcpStream, Arc<Seat>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return (stream, seats.take().await),
                Err(error) => {
                    tracing::debug!(error = chain(&error), "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// One connection, on a task of its own.
struct Connection {
    router: Router,
    tls: Option<TlsAcceptor>,
    timing: Timing,
    count: Count,
    stop: CancellationToken,
    seat: Arc<Seat>,
}

// === impl Connection ===

impl Connection {
    async fn serve(self, stream: TcpStream) {
        // An answer is one small write: nothing is gained by waiting for more.
        let _best_effort = stream.set_nodelay(true);
        (self.count)(1);
        let Some(tls) = &self.tls else { return self.speak(stream).await };
        match tokio::time::timeout(self.timing.rest_head, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.speak(stream).await,
            Ok(Err(error)) => tracing::debug!(error = chain(&error), "a client does not get through TLS"),
            Err(_) => tracing::debug!("a client did not begin in time"),
        }
    }

    /// Speaks HTTP, until one of both has had enough.
    async fn speak(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (router, answers) = Answers::of(self.router.clone());
        tokio::select! {
            () = self.converse(stream, router) => {}
            () = answers.left_lying(self.timing.rest_answer) => {
                tracing::debug!("a client did not take its answer in time");
            }
        }
    }

    async fn converse(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
        let open = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.timing.rest_head)
            .max_buf_size(LONGEST_HEAD)
            .max_headers(MOST_HEADERS)
            .serve_connection(TokioIo::new(Lingering::new(stream)), TowerToHyperService::new(router));
        let mut open = std::pin::pin!(open);
        let ended = tokio::select! {
            ended = open.as_mut() => ended,
            _ = tokio::time::timeout(self.timing.rest_connection, self.stop.cancelled()) => {
                open.as_mut().graceful_shutdown();
                let bound = self.timing.rest_request + self.timing.rest_drain;
                tokio::time::timeout(bound, open).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = chain(&error), "a connection ended badly");
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        (self.count)(-1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    /// More than the buffers between two programs hold.
    const LONG: usize = 32 << 20;

    #[tokio::test]
    async fn a_client_that_is_still_sending_sees_its_answer() {
        let (address, open, _stop) = serve(1000, Duration::from_secs(30)).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: {LONG}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..9 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            client.write_all(&vec![b'x'; 100_000]).await.expect("the connection is not reset");
        }
        let mut came = Vec::new();
        client.read_to_end(&mut came).await.expect("the answer, whole");
        assert!(came.starts_with(b"HTTP/1.1 200") && came.len() > 1000, "{}", came.len());
        tokio::time::timeout(Duration::from_secs(3), async {
            while open.load(Ordering::SeqCst) != 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("and it does not stay for long");
    }

    /// A server of one answer that is as long as that and must be taken in time, and how many connections it has.
    async fn serve(length: usize, rest_answer: Duration) -> (SocketAddr, Arc<AtomicI64>, CancellationToken) {
        let open = Arc::new(AtomicI64::new(0));
        let counted = open.clone();
        let count: Count = Arc::new(move |change| {
            counted.fetch_add(change, Ordering::SeqCst);
        });
        let timing = Timing { rest_answer, ..Timing::STANDARD };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listen = Listen { address, flag: "--listen", tls: None };
        let server = Server::bind(listen, &Limits { connections: 4, timing }, count).await.unwrap();
        let (address, stop) = (server.address(), CancellationToken::new());
        let router = Router::new().route("/", get(async move || "x".repeat(length)));
        tokio::spawn(server.serve(router, stop.clone()));
        (address, open, stop)
    }

    #[tokio::test]
    async fn who_does_not_take_an_answer_loses_the_connection_and_who_does_keeps_it() {
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
        let mut came = Vec::new();
        let _cut_off = idler.read_to_end(&mut came).await;
        assert!(came.len() < LONG, "the answer was cut off");

        let mut reader = TcpStream::connect(address).await.unwrap();
        for _ in 0..3 {
            reader.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let mut left = LONG;
            while left > 0 {
                let read = reader.read(&mut vec![0; 1 << 20]).await.unwrap();
                assert!(read > 0, "the connection goes on");
                left = left.saturating_sub(read);
            }
        }
    }
}
