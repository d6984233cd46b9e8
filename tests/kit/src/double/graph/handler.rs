//! From a request to the response of the double of Graph. A write takes effect even if the client disconnects.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::fault::{Effect, Fault, denied, error, not_found};
use super::progress::Progress;
use super::record::{GraphRequest, Op};
use super::route::Route;
use super::state::{App, Holder, ReadLag, State};
use super::token::Claims;
use super::writes::{Propagation, Surroundings};
use crate::double::app_key::AppKey;
use crate::double::entra::handler::Handler as Entra;
use crate::double::handle::{AppService, Service};
use crate::double::http::{HttpResponse, Reply, ReplyKind, Request};
use crate::double::progress::{self, Point};
use crate::double::script::Script;
use crate::double::{Delays, lock};

/// Everything that the double of Graph holds.
pub struct Handler {
    pub(crate) state: Mutex<State>,
    /// By app and operation; `None` is every one.
    pub(crate) script: Mutex<Script<FaultKey, Fault>>,
    pub(crate) requests: Mutex<Vec<GraphRequest>>,
    /// Requests to other paths: method and path.
    pub(crate) unexpected_requests: Mutex<Vec<String>>,
    pub(crate) behavior: Mutex<Behavior>,
    pub(crate) delays: Delays,
    pub(crate) progress: broadcast::Sender<Progress>,
}

/// Which requests a fault is for.
type FaultKey = (Option<AppKey>, Option<Op>);

/// Settings of the double.
#[derive(Clone, Default)]
pub(crate) struct Behavior {
    pub(crate) forbids_single_reads: bool,
    pub(crate) service_time: Duration,
    pub(crate) read_lag: ReadLag,
    pub(crate) write_spacing: Duration,
    pub(crate) propagation: Propagation,
    /// Where the secrets that the double makes work.
    pub(crate) entra: Option<Arc<Entra>>,
}

/// A received request with an accepted token.
#[derive(Clone)]
struct Job {
    handler: Arc<Handler>,
    route: Route,
    claims: Claims,
    behavior: Behavior,
    number: usize,
}

// === impl Handler ===

impl Service for Handler {
    type Key = FaultKey;
    type Fault = Fault;

    fn new() -> Self {
        Self {
            state: Mutex::default(),
            script: Mutex::new(Script::new()),
            requests: Mutex::default(),
            unexpected_requests: Mutex::default(),
            behavior: Mutex::default(),
            delays: Delays::new(),
            progress: broadcast::Sender::new(progress::CAPACITY),
        }
    }

    async fn serve(self: Arc<Self>, request: Request) -> Reply {
        let Some(route) = Route::of(&request) else {
            lock(&self.unexpected_requests).push(format!("{} {}", request.method, request.path));
            let what = HttpResponse::html(404, "Not Found").into();
            return Reply { what, held: Vec::new() };
        };
        let claims = Claims::read(request.header("authorization"));
        let number = self.append_record(&request, &route, claims.as_ref().ok());
        let behavior = lock(&self.behavior).clone();
        let what = match claims {
            Err(problem) => error(401, "InvalidAuthenticationToken", problem.message()).into(),
            Ok(claims) => {
                let job = Job { handler: Arc::clone(&self), route, claims, behavior, number };
                tokio::spawn(job.run()).await.unwrap_or(ReplyKind::Reset)
            }
        };
        self.update_record(number, |record| record.status = what.status());
        Reply { what, held: Vec::new() }
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
        (app, None)
    }
}

impl Handler {
    /// What writes of now depend on.
    pub(crate) fn surroundings(&self) -> Surroundings {
        lock(&self.behavior).surroundings(&self.delays)
    }

    fn append_record(&self, request: &Request, route: &Route, claims: Option<&Claims>) -> usize {
        let mut headers = request.headers.clone();
        for (_, value) in headers.iter_mut().filter(|(name, _)| name == "authorization") {
            "[secret]".clone_into(value);
        }
        let record = GraphRequest {
            at: Timestamp::now(),
            op: route.op,
            tenant: claims.map(|claims| claims.tid.clone()).unwrap_or_default(),
            identity: claims.map(|claims| claims.appid.clone()).unwrap_or_default(),
            client: route.client.clone(),
            select: route.select.clone(),
            body: route.body.clone(),
            fault: None,
            took_effect: false,
            status: None,
            headers,
        };
        let mut requests = lock(&self.requests);
        requests.push(record);
        requests.len() - 1
    }

