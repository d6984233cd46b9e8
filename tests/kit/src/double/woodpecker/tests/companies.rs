//! An agency's list of companies, and the identity of a key.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::woodpecker::{Company, Fault, Op};

async fn get(it: &Woodpecker, path: &str) -> (u16, Value) {
    let url = format!("{}{path}", it.base_url());
    status_and_body(&client::send("GET", &url, &[("x-api-key", "key")], "").await)
}

#[tokio::test]
async fn companies_are_listed_in_pages_of_fifty() {
    let it = woodpecker().await;
    let (status, empty) = get(&it, "/v2/agency/companies").await;
    assert_eq!(
        (status, &empty["content"], &empty["pagination_data"]["total_pages"]),
        (200, &json!([]), &json!(0))
    );
    for id in 1..=120 {
        let company = Company::new(id, &format!("Company {id}"));
        it.list_company("team", Company { is_active: id % 40 != 0, ..company });
    }
    for (query, shown, pages) in [
        ("", 50, 3),
        ("?page=3", 20, 3),
        ("?page=4", 0, 3),
        ("?active=false", 3, 1),
        ("?page=3&active=true", 17, 3),
    ] {
        let (_, body) = get(&it, &format!("/v2/agency/companies{query}")).await;
        let content = body["content"].as_array().expect("an array");
        assert_eq!(
            (content.len(), &body["pagination_data"]["total_pages"]),
            (shown, &json!(pages)),
            "{query}"
        );
    }
    assert_eq!((it.lists("team"), it.writes("team")), (0, 0));
    assert!(it.requests("team").iter().all(|it| it.op == Op::Companies && it.took_effect));
    assert!(it.summary(Timestamp::MIN)[0].starts_with("GET /rest/v2/agency/companies → 200"));
}

#[tokio::test]
async fn a_key_has_the_identity_that_was_set() {
    let it = woodpecker().await;
    assert_eq!(get(&it, "/v1/me").await.0, 404);
    let me = json!({"firm_id": 7, "firm_name": "Agency"});
    it.set_identity("team", me.clone());
    assert_eq!(get(&it, "/v1/me").await, (200, me));
    it.fail_next(Op::Me, 1, Fault::RefusedBefore(401, json!({"detail": "No API addon"})));
    assert_eq!(get(&it, "/v1/me").await.0, 401);
}
