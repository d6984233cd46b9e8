//! The rules of the credentials API as a function of the state: what is rejected, stored and returned.
//! Constants other than `INVALID_CLIENT_SECRET` are the double's own, because the vendor names no other.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::response::{ExpiryEcho, in_use, problem, shown, unprocessable};
use super::route::{Op, Route};
use super::state::{Credential, State};
use crate::double::SecretText;
use crate::double::http::HttpResponse;

const DEFAULT_NAME: &str = "Microsoft Graph credential";

/// The API for one request.
pub(crate) struct Api<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) account: &'a str,
    /// Whether Microsoft issues a token for tenant, client and secret.
    pub(crate) verifies: &'a dyn Fn(&str, &str, &SecretText) -> bool,
    pub(crate) rules: Rules,
}

/// Behavior that the vendor does not document.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) in_use_status: u16,
    pub(crate) verify_updates: bool,
    pub(crate) expiry_echo: ExpiryEcho,
}

/// The outcome.
pub(crate) struct Performed {
    pub(crate) response: HttpResponse,
    pub(crate) credential_id: Option<i64>,
}

type Object = Map<String, Value>;
type Rejected = HttpResponse;

impl Api<'_> {
    /// `body` is the request's JSON object, if it has one.
    pub(crate) fn perform(mut self, route: &Route, body: Option<&Object>) -> Performed {
        let id = route.id;
        let result = match (route.op, id) {
            (Op::List, _) => Ok((self.list(), None)),
            (Op::Create, _) => self.create(body),
            (Op::Rename | Op::Update, Some(id)) => self.update(id, body),
            (Op::Delete, Some(id)) => self.delete(id),
            (Op::ListMailboxes, _) => Ok((self.state.mailboxes.list(self.account), None)),
            (Op::Connect, _) => Ok((self.connect(body), None)),
            _ => Err(problem(404)),
        };
        match result {
            Ok((response, made)) => Performed { response, credential_id: made.or(id) },
            Err(response) => Performed { response, credential_id: id },
        }
    }

    fn list(&self) -> HttpResponse {
        let credentials = self.state.credentials(self.account);
        let echo = self.rules.expiry_echo;
        let all: Vec<Value> = credentials.iter().map(|it| shown(it, echo)).collect();
        HttpResponse::json(200, &json!({ "credentials": all }))
    }

    fn create(&mut self, body: Option<&Object>) -> Result<(HttpResponse, Option<i64>), Rejected> {
        let body = body.ok_or_else(|| unprocessable("INVALID_REQUEST_BODY"))?;
        let credential = Credential {
            credential_id: 0,
            tenant_id: required(body, "tenant_id")?.to_owned(),
            client_id: required(body, "client_id")?.to_owned(),
            secret: SecretText::new(required(body, "client_secret")?),
            secret_expires_at: expiry(required(body, "secret_expires_at")?)?.to_owned(),
            name: optional(body, "name")?.unwrap_or(DEFAULT_NAME).to_owned(),
            created_at: Timestamp::now(),
        };
        self.verify(&credential.tenant_id, &credential.client_id, &credential.secret)?;
        let id = self.state.put(self.account, credential.clone());
        let stored = Credential { credential_id: id, ..credential };
        let response = HttpResponse::json(201, &shown(&stored, self.rules.expiry_echo));
        Ok((response, Some(id)))
    }

    fn update(&mut self, id: i64, body: Option<&Object>) -> Result<(HttpResponse, Option<i64>), Rejected> {
        let found = self.state.credential(self.account, id);
        let mut credential = found.ok_or_else(|| problem(404))?.clone();
        let body = body.ok_or_else(|| unprocessable("INVALID_REQUEST_BODY"))?;
        for fixed in ["tenant_id", "client_id"] {
            if body.contains_key(fixed) {
                return Err(unprocessable("FIELD_NOT_UPDATABLE"));
            }
        }
        match (body.contains_key("client_secret"), body.contains_key("secret_expires_at")) {
            (false, false) => {}
            (true, true) => {
                credential.secret = SecretText::new(required(body, "client_secret")?);
                expiry(required(body, "secret_expires_at")?)?.clone_into(&mut credential.secret_expires_at);
                if self.rules.verify_updates {
                    self.verify(&credential.tenant_id, &credential.client_id, &credential.secret)?;
                }
            }
            _ => return Err(unprocessable("SECRET_AND_EXPIRY_BELONG_TOGETHER")),
        }
        if let Some(name) = optional(body, "name")? {
            name.clone_into(&mut credential.name);
        }
        let response = HttpResponse::json(200, &shown(&credential, self.rules.expiry_echo));
        self.state.put(self.account, credential);
        Ok((response, None))
    }

    fn delete(&mut self, id: i64) -> Result<(HttpResponse, Option<i64>), Rejected> {
        if self.state.credential(self.account, id).is_none() {
            return Err(problem(404));
        }
        if self.state.is_in_use(id) {
            return Err(in_use(self.rules.in_use_status));
        }
        self.state.remove(self.account, id);
        Ok((HttpResponse::empty(204), None))
    }

    fn connect(&mut self, body: Option<&Object>) -> HttpResponse {
        let ids: Vec<i64> = self.state.credentials(self.account).iter().map(|it| it.credential_id).collect();
        self.state.mailboxes.connect(self.account, body, &ids)
    }

    fn verify(&self, tenant: &str, client: &str, secret: &SecretText) -> Result<(), Rejected> {
        if (self.verifies)(tenant, client, secret) {
            return Ok(());
        }
        Err(unprocessable("INVALID_CLIENT_SECRET"))
    }
}

fn required<'a>(body: &'a Object, name: &str) -> Result<&'a str, Rejected> {
    let constant = name.to_ascii_uppercase();
    match body.get(name) {
        None => Err(unprocessable(&format!("MISSING_{constant}"))),
        Some(Value::String(text)) if text.is_empty() => Err(unprocessable(&format!("MISSING_{constant}"))),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(unprocessable(&format!("INVALID_{constant}"))),
    }
}

/// A field that is optional but must not be null, because Woodpecker is said to reject explicit nulls.
fn optional<'a>(body: &'a Object, name: &str) -> Result<Option<&'a str>, Rejected> {
    if body.contains_key(name) {
        return required(body, name).map(Some);
    }
    Ok(None)
}

fn expiry(text: &str) -> Result<&str, Rejected> {
    match text.parse::<Timestamp>() {
        Ok(_) => Ok(text),
        Err(_) => Err(unprocessable("INVALID_SECRET_EXPIRES_AT")),
    }
}
