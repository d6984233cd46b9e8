//! The handler of the token endpoint: receives a request, records it, and responds by the state or the script
//! of faults.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::books::{AppKey, Books, Try};
use super::fault::{Effect, Fault};
use super::form::Form;
use super::record::{Outcome, TokenRequest};
use super::refusal::{Cause, Layout, Occasion};
use super::token;
use crate::double::http::{Answer, Manner, Reply, Request, What};
use crate::double::in_flight::InFlight;
use crate::double::script::Script;
use crate::double::{Delays, SecretText, lock};

/// Everything that the double of Entra holds.
pub(crate) struct Desk {
    pub(crate) books: Mutex<Books>,
    /// By app; `None` is every app.
    pub(crate) script: Mutex<Script<Option<AppKey>, Fault>>,
    pub(crate) requests: Mutex<Vec<TokenRequest>>,
    /// Requests to other paths: method and path.
    pub(crate) strays: Mutex<Vec<String>>,
    pub(crate) manners: Mutex<Manners>,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) delays: Delays,
}

/// Settings of the double.
#[derive(Clone)]
pub(crate) struct Manners {
    pub(crate) layout: Layout,
    pub(crate) scope: String,
    pub(crate) service_time: Duration,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            books: Mutex::default(),
            script: Mutex::new(Script::new()),
            requests: Mutex::default(),
            strays: Mutex::default(),
            manners: Mutex::new(Manners {
                layout: Layout::default(),
                scope: "https://graph.microsoft.com/.default".to_owned(),
                service_time: Duration::ZERO,
            }),
            in_flight: Arc::default(),
            delays: Delays::new(),
        }
    }

    pub(crate) async fn serve(self: Arc<Self>, request: Request) -> Reply {
        let Some(tenant) = token_path(&request) else {
            let stray = format!("{} {}", request.method, request.path);
            lock(&self.strays).push(stray);
            let what = Answer::html(404, "Not Found").into();
            return Reply { what, held: Vec::new() };
        };
        let (open, together) = self.in_flight.enter();
        self.in_flight.measured(together);
        let manners = lock(&self.manners).clone();
        let form = Form::read(&request, &manners.scope);
        let number = self.remember(TokenRequest::new(tenant, &form, &request));
        self.delays.pause(manners.service_time).await;

        let correlation = request.header("client-request-id");
        let occasion = Occasion::new(correlation, manners.layout);
        let (what, outcome) = self.decide(tenant, &form, &occasion);
        if let Some(record) = lock(&self.requests).get_mut(number) {
            record.outcome = outcome;
        }
        Reply { what, held: vec![Box::new(open)] }
    }

    /// Woodpecker's verification: not recorded and not counted.
    pub(crate) fn accepts(&self, tenant: &str, client: &str, secret: &SecretText) -> bool {
        let mut books = lock(&self.books);
        books.judge(tenant, client, secret, Try::Unseen).is_ok()
    }

    fn remember(&self, record: TokenRequest) -> usize {
        let mut requests = lock(&self.requests);
        requests.push(record);
        requests.len() - 1
    }

    fn decide(&self, tenant: &str, form: &Form, occasion: &Occasion) -> (What, Outcome) {
        let app = AppKey::new(tenant, &form.client);
        let fault = lock(&self.script).take(&[Some(app), None]);
        let name = fault.as_ref().map(Fault::name);
        let (answer, outcome) = match fault.map(|fault| fault.effect(&self.delays)) {
            None => self.judge(tenant, form, occasion),
            Some(Effect::Instead(what)) => {
                return (what, Outcome::Fault(name.unwrap_or_default()));
            }
            Some(Effect::Sent(manner)) => {
                let (answer, outcome) = self.judge(tenant, form, occasion);
                (answer.sent(manner), outcome)
            }
            Some(Effect::Refused(cause)) => refuse(&cause, tenant, form, occasion, Codes::Listed),
            Some(Effect::WithoutCodes) => {
                let cause = self.verdict(tenant, form).err();
                let cause = cause.unwrap_or(Cause::WrongSecret);
                refuse(&cause, tenant, form, occasion, Codes::Left)
            }
        };
        (answer.into(), outcome)
    }

    fn judge(&self, tenant: &str, form: &Form, occasion: &Occasion) -> (Answer, Outcome) {
        match self.verdict(tenant, form) {
            Ok(roles) => {
                let body = token::answer(tenant, &form.client, &form.scope, &roles);
                (polite(200, &body), Outcome::Issued)
            }
            Err(cause) => refuse(&cause, tenant, form, occasion, Codes::Listed),
        }
    }

    fn verdict(&self, tenant: &str, form: &Form) -> Result<Vec<String>, Cause> {
        if let Some(wrong) = &form.wrong {
            return Err(wrong.clone());
        }
        let mut books = lock(&self.books);
        books.judge(tenant, &form.client, &form.secret, Try::Counted)
    }
}

/// Whether an error response lists its `error_codes`.
enum Codes {
    Listed,
    Left,
}

fn refuse(cause: &Cause, tenant: &str, form: &Form, occasion: &Occasion, codes: Codes) -> (Answer, Outcome) {
    let refusal = cause.refusal(tenant, &form.client);
    let mut body = refusal.body(occasion);
    if let (Codes::Left, Some(body)) = (codes, body.as_object_mut()) {
        body.remove("error_codes");
    }
    let outcome = Outcome::Refused { status: refusal.status, error: refusal.error, code: refusal.code };
    (polite(refusal.status, &body), outcome)
}

fn polite(status: u16, body: &serde_json::Value) -> Answer {
    let answer = Answer::json(status, body).with_header("cache-control", "no-store, no-cache");
    answer.sent(Manner::Whole)
}

/// The tenant, if this is `POST /{tenant}/oauth2/v2.0/token`.
fn token_path(request: &Request) -> Option<&str> {
    let rest = request.path.strip_prefix('/')?;
    let tenant = rest.strip_suffix("/oauth2/v2.0/token")?;
    (request.method == "POST" && !tenant.contains('/')).then_some(tenant)
}
