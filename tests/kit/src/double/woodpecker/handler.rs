//! The handler of the double: receives a request, authenticates it, records it, and responds by the API's
//! rules or the script of faults. It continues if the client disconnects, like a real server.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::broadcast;

use super::api::{Api, Performed, Rules};
use super::companies::Agencies;
use super::fault::{Effect, Fault};
use super::progress::Progress;
use super::record::Request as Record;
use super::request_queue::RequestQueue;
use super::response::{ExpiryEcho, problem};
use super::route::{Op, Route};
use super::state::{Credential, KeyOwner, State, company_account};
use super::validity::ValidityLog;
use crate::double::entra::handler::Handler as Entra;
use crate::double::handle::Service;
use crate::double::http::{Reply, ReplyKind, Request};
use crate::double::progress::{self, Point};
use crate::double::script::Script;
use crate::double::{Delays, SecretText, lock};

/// Everything that the double of Woodpecker holds.
pub struct Handler {
    pub(crate) state: Mutex<State>,
    pub(crate) agencies: Mutex<Agencies>,
    /// By account and operation; `None` is every account.
    pub(crate) script: Mutex<Script<(Option<String>, Op), Fault>>,
    pub(crate) records: Mutex<Vec<Record>>,
    pub(crate) behavior: Mutex<Behavior>,
    pub(crate) delays: Delays,
    pub(crate) validity: Mutex<ValidityLog>,
    pub(crate) progress: broadcast::Sender<Progress>,
    queues: Mutex<HashMap<String, Arc<RequestQueue>>>,
}

/// Settings of the double.
#[derive(Clone)]
pub(crate) struct Behavior {
    pub(crate) ignore_company_header: bool,
    pub(crate) enforce_concurrency: bool,
    pub(crate) service_time: Duration,
    pub(crate) rules: Rules,
    pub(crate) microsoft: Option<Arc<Entra>>,
    /// Against which the registered secrets are checked all the time.
    pub(crate) checks_validity_at: Option<Arc<Entra>>,
    pub(crate) before_delete: Option<BeforeDelete>,
}

/// An action that runs before a credential of an account is deleted.
pub(crate) type BeforeDelete =
    Arc<dyn Fn(String, Credential) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A received request, with everything that is needed to process it.
#[derive(Clone)]
struct Job {
    handler: Arc<Handler>,
    account: String,
    route: Route,
    body: Option<Value>,
    number: usize,
    queue: Arc<RequestQueue>,
    behavior: Behavior,
}

/// A client that gave up on a delayed request may send the next one before the double notices. The double
/// gets this time to notice before the two count as overlapping.
const DISCONNECT_NOTICE: Duration = Duration::from_millis(25);

// === impl Handler ===

impl Service for Handler {
    type Key = (Option<String>, Op);
    type Fault = Fault;

    fn new() -> Self {
        let rules = Rules { in_use_status: 409, verify_updates: false, expiry_echo: ExpiryEcho::default() };
        Self {
            state: Mutex::default(),
            agencies: Mutex::default(),
            script: Mutex::new(Script::new()),
            records: Mutex::default(),
            behavior: Mutex::new(Behavior {
                ignore_company_header: false,
                enforce_concurrency: false,
                service_time: Duration::ZERO,
                rules,
                microsoft: None,
                checks_validity_at: None,
                before_delete: None,
            }),
            delays: Delays::new(),
            validity: Mutex::default(),
            progress: broadcast::Sender::new(progress::CAPACITY),
            queues: Mutex::default(),
        }
    }

    async fn serve(self: Arc<Self>, request: Request) -> Reply {
        let body = json_body(&request);
        let route = Route::of(&request, body.as_ref());
        let behavior = lock(&self.behavior).clone();
        let (account, authenticated) = self.authenticate(&request, &behavior);
        let record = Record::new(&request, &route, body.as_ref(), account.as_deref());
        let number = self.append_record(record);
        let account = match (authenticated, account) {
            (Ok(()), Some(account)) if route.op != Op::Other => account,
            (authenticated, _) => {
                let status = authenticated.err().unwrap_or(404);
                let what = ReplyKind::from(problem(status));
                self.update_record(number, |record| record.status = what.status());
                return Reply { what, held: Vec::new() };
            }
        };

        let queue = self.queue(&account);
        let in_flight = Arc::clone(&queue.in_flight);
        let may_overcount = in_flight.hangs();
        let (open, mut concurrent) = in_flight.enter();
        let handler = Arc::clone(&self);
        let job = Job { handler, account, route, body, number, queue, behavior };
        job.report_progress(Point::Arrived);
        let work = tokio::spawn(job.run());
        if may_overcount {
            tokio::time::sleep(DISCONNECT_NOTICE).await;
            concurrent = concurrent.min(in_flight.now());
        }
        in_flight.record_max(concurrent);
        self.update_record(number, |record| record.in_flight_at_start = concurrent);
        let Ok(mut reply) = work.await else {
            return Reply { what: ReplyKind::Reset, held: vec![Box::new(open)] };
        };
        if let ReplyKind::Hang(_) = reply.what {
            reply.held.push(Box::new(in_flight.hang()));
        }
        reply.held.push(Box::new(open));
        reply
    }

    fn script(&self) -> &Mutex<Script<Self::Key, Fault>> {
        &self.script
    }

    fn delays(&self) -> &Delays {
        &self.delays
    }
}

