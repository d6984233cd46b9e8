//! `GET /rest/v1/me`. Woodpecker documents only that it checks an API key; the fields are those that third-party programs read.

use std::sync::Arc;

use axum::{Extension, Json};
use serde_json::{Value, json};

use super::agency::COMPANY_PREFIX;
use crate::rest::Account;

pub(super) const PATH: &str = "/rest/v1/me";

pub(super) async fn me(Extension(account): Extension<Arc<Account>>) -> Json<Value> {
    // Each account is a firm of its own.
    let company = account.namespace.strip_prefix(COMPANY_PREFIX).and_then(|id| id.parse().ok());
    Json(json!({
        "firm_id": company.unwrap_or(1_000_001_i64),
        "firm_name": format!("Sandbox {}", account.namespace),
        "user_email": "sandbox@example.com",
        "user_id": 1,
        "user_name": "Sandbox",
    }))
}
