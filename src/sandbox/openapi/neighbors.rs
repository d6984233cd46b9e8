//! The vendor's routes beside credentials. Each description says what the vendor documents, and what is ours.

use serde_json::{Map, Value, json};

use super::{authenticated, get, object, ok, post, problem};
use crate::sandbox::{agency, mailboxes};

/// Longest address or display name. Ours.
const MAX_TEXT: usize = 320;

/// Ids are numbers that JSON carries exactly.
const MAX_ID: i64 = 1 << 53;

pub(super) fn paths() -> Map<String, Value> {
    let id = json!({
        "name": "company_id", "in": "path", "required": true,
        "schema": { "type": "integer", "minimum": 1, "maximum": MAX_ID }
    });
    let items = [
        (mailboxes::MAILBOXES, json!({ "get": list() })),
        (mailboxes::BULK, json!({ "post": bulk() })),
        (agency::COMPANIES, json!({ "get": companies() })),
        (agency::API_KEYS, json!({ "get": api_keys(), "post": create_api_key(), "parameters": [id] })),
        (agency::EMAIL_ACCOUNTS, json!({ "get": email_accounts(), "parameters": [id] })),
    ];
    items.into_iter().map(|(path, item)| (path.to_owned(), item)).collect()
}

/// The operation, behind the API key, with that description.
fn described(mut operation: Value, description: &str) -> Value {
    operation["description"] = description.into();
    authenticated(operation)
}

/// An operation for the agency's key alone.
fn agency_only(mut operation: Value, description: &str) -> Value {
    operation["responses"]["403"] = problem("The API key is not the agency's");
    described(operation, description)
}

/// An operation whose body must be JSON, as in the rest of the API.
fn with_body(mut operation: Value) -> Value {
    operation["requestBody"]["required"] = true.into();
    if let Some(responses) = operation["responses"].as_object_mut() {
        responses.remove("400");
    }
    for status in ["408", "413", "415"] {
        operation["responses"][status] = json!({ "$ref": format!("#/components/responses/{status}") });
    }
    operation
}

fn array(items: &Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// An object with these fields at least.
fn with_fields(required: &[&str]) -> Value {
    json!({ "type": "object", "required": required })
}

fn list() -> Value {
    let mailbox = json!({
        "type": "object", "required": ["id", "type", "details"],
        "properties": {
            "id": { "type": "integer" }, "type": { "type": "string" }, "details": with_fields(&["email", "error"])
        }
    });
    described(
        get("listMailboxes", "List the mailboxes of the account", &array(&mailbox)),
        "Vendor: the path and the fields. Ours: how a Microsoft mailbox looks: one object of type SMTP with the provider \
         OFFICE365.",
    )
}

fn bulk() -> Value {
    let text = json!({ "type": "string", "minLength": 1, "maxLength": MAX_TEXT });
    let mut address = text.clone();
    address["pattern"] = "@".into();
    let entry = object(
        &json!({ "mailbox_email": address, "display_name": { "anyOf": [text, { "type": "null" }] } }),
        &["mailbox_email"],
    );
    let mut accounts = array(&entry);
    accounts["maxItems"] = 200.into();
    let body = object(
        &json!({
            "auth_type": { "enum": ["APP_ONLY", null] },
            "credential_id": { "type": ["integer", "null"], "minimum": 1, "maximum": MAX_ID },
            "accounts": accounts
        }),
        &["accounts"],
    );
    let results = ok("The result for each mailbox", &array(&with_fields(&["success", "email", "error"])));
    let mut operation = with_body(post("connectMailboxes", "Connect Microsoft mailboxes", &body, &results));
    operation["responses"]["201"] = operation["responses"]["200"].clone();
    let magic = mailboxes::ADDRESSES.iter().map(|(local, meaning)| format!("`{local}@`: {meaning}"));
    let description = format!(
        "Vendor: the path, the request, and the response if everything succeeds. Ours: every failure with its constants, \
         the status 200, and the limit of 200 mailboxes. Magic addresses, also ours: {} An address such as \
         `sandbox-bad-gateway-saved@` provokes the answer of that name to the whole request.",
        magic.collect::<Vec<_>>().join(" ")
    );
    let mut operation = described(operation, &description);
    let schema = json!({
        "type": "object", "properties": { "message": { "type": "string" } }, "required": ["message"]
    });
    operation["responses"]["422"] = json!({
        "description": "The request is rejected with a constant of ours",
        "content": { "application/json": { "schema": schema } }
    });
    operation
}

fn page_number() -> Value {
    json!({
        "name": "page", "in": "query", "schema": { "type": "integer", "minimum": 1, "maximum": u32::MAX },
        "description": "The number of the page; the first one is 1"
    })
}

/// The vendor's form of a page.
fn page(item: &Value) -> Value {
    let integer = json!({ "type": "integer" });
    let pagination = object(
        &json!({
            "total_elements": integer, "total_pages": integer, "current_page_number": integer, "page_size": integer
        }),
        &["total_elements", "total_pages", "current_page_number", "page_size"],
    );
    object(&json!({ "content": array(item), "pagination_data": pagination }), &["content", "pagination_data"])
}

fn companies() -> Value {
    let company =
        with_fields(&["id", "name", "owner", "active", "running_campaigns", "email_slots", "linkedin_slots"]);
    let mut operation = get("listCompanies", "List the companies of the agency", &page(&company));
    operation["parameters"] = json!([
        page_number(),
        {
            "name": "active", "in": "query", "schema": { "type": "boolean" },
            "description": "Only active companies, or only others"
        }
    ]);
    agency_only(
        operation,
        "Vendor: the path, the parameters, the fields and the paging. Ours: the companies, and the 403 for a key of a \
         company. The names of two companies say what x-company-id does with them, because the vendor does not.",
    )
}

fn api_keys() -> Value {
    let keys = page(&with_fields(&["api_key", "label"]));
    let mut operation = get("listApiKeys", "List the API keys of a company", &keys);
    operation["parameters"] = json!([page_number()]);
    agency_only(
        operation,
        "Vendor: the path, the fields and the paging; whole keys are returned. Ours: 403 and 404.",
    )
}

fn create_api_key() -> Value {
    let label = json!({ "type": "string", "minLength": 1, "maxLength": agency::MAX_LABEL });
    let body = object(&json!({ "label": label }), &["label"]);
    let key = object(&json!({ "api_key": { "type": "string" } }), &["api_key"]);
    let created = json!({ "201": { "description": "The new key", "content": { "application/json": { "schema": key } } } });
    agency_only(
        with_body(post("createApiKey", "Create an API key of a company", &body, &created)),
        "Vendor: the path, the label and the 201. Ours: every failure, and the limits of labels and keys.",
    )
}

fn email_accounts() -> Value {
    let content =
        object(&json!({ "content": array(&with_fields(&["id", "type", "details"])) }), &["content"]);
    agency_only(
        get("listEmailAccounts", "List the mailboxes of a company", &content),
        "Vendor: the path and the fields. Ours: how a Microsoft mailbox looks, 403 and 404.",
    )
}
