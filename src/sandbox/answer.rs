//! Verification by magic secrets and ids, and the answers that they provoke.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use http::header::CONTENT_LENGTH;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;

use super::backend::Sandbox;
use super::magic::{self, Effect, Magic};
use super::mailboxes;
use crate::api::{ClientId, TenantId};
use crate::http::server::ConnectionSlot;
use crate::rest::{Account, NewSecret, RestError, credential_id};

tokio::task_local! {
    /// The answer that the verification of the current request has chosen.
    static CHOSEN: Cell<Option<&'static Magic>>;
}

/// The answer that a request provokes, and its account. The request log reads it, also if there is no response.
#[derive(Clone, Default)]
pub(super) struct Provoked(Arc<OnceLock<(&'static Magic, Arc<Account>)>>);

/// How long half of a response may take to leave.
const FLUSH: Duration = Duration::from_millis(100);

/// Verifies a secret in place of Microsoft: accepts all, except those whose answer says that nothing is saved.
pub(super) fn verify(tenant: &TenantId, client: &ClientId, secret: &NewSecret) -> Result<(), RestError> {
    let found = magic::by_secret(secret.text.expose())
        .or_else(|| magic::by_guid(client.as_str()))
        .or_else(|| magic::by_guid(tenant.as_str()));
    let Some(magic) = found else { return Ok(()) };
    choose(magic);
    // The error itself is replaced by the answer.
    if magic.is_saved { Ok(()) } else { Err(RestError::Internal) }
}

/// Chooses the answer to the current request.
pub(super) fn choose(magic: &'static Magic) {
    // Outside a request, nothing is provoked.
    let _not_a_request = CHOSEN.try_with(|chosen| chosen.set(Some(magic)));
}

/// The answer to a request that deletes a credential which a mailbox uses.
fn in_use(sandbox: &Sandbox, request: &Request) -> Option<&'static Magic> {
    let account =
        request.extensions().get::<Arc<Account>>().filter(|_| request.method() == Method::DELETE)?;
    let id = credential_id(request.uri().path().rsplit('/').next()?)?;
    let is_used = sandbox.view(|data| mailboxes::uses(data, &account.namespace, id));
    is_used.then(|| magic::by_name("in-use")).flatten()
}

/// What an answer needs of its request.
struct RequestParts {
    slot: Option<Arc<ConnectionSlot>>,
    account: Option<Arc<Account>>,
    provoked: Provoked,
}

/// Replaces the response to a request that has a magic value, or for which an answer is planned.
pub(super) async fn provoke(sandbox: &Sandbox, request: Request, next: Next) -> Response {
    if request.extensions().get::<MatchedPath>().is_none() {
        return next.run(request).await;
    }
    let parts = RequestParts::of(&request);
    let next_planned = sandbox.take_planned();
    let changes_one = matches!(*request.method(), Method::PATCH | Method::DELETE);
    let of_path = changes_one.then(|| magic::by_path(request.uri().path())).flatten();
    let planned = next_planned.or(of_path);
    // What is used is not deleted, whatever the client sees.
    let planned = planned.filter(|it| !it.is_saved).or(in_use(sandbox, &request)).or(planned);
    if let Some(magic) = planned.filter(|it| !it.is_saved) {
        return answer(magic, Response::default(), &parts).await;
    }
    let handle = async { (next.run(request).await, CHOSEN.with(Cell::get)) };
    let (response, chosen) = CHOSEN.scope(Cell::new(planned), handle).await;
    match chosen {
        // What was not saved must not look as if it was.
        Some(magic) if !magic.is_saved || response.status().is_success() => {
            answer(magic, response, &parts).await
        }
        _ => {
            // It is for a request that is carried out.
            if let Some(unused) = next_planned.filter(|it| it.is_saved) {
                sandbox.put_back(unused);
            }
            response
        }
    }
}

async fn answer(magic: &'static Magic, regular: Response, request: &RequestParts) -> Response {
    request.note(magic);
    match &magic.effect {
        Effect::Error(error) => error.into_response(),
        Effect::Response { status, headers, body } => {
            let mut response = Response::new(Body::from(*body));
            *response.status_mut() = StatusCode::from_u16(*status).unwrap_or_default();
            for (name, value) in *headers {
                let value = HeaderValue::from_static(value);
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
            response
        }
        Effect::Late(wait) => {
            tokio::time::sleep(*wait).await;
            regular
        }
        Effect::Truncated => truncate(regular, request.slot.clone()).await,
        Effect::Closed(wait) => close(*wait, request.slot.clone()).await,
    }
}

/// A response that announces its whole body and sends half of it.
async fn truncate(response: Response, slot: Option<Arc<ConnectionSlot>>) -> Response {
    let (mut head, body) = response.into_parts();
    // The body is in memory already.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    if body.is_empty() {
        return close(Duration::ZERO, slot).await;
    }
    head.headers.insert(CONTENT_LENGTH, body.len().into());
    let half = body.slice(..body.len() / 2);
    // Half of it leaves first: an error at once would discard that, too.
    let end = stream::once(async {
        tokio::time::sleep(FLUSH).await;
        Err(std::io::Error::other("the sandbox truncates this response"))
    });
    Response::from_parts(head, Body::from_stream(stream::iter([Ok(half)]).chain(end)))
}

/// Closes the connection without a response.
async fn close(wait: Duration, slot: Option<Arc<ConnectionSlot>>) -> Response {
    tokio::time::sleep(wait).await;
    match slot {
        Some(slot) => {
            slot.close();
            std::future::pending().await
        }
        // Only a test has a request without a connection.
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

// === impl RequestParts ===

impl RequestParts {
    fn of(request: &Request) -> Self {
        let extensions = request.extensions();
        Self {
            slot: extensions.get().cloned(),
            account: extensions.get().cloned(),
            provoked: extensions.get().cloned().unwrap_or_default(),
        }
    }

    fn note(&self, magic: &'static Magic) {
        if let Some(account) = &self.account {
            // A request provokes one answer.
            let _earlier = self.provoked.0.set((magic, account.clone()));
        }
    }
}

// === impl Provoked ===

impl Provoked {
    pub fn get(&self) -> Option<&(&'static Magic, Arc<Account>)> {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_ends_after_a_minute() {
        let request = RequestParts { slot: None, account: None, provoked: Provoked::default() };
        for name in ["timeout", "timeout-saved"] {
            let began = tokio::time::Instant::now();
            answer(magic::by_name(name).unwrap(), Response::default(), &request).await;
            assert_eq!(began.elapsed().as_secs(), 60, "{name}");
        }
    }
}
