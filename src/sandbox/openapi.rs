//! The `OpenAPI` 3.1 document of the sandbox: that of the REST API, with the sandbox's own paths. It is generated into
//! `docs/reference/sandbox-openapi.json`.

use serde_json::{Map, Value, json};

mod neighbors;

use super::backend::MAX_CREDENTIALS;
use super::me;
use crate::rest::{self, ITEM};

/// The document.
pub fn document() -> Value {
    let mut document = rest::document();
    document["info"]["title"] = "Sandbox of the credentials API".into();
    document["info"]["description"] = INFO.into();
    document["paths"][ITEM]["delete"]["responses"]["409"] = in_use();
    document["components"]["responses"]["422"]["description"] =
        "The request is rejected. The constants are ours, except \
        INVALID_CLIENT_SECRET. UNKNOWN_COMPANY means that x-company-id names no company of the agency"
            .into();
    if let Some(paths) = document["paths"].as_object_mut() {
        paths.append(&mut neighbors::paths());
        paths.append(&mut own_paths());
        paths.values_mut().for_each(add_guard);
    }
    document
}

const INFO: &str = "The credentials API in memory, for tests of its clients. Magic secrets and ids provoke answers, \
                    which GET /sandbox/answers lists; they are not part of this description. Unknown fields and headers \
                    are rejected only by a strict sandbox. The routes below /sandbox are ours.";

/// Adds what holds for each operation of a path: the guard, and the company of those with an API key.
fn add_guard(path: &mut Value) {
    let operations = path.as_object_mut().into_iter().flatten().filter(|(name, _)| *name != "parameters");
    for (_, operation) in operations {
        let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
        if !is_open {
            append(&mut operation["parameters"], company_header());
        }
        let (forbidden, unknown) =
            (&mut operation["responses"]["403"], "The request comes from a website, or names another host");
        let others = forbidden["description"].as_str().map(|others| format!("{others}. Or: "));
        *forbidden = problem(&format!("{}{unknown}", others.unwrap_or_default()));
        let bad = &mut operation["responses"]["400"];
        if bad.is_null() {
            *bad = problem("A strict sandbox does not know a header, or a parameter has no such value");
        }
    }
}

fn append(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(item),
        None => *list = json!([item]),
    }
}

fn company_header() -> Value {
    json!({
        "name": "x-company-id", "in": "header", "schema": { "type": "integer", "minimum": 1 },
        "description": "The company that the agency acts for. Vendor: the header. Ours: that only the agency's key can name one"
    })
}

/// The vendor says that the credential is not deleted, and not how it answers.
fn in_use() -> Value {
    let message = json!({ "const": "CREDENTIAL_IN_USE" });
    json!({
        "description": "A mailbox uses the credential. The status and the constant are ours",
        "content": { "application/json": { "schema": object(&json!({ "message": message }), &["message"]) } }
    })
}

fn own_paths() -> Map<String, Value> {
    let mut paths = Map::new();
    let mut add = |path: &str, item: Value| paths.insert(path.to_owned(), item);
    add(me::PATH, json!({ "get": me_operation() }));
    add(
        "/sandbox/answers",
        json!({ "get": get("listAnswers", "List the answers that can be provoked", &answers()) }),
    );
    add("/sandbox/addresses", json!({ "get": addresses() }));
    add("/sandbox/log", json!({ "get": log() }));
    let time = object(&json!({ "now": { "type": "string", "format": "date-time" } }), &["now"]);
    add(
        "/sandbox/clock",
        json!({
            "get": get("getClock", "Return the time of the sandbox", &time),
            "post": post(
                "moveClock",
                "Set the time of the sandbox; without a field, to the time of the machine",
                &object(
                    &json!({
                        "now": { "type": ["string", "null"], "format": "date-time" },
                        "advance": {
                            "type": ["string", "null"],
                            "description": "An ISO 8601 duration without years and months, such as P30D"
                        }
                    }),
                    &[],
                ),
                &ok("The new time", &time),
            ),
        }),
    );
    add(
        "/sandbox/next",
        json!({ "post": post(
            "planAnswers",
            "Plan answers to the next requests of the API, whatever they are",
            &object(
                &json!({
                    "answer": { "type": "string", "description": "Its name in GET /sandbox/answers" },
                    "times": { "type": ["integer", "null"], "minimum": 0, "maximum": 1000, "default": 1 }
                }),
                &["answer"],
            ),
            &json!({ "204": { "description": "Planned" } }),
        ) }),
    );
    add("/sandbox/reset", json!({ "post": reset() }));
    paths
}

