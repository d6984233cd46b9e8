//! The client companies of an agency. Source: the vendor's page GET-companies.

use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::woodpecker::client::Client;
use crate::woodpecker::error::ApiError;

/// Most pages that are read: fifty thousand companies, at the fifty companies a page that the vendor documents.
const MAX_PAGES: u64 = 1000;

/// Most characters that are kept of a name.
const MAX_NAME: usize = 1024;

/// A client company.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Company {
    pub id: i64,
    /// As the agency wrote it, cut after 1024 characters; empty if the list shows none.
    #[serde(default, deserialize_with = "bounded")]
    pub name: String,
    /// `false` only if Woodpecker says so.
    #[serde(default = "active", rename = "active")]
    pub is_active: bool,
}

/// Why the companies could not be listed.
#[derive(Debug, Error)]
pub enum CompaniesError {
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A company was added or removed between two pages, so one may be missing.
    #[error("the list of companies changed while it was read")]
    Changed,
    #[error("the list of companies has more than {MAX_PAGES} pages")]
    TooLong,
}

#[derive(Deserialize)]
struct Page {
    content: Vec<Company>,
    pagination_data: Pagination,
}

#[derive(Deserialize)]
struct Pagination {
    total_pages: u64,
    current_page_number: u64,
    total_elements: u64,
}

/// Reads a page; `None` if the body is not that page. A partial page would hide a company.
fn read_page(body: &[u8], number: u64) -> Option<Page> {
    let page: Page = serde_json::from_slice(body).ok()?;
    let is_valid = page.content.iter().all(|company| company.id > 0)
        && page.pagination_data.current_page_number == number;
    is_valid.then_some(page)
}

fn active() -> bool {
    true
}

fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    Ok(name.chars().take(MAX_NAME).collect())
}

impl Client {
    /// All companies of the agency, ordered by id: the same for every company that the client acts for. One request
    /// for each page.
    pub async fn companies(&self) -> Result<Vec<Company>, CompaniesError> {
        let mut companies: Vec<Company> = Vec::new();
        for number in 1..=MAX_PAGES {
            let request = self.get(&format!("/v2/agency/companies?page={number}"))?;
            let (status, body) = self.call("companies", request).await?;
            let page = read_page(&body, number).ok_or(ApiError::Malformed(status))?;
            companies.extend(page.content);
            let Pagination { total_pages, total_elements, .. } = page.pagination_data;
            if number >= total_pages {
                companies.sort_by_key(|company| company.id);
                companies.dedup_by_key(|company| company.id);
                let is_complete = companies.len() as u64 == total_elements;
                return if is_complete { Ok(companies) } else { Err(CompaniesError::Changed) };
            }
        }
        Err(CompaniesError::TooLong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendors_sample_is_read() {
        let body = br#"{"content":[
            {"id":12345678,"name":"Dunmore High School","owner":"Jim Halpert","active":true,"running_campaigns":2,"email_slots":2,"linkedin_slots":1},
            {"id":12345679,"name":"Beets Beets Beets","owner":"Dwight Schrute","active":false,"running_campaigns":0,"email_slots":0,"linkedin_slots":0}
        ],"pagination_data":{"total_elements":2,"total_pages":1,"current_page_number":1,"page_size":50}}"#;
        let page = read_page(body, 1).unwrap();
        let shown: Vec<(i64, &str, bool)> =
            page.content.iter().map(|it| (it.id, it.name.as_str(), it.is_active)).collect();
        assert_eq!(
            shown,
            [(12_345_678, "Dunmore High School", true), (12_345_679, "Beets Beets Beets", false)]
        );
        assert!(read_page(body, 2).is_none(), "it is another page");
    }

    #[test]
    fn only_the_id_of_a_company_is_required() {
        let page = |company: &str| {
            let pages = r#"{"total_elements":1,"total_pages":1,"current_page_number":1}"#;
            read_page(format!(r#"{{"content":[{company}],"pagination_data":{pages}}}"#).as_bytes(), 1)
        };
        let company = page(r#"{"id":7,"name":null}"#).unwrap().content.remove(0);
        assert_eq!(company, Company { id: 7, name: String::new(), is_active: true });
        for odd in ["7", r#"{"name":"a"}"#, r#"{"id":0}"#, r#"{"id":"7"}"#] {
            assert!(page(odd).is_none(), "{odd}");
        }
        for body in ["", "[]", "{}", r#"{"content":[]}"#, r#"{"status":{"status":"ERROR","code":"E"}}"#] {
            assert!(read_page(body.as_bytes(), 1).is_none(), "{body}");
        }
    }

    #[test]
    fn a_name_of_any_length_is_cut_at_a_character() {
        let name = "\u{e4}".repeat(5000);
        let company: Company = serde_json::from_str(&format!(r#"{{"id":7,"name":"{name}"}}"#)).unwrap();
        assert_eq!(company.name.chars().count(), MAX_NAME);
    }
}
