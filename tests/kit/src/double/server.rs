//! The server of a double: a loopback port and a handler from request to reply. It can reset a connection.
//! Stops when dropped.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::http::{Reply, ReplyKind, Request};

/// A running server.
pub(crate) struct Server {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

// === impl Server ===

impl Server {
    /// Listens on a free loopback port. If there is none, it waits for one and prints that on standard error.
    pub(crate) async fn start<H, F>(handler: H) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let (listener, address) = loop {
            let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            match bound.and_then(|it| Ok((it.local_addr()?, it))) {
                Ok((address, listener)) => break (listener, address),
                Err(error) => eprintln!("kit: no loopback port for a double: {error}"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        let accepting = tokio::spawn(accept(listener, Arc::new(handler)));
        Self { address, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept<H, F>(listener: TcpListener, handler: Arc<H>)
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&handler)));
                }
                // Probably no file descriptors are left; one may be free in a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve<H, F>(stream: TcpStream, handler: Arc<H>)
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(Notify::new());
    let service = service_fn(|request| {
        let (handler, reset) = (Arc::clone(&handler), Arc::clone(&reset));
        async move {
            let reply = handler(Request::read(request).await).await;
            match reply.what {
                ReplyKind::Response(response) => {
                    return Ok::<_, Infallible>(response.into_response(reply.held));
                }
                ReplyKind::Hang(time) => tokio::time::sleep(time).await,
                ReplyKind::Reset => {}
            }
            drop(reply.held);
            reset.notify_one();
            std::future::pending().await
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        () = reset.notified() => {
            let stream = connection.into_parts().io.into_inner();
            let _ = stream.set_zero_linger();
        }
        // The client reports broken connections; here they only end.
        _ = &mut connection => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::double::client::{self, Received};
    use crate::double::http::{DeliveryMode, HttpResponse};

    async fn server(what: impl Fn() -> ReplyKind + Send + Sync + 'static) -> Server {
        Server::start(move |_| {
            let what = what();
            async move {
                let held = Vec::new();
                Reply { what, held }
            }
        })
        .await
    }

    fn response(delivery: DeliveryMode) -> ReplyKind {
        ReplyKind::Response(HttpResponse::new(200, "text/plain", "0123456789").sent(delivery))
    }

    async fn get(server: &Server) -> Received {
        client::send("GET", &server.url(), &[], "").await
    }

    #[tokio::test]
    async fn a_reset_and_a_hang_are_tcp_resets_without_a_byte() {
        let resetting = server(|| ReplyKind::Reset).await;
        assert_eq!(get(&resetting).await, Received::Reset);

        let hanging = server(|| ReplyKind::Hang(Duration::from_millis(50))).await;
        let start = std::time::Instant::now();
        assert_eq!(get(&hanging).await, Received::Reset);
        assert!(start.elapsed() >= Duration::from_millis(50));
    }

    #[tokio::test]
    async fn a_cut_response_is_shorter_than_its_content_length() {
        let cutting = server(|| response(DeliveryMode::CutInHalf)).await;
        let received = get(&cutting).await;
        let response = received.response();
        assert_eq!(response.header("content-length"), Some("10"));
        assert_eq!(response.body, "01234");
    }

    #[tokio::test]
    async fn a_paused_response_is_complete() {
        let slow = server(|| response(DeliveryMode::PauseInHalf(Duration::from_millis(50)))).await;
        let start = std::time::Instant::now();
        assert_eq!(get(&slow).await.response().body, "0123456789");
        assert!(start.elapsed() >= Duration::from_millis(50));
    }

    #[tokio::test]
    async fn a_status_or_header_http_does_not_allow_becomes_a_500() {
        let status = server(|| HttpResponse::empty(42).into()).await;
        assert_eq!(get(&status).await.response().status, 500);
        let header = server(|| HttpResponse::empty(200).with_header("a b", "c").into()).await;
        assert_eq!(get(&header).await.response().status, 500);
    }

    #[tokio::test]
    async fn connections_are_kept_alive_and_end_with_the_server() {
        let server = server(|| response(DeliveryMode::Whole)).await;
        let mut connection = client::Connection::open(&server.url()).await;
        for _ in 0..2 {
            assert_eq!(connection.send("GET", "/", &[], "").await.response().body, "0123456789");
        }
        let url = server.url();
        drop(server);
        let gone = connection.send("GET", "/", &[], "").await;
        assert!(matches!(gone, Received::Reset | Received::Closed), "{gone:?}");
        assert_eq!(client::send("GET", &url, &[], "").await, Received::Refused);
    }
}
