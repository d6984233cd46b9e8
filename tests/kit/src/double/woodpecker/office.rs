//! The handler of the double: receives a request, authenticates it, records it, and responds by the API's
//! rules or the script of faults. It continues if the client disconnects, like a real server.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::broadcast;

use super::answer::{ExpiryEcho, problem};
use super::api::{Api, Done, Rules};
use super::books::{Books, Credential, Holder, company_account};
use super::fault::{Effect, Fault};
use super::lane::Lane;
use super::progress::{Point, Progress};
use super::record::Request as Record;
use super::route::{Op, Route};
use crate::double::entra::desk::Desk;
use crate::double::http::{Reply, Request, What};
use crate::double::script::Script;
use crate::double::{Delays, SecretText, lock};

/// Everything that the double of Woodpecker holds.
pub(crate) struct Office {
    pub(crate) books: Mutex<Books>,
    /// By account and operation; `None` is every account.
    pub(crate) script: Mutex<Script<(Option<String>, Op), Fault>>,
    pub(crate) records: Mutex<Vec<Record>>,
    pub(crate) manners: Mutex<Manners>,
    pub(crate) delays: Delays,
    pub(crate) progress: broadcast::Sender<Progress>,
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
}

/// Settings of the double.
#[derive(Clone)]
pub(crate) struct Manners {
    pub(crate) ignore_company_header: bool,
    pub(crate) enforce_lane: bool,
    pub(crate) service_time: Duration,
    pub(crate) rules: Rules,
    pub(crate) microsoft: Option<Arc<Desk>>,
    pub(crate) before_delete: Option<BeforeDelete>,
}

/// An action that runs before a credential of an account is deleted.
pub(crate) type BeforeDelete =
    Arc<dyn Fn(String, Credential) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A received request, with everything that is needed to process it.
#[derive(Clone)]
struct Job {
    office: Arc<Office>,
    account: String,
    route: Route,
    body: Option<Value>,
    number: usize,
    lane: Arc<Lane>,
    manners: Manners,
}

/// How many steps of requests a follower may lag behind before it misses some.
const FOLLOWED: usize = 4096;

/// A client that gave up on a delayed request may send the next one before the double notices. The double
/// gets this time to notice before the two count as overlapping.
const NOTICE: Duration = Duration::from_millis(25);

// === impl Office ===

impl Office {
    pub(crate) fn new() -> Self {
        let rules = Rules { in_use_status: 409, prove_updates: false, expiry_echo: ExpiryEcho::default() };
        Self {
            books: Mutex::default(),
            script: Mutex::new(Script::new()),
            records: Mutex::default(),
            manners: Mutex::new(Manners {
                ignore_company_header: false,
                enforce_lane: false,
                service_time: Duration::ZERO,
                rules,
                microsoft: None,
                before_delete: None,
            }),
            delays: Delays::new(),
            progress: broadcast::Sender::new(FOLLOWED),
            lanes: Mutex::default(),
        }
    }

    pub(crate) fn lane(&self, account: &str) -> Arc<Lane> {
        let mut lanes = lock(&self.lanes);
        let lane = lanes.entry(account.to_owned());
        Arc::clone(lane.or_insert_with(|| Arc::new(Lane::new())))
    }

    pub(crate) async fn serve(self: Arc<Self>, request: Request) -> Reply {
        let body = json_of(&request);
        let route = Route::of(&request, body.as_ref());
        let manners = lock(&self.manners).clone();
        let (account, admitted) = self.admit(&request, &manners);
        let record = Record::new(&request, &route, body.as_ref(), account.as_deref());
        let number = self.remember(record);
        let account = match (admitted, account) {
            (Ok(()), Some(account)) if route.op != Op::Other => account,
            (admitted, _) => {
                let status = admitted.err().unwrap_or(404);
                let what = What::from(problem(status));
                self.note(number, |record| record.status = what.status());
                return Reply { what, held: Vec::new() };
            }
        };

        let lane = self.lane(&account);
        let in_flight = Arc::clone(&lane.in_flight);
        let unsure = in_flight.hangs();
        let (open, mut together) = in_flight.enter();
        let office = Arc::clone(&self);
        let job = Job { office, account, route, body, number, lane, manners };
        job.tell(Point::Arrived);
        let work = tokio::spawn(job.run());
        if unsure {
            tokio::time::sleep(NOTICE).await;
            together = together.min(in_flight.now());
        }
        in_flight.measured(together);
        self.note(number, |record| record.in_flight_at_start = together);
        let Ok(mut reply) = work.await else {
            return Reply { what: What::Reset, held: vec![Box::new(open)] };
        };
        if let What::Hang(_) = reply.what {
            reply.held.push(Box::new(in_flight.hang()));
        }
        reply.held.push(Box::new(open));
        reply
    }

