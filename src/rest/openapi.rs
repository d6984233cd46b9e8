//! The API described in `OpenAPI` 3.1: served without an API key, and kept in `docs/openapi.json`. PURE.

use serde_json::{Value, json};

use super::fault::Refusal;
use super::trail::Route;
use crate::resources::MAX_NAME_LENGTH;
use crate::store::envelope::MAX_SECRET_LENGTH;

/// A GUID in any case.
const GUID: &str = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$";

/// No white space at either end, and no control character.
const SECRET: &str =
    r"^[^\s\u0000-\u001f\u007f-\u009f]([^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f])?$";

/// No control character, and something else than white space.
const NAME: &str =
    r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";

/// The whole document.
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Microsoft Graph credentials",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Woodpecker's addresses for Microsoft Graph app-only credentials, served over an encrypted store. A client secret is proved at Microsoft before it is saved, and never given back.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}
        },
        "security": [{"apiKey": []}],
        "paths": {Route::COLLECTION: collection(), Route::ITEM: item()},
        "components": {
            "securitySchemes": {"apiKey": {
                "type": "apiKey", "in": "header", "name": "x-api-key",
                "description": "Opens the credentials of one account."
            }},
            "schemas": schemas(),
            "responses": responses()
        }
    })
}

fn collection() -> Value {
    json!({
        "get": {
            "operationId": "listCredentials",
            "summary": "All credentials of the account, by the second in which they were made and then by id",
            "responses": with_errors(&[401, 404, 405, 422, 429, 500], json!({"200": {
                "description": "The credentials.", "content": body("CredentialList")
            }}))
        },
        "post": {
            "operationId": "createCredential",
            "summary": "Prove a client secret at Microsoft and save it as a new credential",
            "requestBody": {"required": true, "content": {"application/json": {
                "schema": reference("NewCredential"), "examples": {"sample": {"value": sample(true)}}
            }}},
            "responses": with_errors(&[401, 404, 405, 408, 413, 415, 422, 429, 500], json!({"201": {
                "description": "The credential was created.", "content": body("Credential"),
                "links": {"update": link("updateCredential"), "delete": link("deleteCredential")}
            }}))
        }
    })
}

fn item() -> Value {
    json!({
        "parameters": [{
            "name": "credential_id", "in": "path", "required": true, "schema": reference("CredentialId"),
            "description": "Id of a credential of the account."
        }],
        "patch": {
            "operationId": "updateCredential",
            "summary": "Replace the name, or the secret once Microsoft has issued a token for it, or both",
            "requestBody": {"required": true, "content": {"application/json": {
                "schema": reference("CredentialUpdate"),
                "examples": {
                    "rename": {"value": {"name": "Sales"}},
                    "rotate": {"value": {
                        "client_secret": "your-client-secret", "secret_expires_at": "2028-11-28T23:59:59Z"
                    }}
                }
            }}},
            "responses": with_errors(&[401, 404, 405, 408, 413, 415, 422, 429, 500], json!({"200": {
                "description": "The credential as it is now.", "content": body("Credential")
            }}))
        },
        "delete": {
            "operationId": "deleteCredential",
            "summary": "Remove a credential",
            "responses": with_errors(&[401, 404, 405, 422, 429, 500], json!({"204": {"description": "It is removed."}}))
        }
    })
}