    fn update_record(&self, number: usize, change: impl FnOnce(&mut GraphRequest)) {
        if let Some(record) = lock(&self.requests).get_mut(number) {
            change(record);
        }
    }
}

// === impl Behavior ===

impl Behavior {
    fn surroundings(&self, delays: &Delays) -> Surroundings {
        let Propagation { tokens, woodpecker, removal } = self.propagation;
        Surroundings {
            lag: self.read_lag.scaled(delays),
            spacing: delays.scaled(self.write_spacing),
            propagation: Propagation {
                tokens: delays.scaled(tokens),
                woodpecker: delays.scaled(woodpecker),
                removal: delays.scaled(removal),
            },
            entra: self.entra.clone(),
        }
    }
}

// === impl Job ===

impl Job {
    async fn run(self) -> ReplyKind {
        self.report_progress(Point::Arrived);
        let what = self.execute().await;
        self.report_progress(Point::Answered);
        what
    }

    async fn execute(&self) -> ReplyKind {
        let delays = &self.handler.delays;
        delays.pause(self.behavior.service_time).await;
        let (app, op) = (Some(self.key()), Some(self.route.op));
        let keys = [(app.clone(), op), (app, None), (None, op), (None, None)];
        let fault = lock(&self.handler.script).take(&keys);
        let Some(fault) = fault else {
            return self.perform().into();
        };
        self.handler.update_record(self.number, |record| record.fault = Some(fault.kind()));
        match fault.effect() {
            Effect::Never => fault.response_without_effect(delays),
            Effect::Now => fault.response_after_effect(self.perform(), delays),
            Effect::AfterWaiting(time) => {
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

    fn key(&self) -> AppKey {
        AppKey::new(&self.claims.tid, &self.route.client)
    }

    fn perform(&self) -> HttpResponse {
        let mut state = lock(&self.handler.state);
        let app = state.get_mut(&self.key());
        let response = if self.route.op.is_write() { self.write(app) } else { self.read(app) };
        drop(state);
        self.report_progress(Point::Performed);
        response
    }

    fn report_progress(&self, point: Point) {
        // There may be no follower.
        let _ = self.handler.progress.send(Progress::new(self.key(), self.route.op, point));
    }

    fn read(&self, app: Option<&mut App>) -> HttpResponse {
        let (op, claims, behavior) = (self.route.op, &self.claims, &self.behavior);
        let is_allowed = match op {
            Op::Application if behavior.forbids_single_reads => claims.reads_all(),
            _ => claims.lists_all(),
        };
        if !is_allowed {
            return denied();
        }
        let holder = match op {
            Op::ServicePrincipal => Holder::ServicePrincipal,
            _ => Holder::Application,
        };
        let (client, lag) = (&self.route.client, behavior.read_lag.scaled(&self.handler.delays));
        let found = app.and_then(|app| app.read(holder, (&claims.tid, client), &lag));
        match (op, found) {
            (Op::ListApplications, found) => {
                let value: Vec<Value> = found.into_iter().collect();
                HttpResponse::json(200, &json!({"@odata.context": "x", "value": value}))
            }
            (_, Some(body)) => HttpResponse::json(200, &body),
            (_, None) => not_found(client),
        }
    }

    fn write(&self, app: Option<&mut App>) -> HttpResponse {
        let (claims, route) = (&self.claims, &self.route);
        let is_owner =
            app.as_ref().is_some_and(|app| app.owners.contains(&claims.appid.to_ascii_lowercase()));
        let is_allowed = claims.writes_all() || (claims.writes_owned() && is_owner);
        if !is_allowed {
            return denied();
        }
        let Some(app) = app else { return not_found(&route.client) };
        let surroundings = self.behavior.surroundings(&self.handler.delays);
        let result = surroundings.write(app, &claims.tid, route, &claims.appid);
        self.handler.update_record(self.number, |record| record.took_effect = result.is_ok());
        result.unwrap_or_else(|rejected| rejected)
    }
}
