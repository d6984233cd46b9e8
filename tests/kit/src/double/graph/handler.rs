//! From a request to the response of the double of Graph.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::fault::{Fault, denied, error, not_found};
use super::record::{GraphRequest, Op};
use super::state::{Holder, State};
use super::token::Claims;
use crate::double::app_key::AppKey;
use crate::double::handle::{AppService, Service};
use crate::double::http::{HttpResponse, Reply, ReplyKind, Request};
use crate::double::script::Script;
use crate::double::{Delays, lock};

/// Everything that the double of Graph holds.
pub struct Handler {
    pub(crate) state: Mutex<State>,
    /// By app; `None` is every app.
    pub(crate) script: Mutex<Script<Option<AppKey>, Fault>>,
    pub(crate) requests: Mutex<Vec<GraphRequest>>,
    /// Requests to other paths: method and path.
    pub(crate) unexpected_requests: Mutex<Vec<String>>,
    pub(crate) behavior: Mutex<Behavior>,
    pub(crate) delays: Delays,
}

/// Settings of the double.
#[derive(Clone, Default)]
pub(crate) struct Behavior {
    pub(crate) forbids_single_reads: bool,
    pub(crate) service_time: Duration,
}

/// What a path asks for.
struct Target {
    op: Op,
    client: String,
    select: String,
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
            behavior: Mutex::default(),
            delays: Delays::new(),
        }
    }

    async fn serve(self: Arc<Self>, request: Request) -> Reply {
        let Some(target) = Target::of(&request) else {
            lock(&self.unexpected_requests).push(format!("{} {}", request.method, request.path));
            let what = HttpResponse::html(404, "Not Found").into();
            return Reply { what, held: Vec::new() };
        };
        let claims = Claims::read(request.header("authorization"));
        let number = self.append_record(&request, &target, claims.as_ref().ok());
        let behavior = lock(&self.behavior).clone();
        self.delays.pause(behavior.service_time).await;
        let what = match claims {
            Err(problem) => error(401, "InvalidAuthenticationToken", problem.message()).into(),
            Ok(claims) => self.respond(&target, &claims, &behavior),
        };
        if let Some(record) = lock(&self.requests).get_mut(number) {
            record.status = what.status();
        }
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
        app
    }
}

impl Handler {
    fn append_record(&self, request: &Request, target: &Target, claims: Option<&Claims>) -> usize {
        let mut headers = request.headers.clone();
        for (_, value) in headers.iter_mut().filter(|(name, _)| name == "authorization") {
            "[secret]".clone_into(value);
        }
        let record = GraphRequest {
            at: Timestamp::now(),
            op: target.op,
            tenant: claims.map(|claims| claims.tid.clone()).unwrap_or_default(),
            identity: claims.map(|claims| claims.appid.clone()).unwrap_or_default(),
            client: target.client.clone(),
            select: target.select.clone(),
            status: None,
            headers,
        };
        let mut requests = lock(&self.requests);
        requests.push(record);
        requests.len() - 1
    }

    fn respond(&self, target: &Target, claims: &Claims, behavior: &Behavior) -> ReplyKind {
        let key = AppKey::new(&claims.tid, &target.client);
        if let Some(fault) = lock(&self.script).take(&[Some(key.clone()), None]) {
            return fault.reply(&self.delays);
        }
        let is_allowed = match target.op {
            Op::Application if behavior.forbids_single_reads => claims.reads_all(),
            Op::Application | Op::ListApplications | Op::ServicePrincipal => claims.lists_all(),
        };
        if !is_allowed {
            return denied().into();
        }
        let holder = match target.op {
            Op::Application | Op::ListApplications => Holder::Application,
            Op::ServicePrincipal => Holder::ServicePrincipal,
        };
        let mut state = lock(&self.state);
        let found = state.get_mut(&key).and_then(|app| app.read(holder, &claims.tid, &target.client));
        let response = match (target.op, found) {
            (Op::ListApplications, found) => {
                let value: Vec<Value> = found.into_iter().collect();
                HttpResponse::json(200, &json!({"@odata.context": "x", "value": value}))
            }
            (Op::Application | Op::ServicePrincipal, Some(body)) => HttpResponse::json(200, &body),
            (Op::Application | Op::ServicePrincipal, None) => not_found(&target.client),
        };
        response.into()
    }
}

// === impl Target ===

impl Target {
    /// `None` for a path that Graph does not have, or without `$select`.
    fn of(request: &Request) -> Option<Self> {
        let rest = request.path.strip_prefix("/v1.0/").filter(|_| request.method == "GET")?;
        let (path, query) = rest.split_once('?')?;
        let parameter = |name: &str| {
            form_urlencoded::parse(query.as_bytes())
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let select = parameter("$select")?;
        let quoted = |text: &str, before: &str, after: &str| {
            text.strip_prefix(before)?.strip_suffix(after).map(str::to_owned)
        };
        let (op, client) = if path == "applications" {
            (Op::ListApplications, quoted(&parameter("$filter")?, "appId eq '", "'")?)
        } else if let Some(client) = quoted(path, "applications(appId='", "')") {
            (Op::Application, client)
        } else {
            (Op::ServicePrincipal, quoted(path, "servicePrincipals(appId='", "')")?)
        };
        Some(Self { op, client, select })
    }
}