fn schemas() -> Value {
    let guid = |description: &str| json!({"type": "string", "pattern": GUID, "description": description});
    let secret = json!({
        "type": "string", "minLength": 1, "maxLength": MAX_SECRET_LENGTH, "pattern": SECRET,
        "writeOnly": true,
        "description": "The client secret's value, without white space around it or control characters. At most 8192 bytes."
    });
    let expiry = json!({
        "type": "string", "format": "date-time",
        "description": "When the client secret expires; in the future. A plain date is taken as 00:00 UTC."
    });
    let name = json!({
        "type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH, "pattern": NAME,
        "description": "A name without control characters, and not white space alone."
    });
    // Null counts as left out.
    let optional = |schema: &Value| {
        let mut schema = schema.clone();
        schema["type"] = json!(["string", "null"]);
        schema
    };
    let left_out = json!({"type": "null"});
    let constants: Vec<&str> = Refusal::ALL.iter().map(|refusal| refusal.as_str()).collect();
    json!({
        "CredentialId": {"type": "integer", "format": "int64", "minimum": 1, "maximum": (1_i64 << 53) - 1},
        "Credential": {
            "type": "object", "additionalProperties": false,
            "required": ["credential_id", "tenant_id", "client_id", "secret_expires_at", "name"],
            "properties": {
                "credential_id": reference("CredentialId"),
                "tenant_id": guid("Microsoft Entra tenant id, in lower case."),
                "client_id": guid("Microsoft Entra application client id, in lower case."),
                "secret_expires_at": {"type": "string", "format": "date-time", "description": "In UTC."},
                "name": {"type": "string"}
            },
            "examples": [sample(false)]
        },
        "CredentialList": {
            "type": "object", "additionalProperties": false, "required": ["credentials"],
            "properties": {"credentials": {"type": "array", "items": reference("Credential")}}
        },
        "NewCredential": {
            "type": "object", "additionalProperties": false,
            "required": ["tenant_id", "client_id", "client_secret", "secret_expires_at"],
            "properties": {
                "tenant_id": guid("Microsoft Entra tenant id."),
                "client_id": guid("Microsoft Entra application client id."),
                "client_secret": secret,
                "secret_expires_at": expiry,
                "name": optional(&name)
            }
        },
        "CredentialUpdate": {
            "description": "A name, or a secret with its expiry, or all three.",
            "anyOf": [
                {
                    "type": "object", "additionalProperties": false, "required": ["name"],
                    "properties": {"name": name, "client_secret": left_out, "secret_expires_at": left_out}
                },
                {
                    "type": "object", "additionalProperties": false,
                    "required": ["client_secret", "secret_expires_at"],
                    "properties": {
                        "client_secret": secret, "secret_expires_at": expiry, "name": optional(&name)
                    }
                }
            ]
        },
        "Problem": {
            "type": "object", "additionalProperties": false,
            "required": ["title", "status", "detail", "timestamp"],
            "properties": {
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "timestamp": {
                    "type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2} \\d{2}:\\d{2}:\\d{2}$",
                    "description": "When the error occurred, in UTC."
                }
            }
        },
        "Refusal": {
            "type": "object", "additionalProperties": false, "required": ["message"],
            "properties": {"message": {"type": "string", "enum": constants}}
        }
    })
}

/// Every answer that is no success, by its status.
fn responses() -> Value {
    let problem = |description: &str| json!({"description": description, "content": body("Problem")});
    let with_header = |description: &str, name: &str, text: &str| {
        let mut answer = problem(description);
        answer["headers"] = json!({name: {"schema": {"type": "string"}, "description": text}});
        answer
    };
    json!({
        "401": problem("The API key is missing, unknown or there twice."),
        "404": problem("There is nothing at the address, or no such credential in the account."),
        "405": with_header("The address has no such method.", "Allow", "Those that it has."),
        "408": problem("The body did not come in time."),
        "413": problem("The body is longer than 64 KiB."),
        "415": problem("The body is not said to be application/json, or it is compressed."),
        "422": {"description": "What the request says cannot be saved, or it carries x-company-id: an API key is of one account, and there are no companies.", "content": body("Refusal")},
        "429": with_header("Microsoft asks to slow down, or the account has too many requests under way.", "Retry-After", "In seconds."),
        "500": problem("Microsoft cannot be reached, or the cluster has a failure. What was to be saved may have been: list before you try again.")
    })
}

/// The answers of an operation: its success, and references to these errors.
fn with_errors(statuses: &[u16], mut success: Value) -> Value {
    for status in statuses {
        success[status.to_string()] = json!({"$ref": format!("#/components/responses/{status}")});
    }
    success
}

fn body(schema: &str) -> Value {
    json!({"application/json": {"schema": reference(schema)}})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn link(operation: &str) -> Value {
    json!({"operationId": operation, "parameters": {"credential_id": "$response.body#/credential_id"}})
}

/// The vendor's sample of a request, or of its answer.
fn sample(is_request: bool) -> Value {
    let mut sample = json!({
        "tenant_id": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
        "client_id": "e1c6ac69-480e-4a17-9b85-3467967bd179",
        "secret_expires_at": "2027-11-28T23:59:59Z",
        "name": "MS Graph app"
    });
    let (field, value) = if is_request {
        ("client_secret", json!("your-client-secret"))
    } else {
        ("credential_id", json!(22_334_455))
    };
    sample[field] = value;
    sample
}
