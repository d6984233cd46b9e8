//! The double of Woodpecker over real HTTP: what a client sees, and what is recorded.

mod api;
mod companies;
mod faults;
mod records;
mod validity;

use serde_json::{Value, json};

use crate::double::client::{self, Received};
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

async fn send_with(
    it: &Woodpecker,
    headers: &[(&str, &str)],
    method: &str,
    rest: &str,
    body: Value,
) -> Received {
    let url = format!("{}/v2/mailboxes/microsoft/credentials{rest}", it.base_url());
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client::send(method, &url, &all, &body).await
}

async fn send(it: &Woodpecker, method: &str, rest: &str, body: Value) -> Received {
    send_with(it, &[("x-api-key", "key")], method, rest, body).await
}

async fn list(it: &Woodpecker) -> Received {
    send(it, "GET", "", Value::Null).await
}

async fn create(it: &Woodpecker) -> Received {
    send(it, "POST", "", create_body()).await
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
fn status_and_body(received: &Received) -> (u16, Value) {
    let response = received.response();
    let body = if response.body.is_empty() { Value::Null } else { response.json() };
    (response.status, body)
}

fn status(received: &Received) -> u16 {
    received.response().status
}