fn me_operation() -> Value {
    let text = json!({ "type": "string" });
    let fields = json!({
        "firm_id": { "type": "integer" }, "firm_name": text, "user_email": text, "user_id": { "type": "integer" },
        "user_name": text
    });
    let mut operation = get(
        "getMe",
        "Check an API key",
        &object(&fields, &["firm_id", "firm_name", "user_email", "user_id", "user_name"]),
    );
    operation["description"] =
        "The vendor documents the path. The fields are those that third-party programs read; \
                                their values are ours."
            .into();
    authenticated(operation)
}

/// The operation with the API key, and the errors that come with it.
fn authenticated(mut operation: Value) -> Value {
    operation["security"] = json!([{ "apiKey": [] }]);
    for status in ["401", "404", "405", "422", "429", "500"] {
        operation["responses"][status] = json!({ "$ref": format!("#/components/responses/{status}") });
    }
    operation
}

fn addresses() -> Value {
    let text = json!({ "type": "string" });
    let address = object(&json!({ "address": text, "meaning": text }), &["address", "meaning"]);
    let addresses = json!({ "type": "array", "items": address });
    get("listAddresses", "List the addresses of mailboxes that provoke failures", &addresses)
}

fn answers() -> Value {
    let text = json!({ "type": "string" });
    let fields = json!({
        "answer": text, "client_secret": text, "tenant_or_client_id": text,
        "credential_id": { "type": ["integer", "null"] }, "status": text, "saved": { "type": "boolean" },
        "source": { "enum": ["vendor", "seen", "ours"] }, "meaning": text
    });
    json!({ "type": "array", "items": object(&fields, &["answer", "client_secret", "status", "saved", "source"]) })
}

fn log() -> Value {
    let text = json!({ "type": "string" });
    let optional = json!({ "type": ["string", "null"] });
    let entry = object(
        &json!({
            "number": { "type": "integer" }, "time": { "type": "string", "format": "date-time" }, "method": text,
            "route": text, "account": optional, "status": { "type": ["integer", "null"] },
            "took_ms": { "type": "integer" }, "answer": optional
        }),
        &["number", "time", "method", "route", "status"],
    );
    let requests = json!({ "last": { "type": "integer" }, "requests": { "type": "array", "items": entry } });
    let requests = object(&requests, &["last", "requests"]);
    let mut operation = get("listRequests", "List requests, without their content", &requests);
    operation["responses"]["400"] = bad_request();
    operation["parameters"] = json!([{
        "name": "after", "in": "query", "schema": { "type": "integer", "minimum": 0 },
        "description": "Only requests after the one with this number"
    }]);
    operation
}

fn reset() -> Value {
    let ids = object(
        &json!({ "credential_ids": { "type": "array", "items": { "type": "integer" } } }),
        &["credential_ids"],
    );
    let credentials = json!({
        "type": "array", "maxItems": MAX_CREDENTIALS, "items": { "$ref": "#/components/schemas/NewCredential" }
    });
    post(
        "reset",
        "Remove everything, and create the credentials of the body; they may have expired",
        &object(&json!({ "credentials": credentials }), &[]),
        &ok("The new credentials", &ids),
    )
}

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({
        "type": "object", "additionalProperties": false, "properties": properties, "required": required
    })
}

fn ok(description: &str, schema: &Value) -> Value {
    json!({ "200": { "description": description, "content": { "application/json": { "schema": schema } } } })
}

fn get(id: &str, summary: &str, schema: &Value) -> Value {
    json!({ "operationId": id, "summary": summary, "security": [], "responses": ok("OK", schema) })
}

fn post(id: &str, summary: &str, body: &Value, responses: &Value) -> Value {
    let mut operation = json!({
        "operationId": id, "summary": summary, "security": [], "responses": responses,
        "requestBody": { "content": { "application/json": { "schema": body } } }
    });
    operation["responses"]["400"] = bad_request();
    for status in ["408", "500"] {
        operation["responses"][status] = json!({ "$ref": format!("#/components/responses/{status}") });
    }
    operation
}

fn bad_request() -> Value {
    problem("The request is not as described")
}

fn problem(description: &str) -> Value {
    json!({
        "description": description,
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Problem" } } }
    })
}
