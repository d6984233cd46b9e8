//! The request log of the sandbox: what was requested and answered. It has no bodies, no headers and no paths that a client
//! made up, so it contains no secrets.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use super::answer::Provoked;
use super::backend::Sandbox;
use super::guard::Guard;
use crate::rest::Account;

/// Requests that are kept.
const LENGTH: usize = 200;

/// What the routes of the sandbox itself begin with. They are not logged: the page reads the log all the time.
const OWN_ROUTES: &str = "/sandbox/";

#[derive(Debug, Default)]
pub(super) struct RequestLog(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    last: u64,
    entries: VecDeque<Entry>,
}

/// One request and its answer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Entry {
    /// The first request has number 1.
    number: u64,
    time: Timestamp,
    method: &'static str,
    /// The pattern of the path.
    route: String,
    account: Option<String>,
    /// Absent if the connection was closed without a response.
    status: Option<u16>,
    took_ms: u64,
    /// The name of the answer, if it was provoked.
    answer: Option<&'static str>,
}

/// What the outermost layer has.
pub(super) struct Recorder {
    pub sandbox: Arc<Sandbox>,
    pub guard: Guard,
}

/// Refuses what the guard refuses, and records all requests except those for the sandbox's own routes.
pub(super) async fn record(
    State(recorder): State<Arc<Recorder>>,
    mut request: Request,
    next: Next,
) -> Response {
    let refusal = recorder.guard.refusal(&request);
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "other".to_owned(), |route| route.as_str().to_owned());
    if route == "/" || route.starts_with(OWN_ROUTES) {
        return match refusal {
            Some(refusal) => refusal,
            None => next.run(request).await,
        };
    }
    let methods = ["GET", "HEAD", "POST", "PATCH", "DELETE"];
    let method = methods.into_iter().find(|it| request.method() == it).unwrap_or("other");
    let entry = Entry {
        number: 0,
        time: Timestamp::now(),
        method,
        route,
        account: None,
        status: None,
        took_ms: 0,
        answer: None,
    };
    let provoked = Provoked::default();
    request.extensions_mut().insert(provoked.clone());
    let sandbox = recorder.sandbox.clone();
    let mut pending = Pending { sandbox, started: Instant::now(), provoked, entry };
    let response = match refusal {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    let (entry, account) = (&mut pending.entry, response.extensions().get::<Arc<Account>>());
    entry.account = account.map(|account| account.namespace.clone());
    entry.status = Some(response.status().as_u16());
    response
}

/// A request in progress. It is logged on drop, because a connection that is closed has no response.
struct Pending {
    sandbox: Arc<Sandbox>,
    started: Instant,
    provoked: Provoked,
    entry: Entry,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.entry.took_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some((magic, account)) = self.provoked.get() {
            self.entry.answer = Some(&magic.name);
            self.entry.account = Some(account.namespace.clone());
        }
        self.sandbox.log.add(self.entry.clone());
    }
}

// === impl RequestLog ===

impl RequestLog {
    /// The number of the last request, and the entries after that number.
    pub fn after(&self, number: u64) -> (u64, Vec<Entry>) {
        let log = self.0.lock();
        (log.last, log.entries.iter().filter(|it| it.number > number).cloned().collect())
    }

    /// Numbers continue, so that a page that is open sees what follows.
    pub fn clear(&self) {
        self.0.lock().entries.clear();
    }

    fn add(&self, entry: Entry) {
        let mut log = self.0.lock();
        log.last += 1;
        let number = log.last;
        if log.entries.len() == LENGTH {
            log.entries.pop_front();
        }
        log.entries.push_back(Entry { number, ..entry });
    }
}
