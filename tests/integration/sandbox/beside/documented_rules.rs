//! What Woodpecker documents, as cases that the sandbox and the double pass alike. Where it documents nothing, see
//! `differences`.

use super::super::*;
use super::served::{BULK, COMPANIES, COMPANY, LISTED, MAILBOXES, ME, Served};

/// The fields of an object.
fn fields(value: &Value) -> Vec<&str> {
    let mut fields: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort_unstable();
    fields
}

async fn credentials(served: &Served) {
    assert_eq!(served.get(PATH).await, json!({"credentials": []}));
    let created = served.request("POST", PATH, Some(sample(json!({})))).await;
    let id = created.json()["credential_id"].as_i64().expect("a number");
    let mut shown = json!({
        "credential_id": id, "tenant_id": TENANT, "client_id": CLIENT, "secret_expires_at": EXPIRY,
        "name": "MS Graph app"
    });
    assert_eq!((created.status, created.json()), (201, shown.clone()));
    assert_eq!(served.get(PATH).await, json!({"credentials": [shown]}));
    let mut unnamed = sample(json!({}));
    unnamed.as_object_mut().unwrap().remove("name");
    let unnamed = served.request("POST", PATH, Some(unnamed)).await.json();
    assert_ne!(unnamed["credential_id"], id, "an app can have several credentials");
    assert!(unnamed["name"].as_str().is_some_and(|name| !name.is_empty()), "{unnamed}");
    let path = format!("{PATH}/{id}");
    let renamed = served.request("PATCH", &path, Some(json!({"name": "Sales"}))).await;
    shown["name"] = json!("Sales");
    assert_eq!((renamed.status, renamed.json()), (200, shown.clone()));
    let both = json!({"client_secret": "s3cret-one", "secret_expires_at": "2028-01-01T00:00:00Z"});
    shown["secret_expires_at"] = json!("2028-01-01T00:00:00Z");
    let rotated = served.request("PATCH", &path, Some(both)).await;
    assert_eq!((rotated.status, rotated.json()), (200, shown));
    let removed = served.request("DELETE", &path, None).await;
    assert_eq!((removed.status, removed.body.len()), (204, 0));
    assert_eq!(served.ids().await, [unnamed["credential_id"].as_i64().unwrap()]);
}

/// Of the constants, only `INVALID_CLIENT_SECRET` is documented.
async fn rejections(served: &Served) {
    let wrong = sample(json!({"client_secret": served.wrong_secret}));
    let wrong = served.request("POST", PATH, Some(wrong)).await;
    assert_eq!((wrong.status, wrong.json()), (422, json!({"message": "INVALID_CLIENT_SECRET"})));
    let mut invalid = vec![("POST", PATH.to_owned(), json!([1]))];
    for field in ["tenant_id", "client_id", "client_secret", "secret_expires_at"] {
        let mut body = sample(json!({}));
        body.as_object_mut().unwrap().remove(field);
        invalid.push(("POST", PATH.to_owned(), body));
    }
    for (field, value) in
        [("secret_expires_at", json!("soon")), ("tenant_id", json!(7)), ("client_id", json!(""))]
    {
        invalid.push(("POST", PATH.to_owned(), sample(json!({field: value}))));
    }
    assert_eq!(served.ids().await, [0; 0]);
    let id = served.created(json!({})).await;
    for half in [json!({"client_secret": "x"}), json!({"secret_expires_at": EXPIRY})] {
        invalid.push(("PATCH", format!("{PATH}/{id}"), half));
    }
    for (method, path, body) in invalid {
        let rejected = served.request(method, &path, Some(body.clone())).await;
        assert_eq!(rejected.status, 422, "{method} {body}: {rejected:?}");
        assert_eq!(fields(&rejected.json()), ["message"], "{method} {body}");
        assert!(rejected.json()["message"].is_string(), "{method} {body}");
    }
    assert_eq!(served.ids().await, [id], "nothing was saved");
}