impl Handler {
    pub(crate) fn queue(&self, account: &str) -> Arc<RequestQueue> {
        let mut queues = lock(&self.queues);
        let queue = queues.entry(account.to_owned());
        Arc::clone(queue.or_insert_with(|| Arc::new(RequestQueue::new())))
    }

    /// The owner of the request, if known, and the status that rejects it.
    fn authenticate(&self, request: &Request, behavior: &Behavior) -> (Option<String>, Result<(), u16>) {
        let state = lock(&self.state);
        let account = match state.key_owner(request.header("x-api-key").unwrap_or_default()) {
            KeyOwner::Unknown => return (None, Err(401)),
            KeyOwner::Revoked(account) => return (Some(account), Err(401)),
            KeyOwner::Account(account) => account,
        };
        let Some(company) = request.header("x-company-id") else {
            return (Some(account), Ok(()));
        };
        if behavior.ignore_company_header {
            return (Some(account), Ok(()));
        }
        let of_company = company_account(&account, company);
        if state.has_account(&of_company) {
            return (Some(of_company), Ok(()));
        }
        // The vendor does not document its response to an unknown company id.
        (Some(account), Err(404))
    }

    fn append_record(&self, record: Record) -> usize {
        let mut records = lock(&self.records);
        records.push(record);
        records.len() - 1
    }

    fn update_record(&self, number: usize, change: impl FnOnce(&mut Record)) {
        if let Some(record) = lock(&self.records).get_mut(number) {
            change(record);
        }
    }
}

// === impl Job ===

impl Job {
    async fn run(self) -> Reply {
        self.run_before_delete().await;
        let mut held: Vec<Box<dyn std::any::Any + Send>> = Vec::new();
        if self.behavior.enforce_concurrency {
            match self.queue.acquire(&self.handler.delays).await {
                Ok(slot) => held.push(Box::new(slot)),
                Err(_) => return self.reply(problem(429).into(), held),
            }
        }
        self.handler.delays.pause(self.behavior.service_time).await;
        let what = self.execute().await;
        self.reply(what, held)
    }

    async fn run_before_delete(&self) {
        let Some(before_delete) =
            self.behavior.before_delete.as_ref().filter(|_| self.route.op == Op::Delete)
        else {
            return;
        };
        let credential =
            self.route.id.and_then(|id| lock(&self.handler.state).credential(&self.account, id).cloned());
        if let Some(credential) = credential {
            before_delete(self.account.clone(), credential).await;
        }
    }

    async fn execute(&self) -> ReplyKind {
        let op = self.route.op;
        let keys = [(Some(self.account.clone()), op), (None, op)];
        let fault = lock(&self.handler.script).take(&keys);
        let Some(fault) = fault else {
            return self.perform().response.into();
        };
        let delays = &self.handler.delays;
        self.handler.update_record(self.number, |record| record.fault = Some(fault.name()));
        match fault.effect() {
            Effect::Never => fault.response_without_effect(delays),
            Effect::Now => fault.response_after_effect(self.perform(), delays),
            Effect::AfterWaiting(time) => {
                let _waiting = self.queue.in_flight.hang();
                delays.pause(time).await;
                fault.response_after_effect(self.perform(), delays)
            }
            Effect::After(time) => {
                let later = self.clone();
                tokio::spawn(async move {
                    later.handler.delays.pause(time).await;
                    later.perform();
                });
                fault.response_without_effect(delays)
            }
        }
    }

    fn perform(&self) -> Performed {
        if let Op::Companies | Op::Me = self.route.op {
            let response = lock(&self.handler.agencies).respond(&self.account, &self.route);
            self.handler.update_record(self.number, |record| record.took_effect = response.status < 300);
            self.report_progress(Point::Performed);
            return Performed { response, credential_id: None };
        }
        let microsoft = self.behavior.microsoft.as_ref();
        let verifies = |tenant: &str, client: &str, secret: &SecretText| {
            microsoft.is_none_or(|it| it.accepts(tenant, client, secret))
        };
        let body = self.body.as_ref().and_then(Value::as_object);
        let mut state = lock(&self.handler.state);
        // A secret that ended shortly before its update is noticed as well.
        self.check_validity(&state);
        let listed = state.count(&self.account);
        let api = Api {
            state: &mut state,
            account: &self.account,
            verifies: &verifies,
            rules: self.behavior.rules,
        };
        let performed = api.perform(&self.route, body);
        self.check_validity(&state);
        drop(state);
        self.handler.update_record(self.number, |record| {
            record.took_effect = performed.response.status < 300;
            record.credential_id = performed.credential_id;
            record.listed = (self.route.op == Op::List).then_some(listed);
        });
        self.report_progress(Point::Performed);
        performed
    }

    fn check_validity(&self, state: &State) {
        if let Some(entra) = self.behavior.checks_validity_at.as_ref().filter(|_| self.route.op.is_write()) {
            lock(&self.handler.validity).check(state, entra);
        }
    }

    fn reply(&self, what: ReplyKind, held: Vec<Box<dyn std::any::Any + Send>>) -> Reply {
        self.handler.update_record(self.number, |record| record.status = what.status());
        self.report_progress(Point::Answered);
        Reply { what, held }
    }

    fn report_progress(&self, point: Point) {
        // There may be no follower.
        let _ =
            self.handler.progress.send(Progress { account: self.account.clone(), op: self.route.op, point });
    }
}

/// The body, if it is JSON and its content type says so.
fn json_body(request: &Request) -> Option<Value> {
    if !request.has_content_type("application/json") {
        return None;
    }
    serde_json::from_slice(&request.body).ok()
}
