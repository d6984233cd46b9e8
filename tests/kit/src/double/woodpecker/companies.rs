//! What the double knows about an agency: its client companies, as `GET /rest/v2/agency/companies` lists them, and the
//! firm and the user of each account, as `GET /rest/v1/me` returns them. Source: the vendor's page GET-companies; for
//! `/me`, which has no page, a public client.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::response::problem;
use super::route::{Op, Route};
use crate::double::http::HttpResponse;

/// Companies on a page, which a request cannot change.
const PAGE_SIZE: usize = 50;

/// A client company as an agency's list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Company {
    /// Unique at the vendor.
    pub id: i64,
    /// The name that the agency gave it.
    pub name: String,
    /// `false` after the agency deactivated it.
    pub is_active: bool,
}

/// Companies by agency, and the body of `/me` by account.
#[derive(Default)]
pub(crate) struct Agencies {
    companies: BTreeMap<String, BTreeMap<i64, Company>>,
    identities: BTreeMap<String, Value>,
}

// === impl Company ===

impl Company {
    /// An active company.
    pub fn new(id: i64, name: &str) -> Self {
        Self { id, name: name.to_owned(), is_active: true }
    }

    fn shown(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "owner": "Jim Halpert", "active": self.is_active,
            "running_campaigns": 0, "email_slots": 2, "linkedin_slots": 0,
        })
    }
}

// === impl Agencies ===

impl Agencies {
    pub(crate) fn put(&mut self, agency: &str, company: Company) {
        self.companies.entry(agency.to_owned()).or_default().insert(company.id, company);
    }

    pub(crate) fn set_identity(&mut self, account: &str, identity: Value) {
        self.identities.insert(account.to_owned(), identity);
    }

    /// The response to a request that is about neither credentials nor mailboxes.
    pub(crate) fn respond(&self, account: &str, route: &Route) -> HttpResponse {
        match route.op {
            Op::Companies => self.page(account, &route.query),
            Op::Me => match self.identities.get(account) {
                Some(identity) => HttpResponse::json(200, identity),
                None => problem(404),
            },
            _ => problem(404),
        }
    }

    fn page(&self, agency: &str, query: &str) -> HttpResponse {
        let parameter = |name: &str| {
            query.split('&').find_map(|it| it.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        let number = parameter("page").and_then(|text| text.parse::<usize>().ok()).unwrap_or(1).max(1);
        let active = parameter("active").and_then(|text| text.parse::<bool>().ok());
        let all: Vec<&Company> = self
            .companies
            .get(agency)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|it| active.is_none_or(|active| it.is_active == active))
            .collect();
        let shown = all.iter().skip((number - 1) * PAGE_SIZE).take(PAGE_SIZE);
        HttpResponse::json(
            200,
            &json!({
                "content": shown.map(|it| it.shown()).collect::<Vec<_>>(),
                "pagination_data": {
                    "total_elements": all.len(), "total_pages": all.len().div_ceil(PAGE_SIZE),
                    "current_page_number": number, "page_size": PAGE_SIZE,
                },
            }),
        )
    }
}
