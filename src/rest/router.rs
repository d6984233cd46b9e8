//! The routes of the API, their handlers and layers.

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

use crate::core::timing::Timing;
use crate::http::server::ConnectionSlot;
use crate::rest::access_log::{self, AccessLog, COLLECTION, DOCUMENT, ITEM};
use crate::rest::api_keys::Account;
use crate::rest::backend::Backend;
use crate::rest::credentials::Credentials;
use crate::rest::error::{ErrorCode, RestError};
use crate::rest::openapi::document;
use crate::rest::rate_limit::RateLimiter;
use crate::rest::request::{credential_id, read_create, read_update};
use crate::telemetry::metrics::Metrics;
use crate::woodpecker::{Credential, CredentialList};

/// The header that carries the API key.
const API_KEY: &str = "x-api-key";

/// The header with which an agency acts for one of its companies at the vendor.
const COMPANY: &str = "x-company-id";

/// The `Retry-After` if the account has too many open connections.
const CONNECTION_RETRY: Duration = Duration::from_secs(1);

/// Longest body, in bytes: the longest secret, with each character escaped, and the other fields.
const MAX_BODY: usize = 64 << 10;

pub struct AppState<B> {
    pub credentials: Arc<Credentials<B>>,
    /// Set if the vendor's limits are emulated.
    pub rate_limiter: Option<Arc<RateLimiter>>,
    pub timing: Timing,
}

/// The state as the handlers share it.
pub type SharedState<B> = State<Arc<AppState<B>>>;

/// Routes whose handlers have the state.
pub type StateRouter<B> = Router<Arc<AppState<B>>>;

/// The whole API. Everything except the `OpenAPI` document needs an API key.
pub fn router<B: Backend>(state: AppState<B>, metrics: Arc<Metrics>) -> Router {
    routes(state, document().to_string(), |routes| routes)
        .layer(middleware::from_fn_with_state(AccessLog::new(metrics), access_log::access_log))
        .layer(middleware::map_response(close_connection))
}

/// The routes of the API with that description. What `extend` adds is behind the API key and the limits, too. Connections
/// stay open, and there is no access log.
pub fn routes<B: Backend>(
    state: AppState<B>,
    description: String,
    extend: impl FnOnce(StateRouter<B>) -> StateRouter<B>,
) -> Router {
    let description = Bytes::from(description);
    Router::new()
        .route(
            DOCUMENT,
            get(async move || ([(CONTENT_TYPE, "application/json")], description))
                .fallback(async || RestError::MethodNotAllowed),
        )
        .merge(credentials(state, extend))
}

