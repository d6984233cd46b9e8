//! The double of Woodpecker over real HTTP: what a client sees, and what is recorded.

mod api;
mod faults;
mod records;

use serde_json::{Value, json};

use crate::double::client::{self, Seen};
use crate::woodpecker::{Credential, Woodpecker};

const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";
const EXPIRY: &str = "2027-11-28T23:59:59Z";

/// With one account `team`, key `key`.
async fn woodpecker() -> Woodpecker {
    let woodpecker = Woodpecker::start().await;
    woodpecker.add_account("team", "key");
    woodpecker
}

async fn ask_with(it: &Woodpecker, headers: &[(&str, &str)], method: &str, rest: &str, body: Value) -> Seen {
    let url = format!("{}/v2/mailboxes/microsoft/credentials{rest}", it.base_url());
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client::send(method, &url, &all, &body).await
}

async fn ask(it: &Woodpecker, method: &str, rest: &str, body: Value) -> Seen {
    ask_with(it, &[("x-api-key", "key")], method, rest, body).await
}

async fn list(it: &Woodpecker) -> Seen {
    ask(it, "GET", "", Value::Null).await
}

async fn create(it: &Woodpecker) -> Seen {
    ask(it, "POST", "", create_body()).await
}

fn create_body() -> Value {
    json!({
        "tenant_id": TENANT,
        "client_id": CLIENT,
        "client_secret": "canary",
        "secret_expires_at": EXPIRY,
        "name": "mail/sales-eu [0123456789ab]",
    })
}

fn without(name: &str) -> Value {
    let mut body = create_body();
    body.as_object_mut().expect("an object").remove(name);
    body
}

fn entry(name: &str) -> Credential {
    Credential::new(TENANT, CLIENT, "old", EXPIRY, name)
}

/// Status and whole body of a response; null if it has no body.
fn seen(seen: &Seen) -> (u16, Value) {
    let answer = seen.answer();
    let body = if answer.body.is_empty() { Value::Null } else { answer.json() };
    (answer.status, body)
}

fn status(seen: &Seen) -> u16 {
    seen.answer().status
}