async fn problems(served: &Served) {
    for (method, path) in
        [("GET", PATH), ("POST", PATH), ("GET", ME), ("GET", COMPANIES), ("GET", MAILBOXES), ("POST", BULK)]
    {
        for headers in [&[][..], &[("x-api-key", "nobody")]] {
            let unauthorized = served.send(headers, method, path, None).await;
            assert_eq!(unauthorized.status, 401, "{method} {path}");
            unauthorized.is_problem("Unauthorized", "Invalid api key");
        }
    }
    for (method, body) in [("DELETE", None), ("PATCH", Some(json!({"name": "x"})))] {
        let gone = served.request(method, &format!("{PATH}/7"), body).await;
        assert_eq!(gone.status, 404, "{method}");
        gone.is_problem("Not Found", "Requested resource does not exist");
    }
    let nowhere = served.request("GET", "/rest/v2/mailboxes/microsoft/nowhere", None).await;
    assert_eq!(nowhere.status, 404);
    nowhere.is_problem("Not Found", "Requested resource does not exist");
}

/// The status and the body of the refusal are not documented.
async fn a_credential_in_use(served: &Served) {
    let (used, unused) = (served.created(json!({})).await, served.created(json!({})).await);
    served.use_credential(used).await;
    let refused = served.request("DELETE", &format!("{PATH}/{used}"), None).await;
    assert!((400..500).contains(&refused.status), "{refused:?}");
    assert_eq!(served.ids().await, [used, unused], "it is still there");
    let renamed = served.request("PATCH", &format!("{PATH}/{used}"), Some(json!({"name": "x"}))).await;
    assert_eq!(renamed.status, 200, "only its removal is refused: {renamed:?}");
    assert_eq!(served.request("DELETE", &format!("{PATH}/{unused}"), None).await.status, 204);
    assert_eq!(served.ids().await, [used]);
}

async fn companies(served: &Served) {
    let all = served.get(COMPANIES).await;
    assert_eq!(fields(&all), ["content", "pagination_data"]);
    let company = &all["content"][0];
    let documented = ["active", "email_slots", "id", "linkedin_slots", "name", "owner", "running_campaigns"];
    assert_eq!(fields(company), documented);
    assert!(company["owner"].is_string() && company["email_slots"].is_number(), "{company}");
    let mut ids = Vec::new();
    for (query, from, count, total) in [
        ("", 1, 50, LISTED),
        ("?page=1", 1, 50, LISTED),
        ("?page=2", 2, 50, LISTED),
        ("?page=3", 3, 20, LISTED),
        ("?page=4", 4, 0, LISTED),
        ("?active=false", 1, 3, 3),
        ("?active=true", 1, 50, 117),
        ("?page=3&active=true", 3, 17, 117),
    ] {
        let page = served.get(&format!("{COMPANIES}{query}")).await;
        let content = page["content"].as_array().unwrap();
        assert_eq!(content.len(), count, "{query}");
        let paging = json!({
            "total_elements": total, "total_pages": (total + 49) / 50, "current_page_number": from, "page_size": 50
        });
        assert_eq!(page["pagination_data"], paging, "{query}");
        if query.contains("active") {
            assert!(
                content.iter().all(|it| it["active"] == query.contains("active=true")),
                "{query}: {page}"
            );
        } else if query.contains("page") {
            ids.extend(content.iter().map(|it| it["id"].as_i64().unwrap()));
        }
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=LISTED).map(|id| 20_000_000 + id).collect::<Vec<_>>(), "each is on one page");
}

async fn a_company(served: &Served) {
    let headers = [served.key(), ("x-company-id", COMPANY), ("content-type", "application/json")];
    let created = served.send(&headers, "POST", PATH, Some(sample(json!({})))).await;
    assert_eq!(created.status, 201, "{created:?}");
    let listed = served.send(&headers, "GET", PATH, None).await.json();
    assert_eq!(listed["credentials"], json!([created.json()]));
    assert_eq!(served.ids().await, [0; 0], "the agency itself has none");
}