/// Closes each connection after its response, because its buffers may keep what they received, such as API keys, as long as
/// it is open.
async fn close_connection(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn credentials<B: Backend>(
    state: AppState<B>,
    extend: impl FnOnce(StateRouter<B>) -> StateRouter<B>,
) -> Router {
    let state = Arc::new(state);
    let routes = Router::new()
        .route(COLLECTION, get(list::<B>).post(create::<B>))
        .route(ITEM, patch(update::<B>).delete(delete::<B>));
    extend(routes)
        .method_not_allowed_fallback(async || RestError::MethodNotAllowed)
        .fallback(async || RestError::NotFound)
        .layer(middleware::from_fn_with_state(state.clone(), authenticate::<B>))
        .with_state(state)
}

/// Requires exactly one API key, and a known one.
async fn authenticate<B: Backend>(State(state): SharedState<B>, request: Request, next: Next) -> Response {
    let account = single_header(request.headers(), API_KEY)
        .and_then(|key| state.credentials.backend.authenticate(key.as_bytes()));
    let Some(account) = account else { return RestError::Unauthorized.into_response() };
    let mut response = run_within_limits(&account, &state, request, next).await.into_response();
    response.extensions_mut().get_or_insert_with(|| account);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Applies the limits of the account, and the request timeout. A write continues after the timeout.
async fn run_within_limits<B: Backend>(
    account: &Arc<Account>,
    state: &AppState<B>,
    mut request: Request,
    next: Next,
) -> Result<Response, RestError> {
    let slot = request.extensions().get::<Arc<ConnectionSlot>>();
    if slot.is_some_and(|slot| !slot.assign_account(&account.namespace)) {
        return Err(RestError::TooManyRequests(Some(CONNECTION_RETRY)));
    }
    let mut companies = request.headers().get_all(COMPANY).into_iter();
    let company = companies.next().map(|company| state.credentials.backend.company(account, company));
    let company = company.transpose()?;
    if companies.next().is_some() {
        return Err(ErrorCode::UnknownCompany.into());
    }
    let account = company.as_ref().unwrap_or(account);
    request.extensions_mut().insert(account.clone());
    let limited = async {
        let limiter = state.rate_limiter.as_ref();
        let permit = OptionFuture::from(limiter.map(|limiter| limiter.acquire(&account.namespace)));
        let _permit = permit.await.transpose()?;
        let response = state.credentials.backend.handle(request, next);
        let response = tokio::time::timeout(state.timing.rest_request, response).await;
        response.map_err(|_elapsed| {
            tracing::error!("a request timed out");
            RestError::Internal
        })
    };
    let mut response = limited.await.into_response();
    // That of a company, if the request names one.
    response.extensions_mut().insert(account.clone());
    Ok(response)
}

type KnownAccount = Extension<Arc<Account>>;

async fn list<B: Backend>(
    State(state): SharedState<B>,
    account: KnownAccount,
) -> Result<Json<CredentialList>, RestError> {
    let credentials = state.credentials.list(&account.namespace).await?;
    Ok(Json(CredentialList { credentials }))
}

async fn create<B: Backend>(
    State(state): SharedState<B>,
    account: KnownAccount,
    request: Request,
) -> Result<(StatusCode, Json<Credential>), RestError> {
    let body = json_body(request, state.timing.rest_body).await?;
    let backend = &state.credentials.backend;
    let create = read_create(&body, backend.now(), backend.unknown_fields())?;
    drop(body);
    let created = state.credentials.clone().create(&account.namespace, create).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

async fn update<B: Backend>(
    State(state): SharedState<B>,
    account: KnownAccount,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Credential>, RestError> {
    let id = parse_id(id)?;
    let body = json_body(request, state.timing.rest_body).await?;
    let backend = &state.credentials.backend;
    let update = read_update(&body, backend.now(), backend.unknown_fields())?;
    drop(body);
    Ok(Json(state.credentials.clone().update(&account.namespace, id, update).await?))
}

async fn delete<B: Backend>(
    State(state): SharedState<B>,
    account: KnownAccount,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, RestError> {
    state.credentials.clone().delete(&account.namespace, parse_id(id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse_id(path: Result<Path<String>, PathRejection>) -> Result<i64, RestError> {
    let Path(text) = path.map_err(|_| RestError::NotFound)?;
    credential_id(&text).ok_or(RestError::NotFound)
}

/// Reads a JSON body, with limits on time and length.
pub async fn json_body(request: Request<Body>, timeout: Duration) -> Result<Bytes, RestError> {
    if !is_json(request.headers()) || request.headers().contains_key(CONTENT_ENCODING) {
        return Err(RestError::UnsupportedMediaType);
    }
    let body = request.into_body();
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(RestError::TooLarge);
    }
    let whole = tokio::time::timeout(timeout, Limited::new(body, MAX_BODY).collect()).await;
    let whole = whole.map_err(|_| RestError::TimedOut)?.map_err(|error| match error {
        error if error.is::<LengthLimitError>() => RestError::TooLarge,
        // It was cut off, or its chunks are invalid.
        _ => ErrorCode::MalformedRequest.into(),
    })?;
    Ok(whole.to_bytes())
}

/// Whether the content type is `application/json`, with or without parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let essence = single_header(headers, CONTENT_TYPE.as_str())
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The value of a header that occurs exactly once.
fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())
}
