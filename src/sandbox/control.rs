//! The routes of the sandbox itself: its page, the table of answers, the request log, the clock, planned answers and reset.
//! They need no API key.

use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{StatusCode, Uri};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::backend::{MAX_CREDENTIALS, Sandbox, store};
use super::data::{Data, MAIN_ACCOUNT};
use super::error::SandboxError;
use super::magic::{self, ANSWERS};
use super::{mailboxes, page};
use crate::rest::{Backend, RestError, UnknownFields, new_record, read_create};

/// Longest body, in bytes.
const MAX_BODY: usize = 1 << 20;

/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// Most answers that can be planned at once.
const MAX_PLANNED: usize = 1000;

/// Times that every field of a credential can have.
const EARLIEST: Timestamp = Timestamp::UNIX_EPOCH;
const LATEST: Timestamp = Timestamp::constant(253_370_764_799, 0);

type Shared = State<Arc<Sandbox>>;

pub(super) fn routes(sandbox: Arc<Sandbox>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/sandbox/answers", get(answers))
        .route("/sandbox/addresses", get(addresses))
        .route("/sandbox/log", get(log))
        .route("/sandbox/clock", get(clock).post(move_clock))
        .route("/sandbox/next", post(plan))
        .route("/sandbox/reset", post(reset))
        .method_not_allowed_fallback(async || RestError::MethodNotAllowed)
        .with_state(sandbox)
}

async fn answers() -> Json<Value> {
    Json(ANSWERS.iter().map(magic::Magic::to_json).collect())
}

async fn addresses() -> Json<Value> {
    Json(
        mailboxes::magic_addresses()
            .map(|(address, meaning)| json!({ "address": address, "meaning": meaning }))
            .collect(),
    )
}

/// The entries of the request log after the number in the query `after`.
async fn log(State(sandbox): Shared, uri: Uri) -> Result<Json<Value>, SandboxError> {
    let after = query(&uri, "after").unwrap_or("0").parse();
    let after = after.map_err(|error| SandboxError::invalid(&error))?;
    let (last, requests) = sandbox.log.after(after);
    Ok(Json(json!({ "last": last, "requests": requests })))
}

/// The value of a parameter of the query, which needs no decoding.
pub(super) fn query<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

async fn clock(State(sandbox): Shared) -> Json<Value> {
    Json(json!({ "now": sandbox.now() }))
}

/// A new time of the sandbox; without a field, the machine's time.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the field now or advance")]
struct Clock {
    now: Option<Timestamp>,
    /// An ISO 8601 duration from now on, without years and months, such as `P30D`.
    advance: Option<jiff::Span>,
}

async fn move_clock(state: Shared, request: Request) -> Result<Json<Value>, SandboxError> {
    let Clock { now, advance } = body(&state, request).await?;
    let machine = Timestamp::now();
    state.change(|data| {
        let target = match (now, advance) {
            (Some(_), Some(_)) => return Err(SandboxError::invalid(&"specify now or advance, not both")),
            (Some(now), None) => now,
            (None, Some(advance)) if advance.get_years() != 0 || advance.get_months() != 0 => {
                return Err(SandboxError::invalid(&"advance has weeks, days and smaller units only"));
            }
            (None, Some(advance)) => {
                later(data.now(), advance).map_err(|error| SandboxError::invalid(&error))?
            }
            (None, None) => {
                data.clock_offset = 0;
                return Ok(());
            }
        };
        if !(EARLIEST..=LATEST).contains(&target) {
            return Err(SandboxError::invalid(&"the clock has times from 1970 to 9998"));
        }
        // Rounded up, so that the time is reached at once.
        let offset = target.duration_since(machine).as_millis() + 1;
        data.clock_offset = i64::try_from(offset).map_err(|error| SandboxError::invalid(&error))?;
        Ok(())
    })?;
    Ok(clock(state).await)
}

/// Days are 24 hours.
fn later(now: Timestamp, advance: jiff::Span) -> Result<Timestamp, jiff::Error> {
    let advance: SignedDuration = advance.to_duration(jiff::SpanRelativeTo::days_are_24_hours())?;
    now.checked_add(advance)
}

/// Answers to the next requests of the API, whatever they are.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the field answer")]
struct Plan {
    /// The name of an answer.
    answer: String,
    times: Option<usize>,
}

async fn plan(State(sandbox): Shared, request: Request) -> Result<StatusCode, SandboxError> {
    let Plan { answer, times } = body(&sandbox, request).await?;
    let found = magic::by_name(&answer);
    let magic =
        found.ok_or_else(|| SandboxError::invalid(&"no answer has this name; see /sandbox/answers"))?;
    let times = times.unwrap_or(1);
    if sandbox.plan(magic, times, MAX_PLANNED) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(SandboxError::invalid(&format!("at most {MAX_PLANNED} answers can be planned")))
    }
}

/// What there is after a reset.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the field credentials")]
struct Seed {
    /// Credentials, each as in the body of a create.
    #[serde(default)]
    credentials: Vec<Value>,
}

/// Removes everything, and creates the credentials of the body.
async fn reset(State(sandbox): Shared, request: Request) -> Result<Json<Value>, SandboxError> {
    let Seed { credentials } = body(&sandbox, request).await?;
    if credentials.len() > MAX_CREDENTIALS {
        return Err(SandboxError::invalid(&format!(
            "credentials: at most {MAX_CREDENTIALS}, as an account has"
        )));
    }
    let mut data = Data::initial();
    let mut ids = Vec::new();
    for (at, credential) in credentials.iter().enumerate() {
        let invalid =
            |error: RestError| SandboxError::invalid(&format!("credentials[{at}]: {}", reason(error)));
        let body = credential.to_string();
        // It may have expired already.
        let create = read_create(body.as_bytes(), Timestamp::MIN, UnknownFields::Reject).map_err(invalid)?;
        let mut record = new_record(MAIN_ACCOUNT, &create).map_err(|_| RestError::Internal)?;
        sandbox.encrypt(&mut record, &create.secret.text).map_err(|_| RestError::Internal)?;
        let record = store(&mut data, record).map_err(|_| RestError::Internal)?;
        ids.push(record.spec.credential_id);
        // Others are served meanwhile.
        tokio::task::yield_now().await;
    }
    sandbox.replace_data(&data)?;
    Ok(Json(json!({ "credential_ids": ids })))
}

/// The error in the words of the API.
fn reason(error: RestError) -> String {
    match error {
        RestError::Rejected(code, Some(detail)) => format!("{}: {detail}", code.as_str()),
        RestError::Rejected(code, None) => code.as_str().to_owned(),
        other => format!("{other:?}"),
    }
}

/// Reads a JSON body of any content type; an empty one counts as an empty object.
async fn body<T: DeserializeOwned>(sandbox: &Sandbox, request: Request) -> Result<T, SandboxError> {
    let _permit = sandbox.bodies.acquire().await;
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), MAX_BODY)).await;
    let body =
        read.map_err(|_elapsed| RestError::TimedOut)?.map_err(|error| SandboxError::invalid(&error))?;
    let body = if body.is_empty() { b"{}" } else { &*body };
    // The values of the fields in an array would be read, too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(SandboxError::invalid(&"the body is not a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| SandboxError::invalid(&error))
}
