//! Short-lived connections for requests about Secrets, because the buffers of a connection keep what was sent through
//! it.
//!
//! hyper's pool has no maximum age of a connection. So each connection fails when its lifetime is over, even while a
//! request is in flight on it, and a pool is replaced after half of that time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use http::header::CONNECTION;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connect, Connected, Connection};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::TokioExecutor;
use kube::client::Body;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep};
use tower::{BoxError, Service};

/// Sends requests about Secrets over separate, short-lived connections.
#[derive(Clone)]
pub struct SecretConnections<C> {
    connector: ExpiringConnector<C>,
    current: Arc<Mutex<Option<Pool<C>>>>,
}

/// The connections of requests that began within the same few seconds.
#[derive(Clone)]
struct Pool<C> {
    client: Client<ExpiringConnector<C>, Body>,
    opened: Instant,
}

/// Opens connections that expire.
#[derive(Clone)]
pub struct ExpiringConnector<C> {
    inner: C,
    lifetime: Duration,
}

/// A connection that fails `lifetime` after the first response on it began.
#[derive(Debug)]
pub struct Expiring<T> {
    inner: T,
    lifetime: Duration,
    /// Set by the first response.
    end: Option<Pin<Box<Sleep>>>,
}

/// A connection that carried a Secret expired.
#[derive(Debug, Error)]
#[error("a connection that carried a Secret was closed after {0:?}")]
struct Expired(Duration);

// === impl SecretConnections ===

impl<C> SecretConnections<C>
where
    C: Clone + Send + Sync + 'static,
    ExpiringConnector<C>: Connect,
{
    /// Each connection is closed `lifetime` after its first response.
    pub fn new(connector: C, lifetime: Duration) -> Self {
        Self { connector: ExpiringConnector { inner: connector, lifetime }, current: Arc::default() }
    }

    /// Sends the request and reads the whole response.
    ///
    /// A GET that fails is retried once, on a new connection, because its connection may have expired meanwhile.
    /// Another request is not retried and gets its own connection, so that only its own response can expire it.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Full<Bytes>>, BoxError> {
        if request.method() != Method::GET {
            return send_and_read(&self.open(), request).await;
        }
        let (mut parts, _) = request.into_parts();
        parts.headers.remove(CONNECTION);
        let retry = Request::from_parts(parts.clone(), Body::empty());
        let pool = self.pool(None);
        match send_and_read(&pool, Request::from_parts(parts, Body::empty())).await {
            Err(error) if !error.downcast_ref().is_some_and(ClientError::is_connect) => {
                send_and_read(&self.pool(Some(pool.opened)), retry).await
            }
            response => response,
        }
    }

    /// The pool for a request that begins now, except one opened at `failed`.
    fn pool(&self, failed: Option<Instant>) -> Pool<C> {
        let mut current = self.current.lock();
        let is_usable = |pool: &&Pool<C>| {
            pool.opened.elapsed() < self.connector.lifetime / 2 && Some(pool.opened) != failed
        };
        match current.as_ref().filter(is_usable) {
            Some(pool) => pool.clone(),
            None => current.insert(self.open()).clone(),
        }
    }

    fn open(&self) -> Pool<C> {
        let client = Client::builder(TokioExecutor::new()).build(self.connector.clone());
        Pool { client, opened: Instant::now() }
    }
}

async fn send_and_read<C>(pool: &Pool<C>, request: Request<Body>) -> Result<Response<Full<Bytes>>, BoxError>
where
    C: Clone + Send + Sync + 'static,
    ExpiringConnector<C>: Connect,
{
    let (parts, body) = pool.client.request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(parts, Full::new(body)))
}

// === impl ExpiringConnector ===

impl<C> Service<Uri> for ExpiringConnector<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Error: 'static,
{
    type Response = Expiring<C::Response>;
    type Error = C::Error;
    type Future = BoxFuture<'static, Result<Self::Response, C::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let lifetime = self.lifetime;
        self.inner.call(uri).map_ok(move |inner| Expiring { inner, lifetime, end: None }).boxed()
    }
}

// === impl Expiring ===

impl<T> Expiring<T> {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, Expired(self.lifetime)));
        }
        Ok(())
    }
}

impl<T: Read + Unpin> Read for Expiring<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() && self.end.is_none() {
            self.end = Some(Box::pin(sleep(self.lifetime)));
            // Registers the current task for the end of the lifetime, too.
            self.check(cx)?;
        }
        read
    }
}

impl<T: Write + Unpin> Write for Expiring<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<T: Connection> Connection for Expiring<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

#[cfg(test)]
mod tests;
