//! The vendor's agency routes: companies, their API keys and their email accounts, and what `x-company-id` does.
//!
//! Documented are the paths, the fields and the paging. Ours are the answers to keys of companies, to unknown companies, and
//! to labels. Creating companies is left out, because it costs money at the vendor.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::{Extension, Json};
use http::{HeaderValue, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::backend::Sandbox;
use super::control::query;
use super::data::{ApiKey, Data, MAIN_ACCOUNT};
use super::error::SandboxError;
use crate::rest::{Account, Backend, ErrorCode, RestError, SharedState, UnknownFields, json_body};

pub(super) const COMPANIES: &str = "/rest/v2/agency/companies";
pub(super) const API_KEYS: &str = "/rest/v2/agency/companies/{company_id}/api_keys";
pub(super) const EMAIL_ACCOUNTS: &str = "/rest/v2/agency/companies/{company_id}/email_accounts";

const PAGE_SIZE: usize = 50;

/// Longest label of an API key, in characters. Ours.
pub(super) const MAX_LABEL: usize = 100;

/// Most API keys of a company. Ours.
const MAX_KEYS: usize = 1000;

const OWNER: &str = "Sandbox";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Company {
    pub id: i64,
    pub name: String,
    pub active: bool,
    pub header: CompanyHeader,
}

/// What happens to requests with the company's id in `x-company-id`. The vendor does not say which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum CompanyHeader {
    /// They act on the company's account.
    Honored,
    /// They act on the agency's account.
    Ignored,
    /// They are refused.
    Refused,
}

/// The companies after a reset.
pub(super) fn initial() -> Vec<Company> {
    let company = |id, name: &str, active, header| Company { id, name: name.to_owned(), active, header };
    vec![
        company(20_000_001, "First client", true, CompanyHeader::Honored),
        company(20_000_002, "Second client", true, CompanyHeader::Honored),
        company(20_000_003, "Client whose x-company-id is ignored", true, CompanyHeader::Ignored),
        company(20_000_004, "Client whose x-company-id is refused", true, CompanyHeader::Refused),
        company(20_000_005, "Former client", false, CompanyHeader::Honored),
    ]
}

/// The API keys of the companies after a reset: each has one.
pub(super) fn initial_keys() -> impl Iterator<Item = ApiKey> {
    initial().into_iter().map(|company| ApiKey {
        key: format!("{}.sandboxsandboxsandbox", company.id),
        account: account_of(company.id),
        label: "default".to_owned(),
    })
}

/// The account for `x-company-id`. Only the agency's own key can name a company.
pub(super) fn account(data: &Data, account: &Account, company: &HeaderValue) -> Result<Account, RestError> {
    let unknown = RestError::from(ErrorCode::UnknownCompany);
    let id: i64 = company.to_str().ok().and_then(|text| text.parse().ok()).ok_or(unknown)?;
    let found = data.companies.iter().find(|it| it.id == id).filter(|_| is_agency(account)).ok_or(unknown)?;
    match found.header {
        CompanyHeader::Honored => Ok(Account { namespace: account_of(id), key: account.key.clone() }),
        CompanyHeader::Ignored => Ok(account.clone()),
        CompanyHeader::Refused => Err(RestError::NotFound),
    }
}

/// What the name of a company's account begins with.
pub(super) const COMPANY_PREFIX: &str = "company-";

fn account_of(company: i64) -> String {
    format!("{COMPANY_PREFIX}{company}")
}

fn is_agency(account: &Account) -> bool {
    account.namespace == MAIN_ACCOUNT
}

type Caller = Extension<Arc<Account>>;
type Id = Result<Path<String>, PathRejection>;

/// Refuses an account that is not the agency's.
fn agency_only(account: &Account) -> Result<(), SandboxError> {
    if is_agency(account) {
        return Ok(());
    }
    Err(SandboxError::NoAgency)
}

fn company_id(data: &Data, id: Id) -> Result<i64, SandboxError> {
    let id = id.ok().and_then(|Path(text)| text.parse::<i64>().ok());
    Ok(id.filter(|id| data.companies.iter().any(|it| it.id == *id)).ok_or(RestError::NotFound)?)
}

pub(super) async fn companies(
    state: SharedState<Arc<Sandbox>>,
    Extension(caller): Caller,
    uri: Uri,
) -> Result<Json<Value>, SandboxError> {
    agency_only(&caller)?;
    let sandbox = &state.credentials.backend;
    let active: Option<bool> = parameter(sandbox, &uri, "active")?;
    let number = page_number(sandbox, &uri)?;
    sandbox.view(|data| {
        let wanted = data.companies.iter().filter(|it| active.is_none_or(|active| it.active == active));
        let content = wanted.map(|company| {
            let mailboxes = data.mailboxes.get(&account_of(company.id)).map_or(0, Vec::len);
            json!({
                "id": company.id, "name": company.name, "owner": OWNER, "active": company.active,
                "running_campaigns": 0, "email_slots": mailboxes, "linkedin_slots": 0
            })
        });
        Ok(Json(page(number, content.collect())))
    })
}

