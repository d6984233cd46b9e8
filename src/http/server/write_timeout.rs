//! A write timeout: a client that reads its response slowly, or not at all, must not occupy a connection and the memory of
//! a response for long.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::sync::watch;
use tokio::time::Instant;

/// The responses of one connection.
pub struct WriteTimeout {
    /// When the response to the last request was ready; `None` while there is none.
    since: watch::Receiver<Option<Instant>>,
}

// === impl WriteTimeout ===

impl WriteTimeout {
    /// Returns the router to serve the connection with.
    pub fn of(router: Router) -> (Router, Self) {
        let (sent, since) = watch::channel(None);
        (router.layer(middleware::from_fn_with_state(Arc::new(sent), observe)), Self { since })
    }

    /// Waits until a response was not read completely for that long. A response that was is followed by the next request,
    /// or by the end of the connection.
    pub async fn stalled(mut self, timeout: Duration) {
        loop {
            let since = *self.since.borrow_and_update();
            let next = self.since.changed();
            let is_stalled = match since {
                Some(since) => tokio::time::timeout_at(since + timeout, next).await.is_err(),
                None if next.await.is_ok() => false,
                None => std::future::pending().await,
            };
            if is_stalled {
                return;
            }
        }
    }
}

async fn observe(
    State(sent): State<Arc<watch::Sender<Option<Instant>>>>,
    request: Request,
    next: Next,
) -> Response {
    sent.send_replace(None);
    let response = next.run(request).await;
    sent.send_replace(Some(Instant::now()));
    response
}
