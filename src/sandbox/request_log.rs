//! The request log of the sandbox: what was requested and answered. It has no bodies, no headers and no paths that a client
//! made up, so it contains no secrets.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::answer::Provoked;
use super::backend::Sandbox;
use super::guard::Guard;
use crate::rest::{Account, RestError};

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
    /// The pattern of the path, if there is one.
    #[serde(serialize_with = "route")]
    route: Option<MatchedPath>,
    #[serde(serialize_with = "namespace")]
    account: Option<Arc<Account>>,
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
    let route = request.extensions().get::<MatchedPath>().cloned();
    if name(route.as_ref()) == "/" || name(route.as_ref()).starts_with(OWN_ROUTES) {
        return match refusal {
            Some(refusal) => refusal,
            None => next.run(request).await,
        };
    }
    let methods = ["GET", "HEAD", "POST", "PATCH", "DELETE"];
    let method = methods.into_iter().find(|it| request.method() == it).unwrap_or("other");
    let provoked = Provoked::default();
    request.extensions_mut().insert(provoked.clone());
    let mut pending = Pending {
        sandbox: recorder.sandbox.clone(),
        time: Timestamp::now(),
        started: Instant::now(),
        method,
        route,
        provoked,
        response: None,
    };
    let response = match refusal {
        Some(refusal) => refusal,
        // The page shows a panic as a response, too.
        None => AssertUnwindSafe(next.run(request))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| RestError::Internal.into_response()),
    };
    let account = response.extensions().get::<Arc<Account>>().cloned();
    pending.response = Some((account, response.status().as_u16()));
    response
}

fn name(route: Option<&MatchedPath>) -> &str {
    route.map_or("other", MatchedPath::as_str)
}

#[expect(clippy::ref_option, reason = "serde passes it so")]
fn route<S: Serializer>(route: &Option<MatchedPath>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name(route.as_ref()))
}

#[expect(clippy::ref_option, reason = "serde passes it so")]
fn namespace<S: Serializer>(account: &Option<Arc<Account>>, serializer: S) -> Result<S::Ok, S::Error> {
    account.as_ref().map(|account| &account.namespace).serialize(serializer)
}

/// A request in progress. It is logged on drop, because a connection that is closed has no response.
struct Pending {
    sandbox: Arc<Sandbox>,
    time: Timestamp,
    started: Instant,
    method: &'static str,
    route: Option<MatchedPath>,
    provoked: Provoked,
    /// Account and status.
    response: Option<(Option<Arc<Account>>, u16)>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let (account, status) =
            self.response.take().map_or((None, None), |(account, status)| (account, Some(status)));
        let provoked = self.provoked.get();
        let entry = Entry {
            number: 0,
            time: self.time,
            method: self.method,
            route: self.route.take(),
            account: provoked.map(|(_, account)| account.clone()).or(account),
            status,
            took_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            answer: provoked.map(|(magic, _)| magic.name.as_str()),
        };
        tracing::info!(
            method = entry.method,
            route = name(entry.route.as_ref()),
            account = entry.account.as_ref().map(|account| account.namespace.as_str()),
            status,
            took_ms = entry.took_ms,
            answer = entry.answer,
            "request"
        );
        self.sandbox.log.add(entry);
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