/// A parameter of the query. Without a meaning, it is ignored like an unknown one.
fn parameter<T: FromStr>(sandbox: &Arc<Sandbox>, uri: &Uri, name: &str) -> Result<Option<T>, SandboxError> {
    let Some(text) = query(uri, name) else { return Ok(None) };
    match text.parse() {
        Ok(value) => Ok(Some(value)),
        Err(_) if sandbox.unknown_fields() == UnknownFields::Ignore => Ok(None),
        Err(_) => Err(SandboxError::Invalid(format!("the parameter {name} has no such value"))),
    }
}

/// The first page has number 1.
fn page_number(sandbox: &Arc<Sandbox>, uri: &Uri) -> Result<u32, SandboxError> {
    let number: Option<NonZeroU32> = parameter(sandbox, uri, "page")?;
    Ok(number.map_or(1, NonZeroU32::get))
}

/// A page of the content.
fn page(number: u32, all: Vec<Value>) -> Value {
    let total = all.len();
    let skipped = usize::try_from(number - 1).unwrap_or(usize::MAX).saturating_mul(PAGE_SIZE);
    let content: Vec<Value> = all.into_iter().skip(skipped).take(PAGE_SIZE).collect();
    json!({
        "content": content,
        "pagination_data": {
            "total_elements": total, "total_pages": total.div_ceil(PAGE_SIZE), "current_page_number": number,
            "page_size": PAGE_SIZE
        }
    })
}

pub(super) async fn api_keys(
    state: SharedState<Arc<Sandbox>>,
    Extension(caller): Caller,
    id: Id,
    uri: Uri,
) -> Result<Json<Value>, SandboxError> {
    agency_only(&caller)?;
    let sandbox = &state.credentials.backend;
    let number = page_number(sandbox, &uri)?;
    sandbox.view(|data| {
        let account = account_of(company_id(data, id)?);
        let keys = data.api_keys.iter().filter(|it| it.account == account);
        let content = keys.map(|key| json!({ "api_key": key.key, "label": key.label })).collect();
        Ok(Json(page(number, content)))
    })
}

#[derive(Deserialize)]
struct NewKey {
    label: String,
    #[serde(flatten)]
    unknown: serde_json::Map<String, Value>,
}

pub(super) async fn create_api_key(
    state: SharedState<Arc<Sandbox>>,
    Extension(caller): Caller,
    id: Id,
    request: axum::extract::Request,
) -> Result<(StatusCode, Json<Value>), SandboxError> {
    agency_only(&caller)?;
    let sandbox = &state.credentials.backend;
    let id = sandbox.view(|data| company_id(data, id))?;
    let body = json_body(request, state.timing.rest_body).await?;
    let NewKey { label, unknown } = serde_json::from_slice(&body).map_err(|_| ErrorCode::MalformedRequest)?;
    if label.is_empty() || label.chars().count() > MAX_LABEL {
        return Err(ErrorCode::MalformedRequest.into());
    }
    if !unknown.is_empty() && sandbox.unknown_fields() == UnknownFields::Reject {
        return Err(ErrorCode::UnknownField.into());
    }
    let random = getrandom::u64().map_err(|_| RestError::Internal)?;
    let key = ApiKey { key: format!("{id}.{random:016x}"), account: account_of(id), label };
    let created = json!({ "api_key": key.key });
    sandbox.change(|data| {
        if data.api_keys.iter().filter(|it| it.account == key.account).count() >= MAX_KEYS {
            return Err(SandboxError::Rejected("TOO_MANY_API_KEYS"));
        }
        data.api_keys.push(key);
        Ok(())
    })?;
    Ok((StatusCode::CREATED, Json(created)))
}

pub(super) async fn email_accounts(
    state: SharedState<Arc<Sandbox>>,
    Extension(caller): Caller,
    id: Id,
) -> Result<Json<Value>, SandboxError> {
    agency_only(&caller)?;
    state.credentials.backend.view(|data| {
        let account = account_of(company_id(data, id)?);
        let mailboxes = data.mailboxes.get(&account).map(Vec::as_slice).unwrap_or_default();
        let content: Vec<Value> = mailboxes
            .iter()
            .map(|it| {
                json!({ "id": it.id, "type": "SMTP", "details": {
                    "email": it.email, "provider": "Office 365", "error": it.error, "from_name": it.name,
                    "imap_id": it.id, "running_campaigns": 0
                } })
            })
            .collect();
        Ok(Json(json!({ "content": content })))
    })
}
