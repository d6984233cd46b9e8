//! A request in the record of the double of Woodpecker, and its line in the demo's output.

use jiff::Timestamp;
use serde_json::Value;

use super::route::{Op, Route};
use crate::double::SecretText;
use crate::double::http::Request as HttpRequest;

/// A received request. The secret is kept only for comparison: see [`Request::secret_is`].
#[derive(Clone, Debug)]
pub struct Request {
    /// When it arrived.
    pub at: Timestamp,
    /// The operation.
    pub op: Op,
    /// HTTP method.
    pub method: String,
    /// Path and query, as sent.
    pub path: String,
    /// The id in the path; for a create that took effect, the new id.
    pub credential_id: Option<i64>,
    /// The JSON body without `client_secret`; null if there is none, or it is not JSON.
    pub body_without_secret: Value,
    /// Whether the body had a `client_secret`.
    pub had_secret: bool,
    /// The status of the response, whether or not the client was still connected; `None` if there was none,
    /// or not yet.
    pub status: Option<u16>,
    /// Whether it has taken effect so far: the double's rules were applied and did not reject it.
    pub took_effect: bool,
    /// The name of the fault's variant.
    pub fault: Option<&'static str>,
    /// The `x-company-id` header.
    pub company: Option<String>,
    /// How many requests of the account were open at its arrival, including itself: 1 if the vendor's limit
    /// was kept. 0 if the request was rejected at once (401, 404), or its client disconnected at once.
    pub in_flight_at_start: usize,
    pub(crate) account: Option<String>,
    pub(crate) listed: Option<usize>,
    secret: Option<SecretText>,
}

impl Request {
    /// Whether `secret` was sent, byte for byte.
    pub fn secret_is(&self, secret: &str) -> bool {
        self.secret.as_ref().is_some_and(|it| it.is(secret))
    }

    pub(crate) fn new(
        request: &HttpRequest,
        route: &Route,
        body: Option<&Value>,
        account: Option<&str>,
    ) -> Self {
        let mut body = body.cloned().unwrap_or_default();
        let secret = body.as_object_mut().and_then(|it| it.remove("client_secret"));
        Self {
            at: Timestamp::now(),
            op: route.op,
            method: request.method.clone(),
            path: request.path.clone(),
            credential_id: route.id,
            body_without_secret: body,
            had_secret: secret.is_some(),
            status: None,
            took_effect: false,
            fault: None,
            company: request.header("x-company-id").map(str::to_owned),
            in_flight_at_start: 0,
            account: account.map(str::to_owned),
            listed: None,
            secret: secret.map(|it| SecretText::new(it.as_str().unwrap_or_default())),
        }
    }

    /// One line for people: `POST credentials app=e1c6… name="mail/sales-eu [..]" → 201 id=22334455`.
    pub(crate) fn line(&self, with_account: bool) -> String {
        let mut line = self.subject();
        let text = |name: &str| self.body_without_secret[name].as_str();
        if let Some(client) = text("client_id") {
            let short: String = client.chars().take(4).collect();
            line += &format!(" app={short}…");
        }
        if self.op == Op::Update {
            line += " secret";
        }
        if let Some(expiry) = text("secret_expires_at")
            && self.op == Op::Update
        {
            line += &format!(" expires={expiry}");
        }
        if let Some(name) = text("name") {
            line += &format!(" name=\"{}\"", without_token(name));
        }
        if let (true, Some(account)) = (with_account, &self.account) {
            line += &format!(" account={account}");
        }
        line + " → " + &self.ending()
    }

    fn subject(&self) -> String {
        let id = self.credential_id.filter(|_| self.op != Op::Create);
        match (self.op, id) {
            (Op::ListMailboxes, _) => format!("{} mailboxes", self.method),
            (Op::Connect, _) => format!("{} mailboxes/bulk", self.method),
            (Op::Companies | Op::Me | Op::Other, _) => format!("{} {}", self.method, self.path),
            (_, Some(id)) => format!("{} credentials/{id}", self.method),
            (_, None) => format!("{} credentials", self.method),
        }
    }

    fn ending(&self) -> String {
        let mut ending = match self.status {
            Some(status) => status.to_string(),
            None => "no response".to_owned(),
        };
        if let (Op::Create, Some(id)) = (self.op, self.credential_id) {
            ending += &format!(" id={id}");
        }
        match (self.status, self.listed) {
            (Some(200), Some(1)) => ending += " (1 credential)",
            (Some(200), Some(n)) => ending += &format!(" ({n} credentials)"),
            _ => {}
        }
        if let Some(fault) = self.fault {
            ending += &format!(" ({fault})");
        }
        ending
    }
}

/// The name without the part in brackets at its end, which differs in each run.
fn without_token(name: &str) -> String {
    match name.strip_suffix(']').and_then(|it| it.rsplit_once(" [")) {
        Some((before, _)) => format!("{before} [..]"),
        None => name.to_owned(),
    }
}
