//! Whether a client takes its answers: one that reads slowly, or not at all, must not keep a connection, and the memory of an
//! answer, for long.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::sync::watch;
use tokio::time::Instant;

/// The answers given on one connection.
pub struct Answers {
    /// Since when there is one to the last request.
    since: watch::Receiver<Option<Instant>>,
}

// === impl Answers ===

impl Answers {
    /// Those that this router gives on a connection of its own.
    pub fn of(router: Router) -> (Router, Self) {
        let (given, since) = watch::channel(None);
        (router.layer(middleware::from_fn_with_state(Arc::new(given), note)), Self { since })
    }

    /// Until an answer was not taken for so long. One that was taken whole is followed by the next request, or by the end
    /// of the connection.
    pub async fn left_lying(mut self, within: Duration) {
        loop {
            let since = *self.since.borrow_and_update();
            let next = self.since.changed();
            let is_over = match since {
                Some(since) => tokio::time::timeout_at(since + within, next).await.is_err(),
                None if next.await.is_ok() => false,
                None => std::future::pending().await,
            };
            if is_over {
                return;
            }
        }
    }
}

async fn note(
    State(given): State<Arc<watch::Sender<Option<Instant>>>>,
    request: Request,
    next: Next,
) -> Response {
    given.send_replace(None);
    let answer = next.run(request).await;
    given.send_replace(Some(Instant::now()));
    answer
}
