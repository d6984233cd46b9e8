//! The addresses of the API, and what each of them takes and gives.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use axum::{Json, Router};
use futures::future::OptionFuture;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes};
use jiff::Timestamp;

use super::credentials::Credentials;
use super::doorkeeper::Doorkeeper;
use super::fault::{Fault, Refusal};
use super::keys::Account;
use super::openapi::document;
use super::request::{credential_id, read_create, read_update};
use super::trail::{self, COLLECTION, DOCUMENT, ITEM};
use super::turns::Turns;
use crate::serving::Seat;
use crate::settings::Timing;
use crate::telemetry::metrics::Metrics;
use crate::woodpecker::{Credential, CredentialList};

/// The header that carries the API key.
const API_KEY: &str = "x-api-key";

/// The header by which an agency acts for one of its companies at the vendor.
const COMPANY: &str = "x-company-id";

/// When to come back where the account has as many requests under way as it may have.
const BUSY: Duration = Duration::from_secs(1);

/// Longest body that is read, in bytes: the longest secret, each character written as an escape, and the other fields.
const LONGEST_BODY: usize = 64 << 10;

/// What every request may use.
#[derive(Clone)]
pub struct Shared {
    /// Knows whose key is whose.
    pub doorkeeper: Arc<Doorkeeper>,
    pub credentials: Arc<Credentials>,
    /// The vendor's limits, where they are emulated.
    pub turns: Option<Arc<Turns>>,
    pub metrics: Arc<Metrics>,
    pub timing: Timing,
}

/// The whole API. Nobody passes without an API key, but to its description.
pub fn router(shared: Shared) -> Router {
    let description = Bytes::from(document().to_string());
    let metrics = shared.metrics.clone();
    Router::new()
        .route(
            DOCUMENT,
            get(async move || ([(CONTENT_TYPE, "application/json")], description))
                .fallback(async || Fault::MethodNotAllowed),
        )
        .merge(credentials(shared))
        .layer(middleware::from_fn_with_state(metrics, trail::follow))
        .layer(middleware::map_response(last_of_its_connection))
}

/// The buffers of a connection live as long as it does and keep what came through them, an API key in each request: so none
/// lives longer than its answer.
async fn last_of_its_connection(mut answer: Response) -> Response {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn credentials(shared: Shared) -> Router {
    Router::new()
        .route(COLLECTION, get(list).post(create))
        .route(ITEM, patch(update).delete(delete))
        .method_not_allowed_fallback(async || Fault::MethodNotAllowed)
        .fallback(async || Fault::NotFound)
        .layer(middleware::from_fn_with_state(shared.clone(), admit))
        .with_state(shared)
}

/// Lets a request in that has exactly one API key, and a known one.
async fn admit(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let account =
        sole(request.headers(), API_KEY).and_then(|key| shared.doorkeeper.account_of(key.as_bytes()));
    let Some(account) = account else { return Fault::Unauthorized.into_response() };
    let mut answer = admit_to(&account, &shared, request, next).await.into_response();
    answer.extensions_mut().insert(account);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Lets a request in whose account has room for it, and ends one that takes too long. What it was saving is saved to its end.
async fn admit_to(
    account: &Arc<Account>,
    shared: &Shared,
    mut request: Request,
    next: Next,
) -> Result<Response, Fault> {
    let seat = request.extensions().get::<Arc<Seat>>();
    if seat.is_some_and(|seat| !seat.keep_for(&account.namespace)) {
        return Err(Fault::TooManyRequests(Some(BUSY)));
    }
    // A key is of one account. Whoever means another one must not change this one.
    if request.headers().contains_key(COMPANY) {
        return Err(Refusal::UnknownCompany.into());
    }
    let turn = OptionFuture::from(shared.turns.as_ref().map(|turns| turns.take(&account.namespace)));
    let _held = turn.await.transpose()?;
    request.extensions_mut().insert(account.clone());
    let answer = tokio::time::timeout(shared.timing.rest_request, next.run(request)).await;
    answer.map_err(|_elapsed| {
        tracing::error!("a request took too long");
        Fault::Internal
    })
}

type Known = Extension<Arc<Account>>;

async fn list(State(shared): State<Shared>, account: Known) -> Result<Json<CredentialList>, Fault> {
    let credentials = shared.credentials.list(&account.namespace).await?;
    Ok(Json(CredentialList { credentials }))
}

async fn create(
    State(shared): State<Shared>,
    account: Known,
    request: Request,
) -> Result<(StatusCode, Json<Credential>), Fault> {
    let body = body(request, shared.timing.rest_body).await?;
    let create = read_create(&body, Timestamp::now())?;
    drop(body);
    let made = shared.credentials.create(&account.namespace, create).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn update(
    State(shared): State<Shared>,
    account: Known,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Credential>, Fault> {
    let id = id_in(id)?;
    let body = body(request, shared.timing.rest_body).await?;
    let update = read_update(&body, Timestamp::now())?;
    drop(body);
    Ok(Json(shared.credentials.update(&account.namespace, id, update).await?))
}

async fn delete(
    State(shared): State<Shared>,
    account: Known,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Fault> {
    shared.credentials.delete(&account.namespace, id_in(id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn id_in(path: Result<Path<String>, PathRejection>) -> Result<i64, Fault> {
    let Path(text) = path.map_err(|_| Fault::NotFound)?;
    credential_id(&text).ok_or(Fault::NotFound)
}

/// Reads a body of JSON that comes in time and is not too long.
async fn body(request: Request<Body>, within: Duration) -> Result<Bytes, Fault> {
    if !is_json(request.headers()) || request.headers().contains_key(CONTENT_ENCODING) {
        return Err(Fault::UnsupportedMediaType);
    }
    let body = request.into_body();
    if body.size_hint().lower() > LONGEST_BODY as u64 {
        return Err(Fault::TooLarge);
    }
    let whole = tokio::time::timeout(within, Limited::new(body, LONGEST_BODY).collect()).await;
    let whole = whole.map_err(|_| Fault::TimedOut)?.map_err(|error| match error {
        error if error.is::<LengthLimitError>() => Fault::TooLarge,
        // It was cut off, or its chunks are none; whoever is left to read the answer gets one.
        _ => Refusal::MalformedRequest.into(),
    })?;
    Ok(whole.to_bytes())
}

/// Whether the body is said to be `application/json`, with or without parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let essence = sole(headers, CONTENT_TYPE.as_str())
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The value of a header that is there exactly once.
fn sole<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())
}
