//! The handler of the token endpoint: receives a request, records it, and responds by the state or the script
//! of faults.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::fault::{Effect, Fault};
use super::form::Form;
use super::record::{Outcome, TokenRequest};
use super::rejection::{Cause, Layout, ResponseIds};
use super::state::{Attempt, State, Validity};
use super::token;
use crate::double::app_key::AppKey;
use crate::double::handle::{AppService, Service};
use crate::double::http::{DeliveryMode, HttpResponse, Reply, ReplyKind, Request};
use crate::double::in_flight::InFlight;
use crate::double::script::Script;
use crate::double::{Delays, SecretText, lock};

/// Everything that the double of Entra holds.
pub struct Handler {
    pub(crate) state: Mutex<State>,
    /// By app; `None` is every app.
    pub(crate) script: Mutex<Script<Option<AppKey>, Fault>>,
    pub(crate) requests: Mutex<Vec<TokenRequest>>,
    /// Requests to other paths: method and path.
    pub(crate) unexpected_requests: Mutex<Vec<String>>,
    pub(crate) behavior: Mutex<Behavior>,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) delays: Delays,
}

/// Settings of the double.
#[derive(Clone)]
pub(crate) struct Behavior {
    pub(crate) layout: Layout,
    pub(crate) scope: String,
    pub(crate) service_time: Duration,
    /// Seconds until a token expires.
    pub(crate) token_lifetime: i64,
}

// === impl Handler ===

impl Service for Handler {
    type Key = Option<AppKey>;
    type Fault = Fault;

    fn new() -> Self {
        Self {
            state: Mutex::default(),
            script: Mutex::new(Script::new()),
            requests: Mutex::default(),
            unexpected_requests: Mutex::default(),
            behavior: Mutex::new(Behavior {
                layout: Layout::default(),
                scope: "https://graph.microsoft.com/.default".to_owned(),
                service_time: Duration::ZERO,
                token_lifetime: token::LIFETIME,
            }),
            in_flight: Arc::default(),
            delays: Delays::new(),
        }
    }

    async fn serve(self: Arc<Self>, request: Request) -> Reply {
        let Some(tenant) = token_path(&request) else {
            let unexpected = format!("{} {}", request.method, request.path);
            lock(&self.unexpected_requests).push(unexpected);
            let what = HttpResponse::html(404, "Not Found").into();
            return Reply { what, held: Vec::new() };
        };
        let (open, concurrent) = self.in_flight.enter();
        self.in_flight.record_max(concurrent);
        let behavior = lock(&self.behavior).clone();
        let form = Form::read(&request, &behavior.scope);
        let number = self.append_record(TokenRequest::new(tenant, &form, &request));
        self.delays.pause(behavior.service_time).await;

        let correlation = request.header("client-request-id");
        let ids = ResponseIds::new(correlation, behavior.layout);
        let (what, outcome) = self.decide(tenant, &form, &ids);
        if let Some(record) = lock(&self.requests).get_mut(number) {
            record.outcome = outcome;
        }
        Reply { what, held: vec![Box::new(open)] }
    }

    fn script(&self) -> &Mutex<Script<Self::Key, Fault>> {
        &self.script
    }

    fn delays(&self) -> &Delays {
        &self.delays
    }
}

impl AppService for Handler {
    fn key(app: Option<AppKey>) -> Self::Key {
        app
    }
}

impl Handler {
    /// Woodpecker's verification: not recorded and not counted.
    pub(crate) fn accepts(&self, tenant: &str, client: &str, secret: &SecretText) -> bool {
        let mut state = lock(&self.state);
        state.authenticate(tenant, client, secret, Attempt::Uncounted).is_ok()
    }

    /// Adds a secret that Graph made.
    pub(crate) fn add_secret(&self, tenant: &str, client: &str, secret: SecretText, validity: Validity) {
        lock(&self.state).app(tenant, client).add(secret, validity);
    }

    /// A secret that Graph removed works until then.
    pub(crate) fn end_secret(&self, tenant: &str, client: &str, secret: &SecretText, until: Instant) {
        lock(&self.state).app(tenant, client).end(secret, until);
    }

    fn append_record(&self, record: TokenRequest) -> usize {
        let mut requests = lock(&self.requests);
        requests.push(record);
        requests.len() - 1
    }

    fn decide(&self, tenant: &str, form: &Form, ids: &ResponseIds) -> (ReplyKind, Outcome) {
        let app = AppKey::new(tenant, &form.client);
        let fault = lock(&self.script).take(&[Some(app), None]);
        let name = fault.as_ref().map(Fault::name);
        let (response, outcome) = match fault.map(|fault| fault.effect(&self.delays)) {
            None => self.respond(tenant, form, ids),
            Some(Effect::Instead(what)) => {
                return (what, Outcome::Fault(name.unwrap_or_default()));
            }
            Some(Effect::Sent(delivery)) => {
                let (response, outcome) = self.respond(tenant, form, ids);
                (response.sent(delivery), outcome)
            }
            Some(Effect::Rejected(cause)) => reject(&cause, tenant, form, ids, ErrorCodes::Included),
            Some(Effect::WithoutCodes) => {
                let cause = self.authenticate(tenant, form).err();
                let cause = cause.unwrap_or(Cause::WrongSecret);
                reject(&cause, tenant, form, ids, ErrorCodes::Omitted)
            }
        };
        (response.into(), outcome)
    }

    fn respond(&self, tenant: &str, form: &Form, ids: &ResponseIds) -> (HttpResponse, Outcome) {
        match self.authenticate(tenant, form) {
            Ok(roles) => {
                let lifetime = lock(&self.behavior).token_lifetime;
                let body = token::response(tenant, &form.client, &form.scope, &roles, lifetime);
                (no_store(200, &body), Outcome::Issued)
            }
            Err(cause) => reject(&cause, tenant, form, ids, ErrorCodes::Included),
        }
    }

    fn authenticate(&self, tenant: &str, form: &Form) -> Result<Vec<String>, Cause> {
        if let Some(error) = &form.error {
            return Err(error.clone());
        }
        let mut state = lock(&self.state);
        match &form.assertion {
            Some(assertion) => state.authenticate_assertion(tenant, &form.client, assertion),
            None => state.authenticate(tenant, &form.client, &form.secret, Attempt::Counted),
        }
    }
}

/// Whether an error response lists its `error_codes`.
enum ErrorCodes {
    Included,
    Omitted,
}

fn reject(
    cause: &Cause,
    tenant: &str,
    form: &Form,
    ids: &ResponseIds,
    codes: ErrorCodes,
) -> (HttpResponse, Outcome) {
    let rejection = cause.rejection(tenant, &form.client);
    let mut body = rejection.body(ids);
    if let (ErrorCodes::Omitted, Some(body)) = (codes, body.as_object_mut()) {
        body.remove("error_codes");
    }
    let outcome =
        Outcome::Rejected { status: rejection.status, error: rejection.error, code: rejection.code };
    (no_store(rejection.status, &body), outcome)
}

fn no_store(status: u16, body: &serde_json::Value) -> HttpResponse {
    let response = HttpResponse::json(status, body).with_header("cache-control", "no-store, no-cache");
    response.sent(DeliveryMode::Whole)
}

/// The tenant, if this is `POST /{tenant}/oauth2/v2.0/token`.
fn token_path(request: &Request) -> Option<&str> {
    let rest = request.path.strip_prefix('/')?;
    let tenant = rest.strip_suffix("/oauth2/v2.0/token")?;
    (request.method == "POST" && !tenant.contains('/')).then_some(tenant)
}