    /// The owner of the request, if known, and the status that rejects it.
    fn admit(&self, request: &Request, manners: &Manners) -> (Option<String>, Result<(), u16>) {
        let books = lock(&self.books);
        let account = match books.holder(request.header("x-api-key").unwrap_or_default()) {
            Holder::Nobody => return (None, Err(401)),
            Holder::Revoked(account) => return (Some(account), Err(401)),
            Holder::Account(account) => account,
        };
        let Some(company) = request.header("x-company-id") else {
            return (Some(account), Ok(()));
        };
        if manners.ignore_company_header {
            return (Some(account), Ok(()));
        }
        let of_company = company_account(&account, company);
        if books.knows(&of_company) {
            return (Some(of_company), Ok(()));
        }
        // The vendor does not document its response to an unknown company id.
        (Some(account), Err(404))
    }

    fn remember(&self, record: Record) -> usize {
        let mut records = lock(&self.records);
        records.push(record);
        records.len() - 1
    }

    fn note(&self, number: usize, change: impl FnOnce(&mut Record)) {
        if let Some(record) = lock(&self.records).get_mut(number) {
            change(record);
        }
    }
}

// === impl Job ===

impl Job {
    async fn run(self) -> Reply {
        self.announce_deletion().await;
        let mut held: Vec<Box<dyn std::any::Any + Send>> = Vec::new();
        if self.manners.enforce_lane {
            match self.lane.queue(&self.office.delays).await {
                Ok(turn) => held.push(Box::new(turn)),
                Err(_) => return self.reply(problem(429).into(), held),
            }
        }
        self.office.delays.pause(self.manners.service_time).await;
        let what = self.carry_out().await;
        self.reply(what, held)
    }

    async fn announce_deletion(&self) {
        let Some(before_delete) = self.manners.before_delete.as_ref().filter(|_| self.route.op == Op::Delete)
        else {
            return;
        };
        let credential =
            self.route.id.and_then(|id| lock(&self.office.books).credential(&self.account, id).cloned());
        if let Some(credential) = credential {
            before_delete(self.account.clone(), credential).await;
        }
    }

    async fn carry_out(&self) -> What {
        let op = self.route.op;
        let keys = [(Some(self.account.clone()), op), (None, op)];
        let fault = lock(&self.office.script).take(&keys);
        let Some(fault) = fault else {
            return self.perform().answer.into();
        };
        let delays = &self.office.delays;
        self.office.note(self.number, |record| record.fault = Some(fault.name()));
        match fault.effect() {
            Effect::Never => fault.instead(delays),
            Effect::Now => fault.after(self.perform(), delays),
            Effect::AfterWaiting(time) => {
                let _waiting = self.lane.in_flight.hang();
                delays.pause(time).await;
                fault.after(self.perform(), delays)
            }
            Effect::After(time) => {
                let later = self.clone();
                tokio::spawn(async move {
                    later.office.delays.pause(time).await;
                    later.perform();
                });
                fault.instead(delays)
            }
        }
    }

    fn perform(&self) -> Done {
        let microsoft = self.manners.microsoft.as_ref();
        let proves = |tenant: &str, client: &str, secret: &SecretText| {
            microsoft.is_none_or(|it| it.accepts(tenant, client, secret))
        };
        let body = self.body.as_ref().and_then(Value::as_object);
        let mut books = lock(&self.office.books);
        let listed = books.count(&self.account);
        let api =
            Api { books: &mut books, account: &self.account, proves: &proves, rules: self.manners.rules };
        let done = api.perform(&self.route, body);
        drop(books);
        self.office.note(self.number, |record| {
            record.took_effect = done.answer.status < 300;
            record.credential_id = done.credential_id;
            record.listed = (self.route.op == Op::List).then_some(listed);
        });
        self.tell(Point::Performed);
        done
    }

    fn reply(&self, what: What, held: Vec<Box<dyn std::any::Any + Send>>) -> Reply {
        self.office.note(self.number, |record| record.status = what.status());
        self.tell(Point::Answered);
        Reply { what, held }
    }

    fn tell(&self, point: Point) {
        // There may be no follower.
        let _ =
            self.office.progress.send(Progress { account: self.account.clone(), op: self.route.op, point });
    }
}

/// The body, if it is JSON and its content type says so.
fn json_of(request: &Request) -> Option<Value> {
    if !request.has_content_type("application/json") {
        return None;
    }
    serde_json::from_slice(&request.body).ok()
}