/// That the path checks a key is documented. The fields are those that programs of others read.
async fn identity(served: &Served) {
    let me = served.get(ME).await;
    assert_eq!(fields(&me), ["firm_id", "firm_name", "user_email", "user_id", "user_name"]);
    assert!(me["firm_id"].is_i64() && me["user_id"].is_i64() && me["user_email"].is_string(), "{me}");
}

/// Only the response to a request whose mailboxes were all connected is documented.
async fn mailboxes(served: &Served) {
    assert_eq!(served.get(MAILBOXES).await, json!([]));
    let id = served.created(json!({})).await;
    let connected = served.connect(id, &["jim@example.com", "pam@example.com"]).await;
    assert_eq!(connected.status, 200, "{connected:?}");
    let (results, listed) = (connected.json(), served.get(MAILBOXES).await);
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    for (at, address) in ["jim@example.com", "pam@example.com"].into_iter().enumerate() {
        assert!(results[at]["id"].is_i64(), "{results}");
        let expected = json!({
            "success": true, "id": results[at]["id"], "email": address, "name": "Jimothy H",
            "deliverability": {"spf_correct": true, "dkim_correct": true}, "error": null
        });
        assert_eq!(results[at], expected);
        let (mailbox, details) = (&listed[at], &listed[at]["details"]);
        assert_eq!((&mailbox["id"], &details["email"]), (&results[at]["id"], &json!(address)));
        assert_eq!((&details["error"], &details["in_slot"]), (&Value::Null, &json!(true)));
        assert_eq!((&details["from_name"], &details["freeze_account"]), (&json!("Jimothy H"), &json!([])));
        assert!(["SMTP", "IMAP"].contains(&mailbox["type"].as_str().unwrap()), "{mailbox}");
    }
    assert_ne!(results[0]["id"], results[1]["id"]);
    let unnamed = json!({"credential_id": id, "accounts": [{"mailbox_email": "dwight@example.com"}]});
    let unnamed = served.request("POST", BULK, Some(unnamed)).await;
    assert_eq!((unnamed.status, &unnamed.json()[0]["success"]), (200, &json!(true)), "a name is optional");
    for body in [
        json!({}),
        json!({"credential_id": id}),
        json!({"credential_id": 7, "accounts": [{"mailbox_email": "a@b.c"}]}),
    ] {
        let rejected = served.request("POST", BULK, Some(body.clone())).await;
        assert!((400..500).contains(&rejected.status), "{body}: {rejected:?}");
    }
    let partly = served.connect(id, &[served.wrong_mailbox, "angela@example.com"]).await.json();
    let shown = |it: &Value| json!([it["email"], it["success"], it["error"].is_null()]);
    let results: Vec<_> = partly.as_array().unwrap().iter().map(shown).collect();
    assert_eq!(
        results,
        [json!([served.wrong_mailbox, false, false]), json!(["angela@example.com", true, true])]
    );
    assert_eq!(served.get(MAILBOXES).await.as_array().unwrap().len(), 4, "all others are connected");
}

/// Declares a test for each case, against a sandbox and a double that nothing else has used.
macro_rules! cases {
    ($($test:ident: $case:ident,)*) => {$(
        #[tokio::test]
        async fn $test() {
            for served in [Served::sandbox().await, Served::double().await] {
                println!("{}", served.name);
                $case(&served).await;
            }
        }
    )*};
}

cases! {
    both_keep_credentials_as_documented: credentials,
    both_reject_invalid_content_as_documented: rejections,
    both_have_the_documented_problems: problems,
    both_keep_a_credential_that_a_mailbox_uses: a_credential_in_use,
    both_list_companies_in_pages: companies,
    both_act_for_a_company: a_company,
    both_say_whose_key_it_is: identity,
    both_connect_and_list_mailboxes: mailboxes,
}
