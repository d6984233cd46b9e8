//! The vendor's routes beside credentials: mailboxes, and companies of an agency.

use super::*;

const MAILBOXES: &str = "/rest/v2/mailboxes";
const BULK: &str = "/rest/v2/mailboxes/microsoft/bulk";
const COMPANIES: &str = "/rest/v2/agency/companies";

// === impl Sandbox ===

impl Sandbox {
    async fn bulk(&self, credential: &Value, addresses: &[&str]) -> HttpResponse {
        let accounts: Vec<Value> = addresses.iter().map(|it| json!({"mailbox_email": it})).collect();
        let body = json!({"auth_type": "APP_ONLY", "credential_id": credential, "accounts": accounts});
        self.request("POST", BULK, Some(body)).await
    }

    /// The mailboxes of the account, each with `in_slot` and `error`.
    async fn mailboxes(&self) -> Vec<Value> {
        let listed = self.request("GET", MAILBOXES, None).await.json();
        let shown =
            |it: &Value| json!([it["details"]["email"], it["details"]["in_slot"], it["details"]["error"]]);
        listed.as_array().unwrap().iter().map(shown).collect()
    }
}

#[tokio::test]
async fn mailboxes_are_connected_as_the_vendor_documents() {
    let sandbox = Sandbox::start(&[]).await;
    assert_eq!(sandbox.request("GET", MAILBOXES, None).await.json(), json!([]));
    let id = sandbox.create(json!({})).await.json()["credential_id"].clone();
    // The vendor's sample.
    let body = json!({
        "auth_type": "APP_ONLY", "credential_id": id,
        "accounts": [{"mailbox_email": "jim@example.com", "display_name": "Jimothy H"}]
    });
    let connected = sandbox.request("POST", BULK, Some(body)).await;
    let expected = json!([{
        "success": true, "id": 444_444, "email": "jim@example.com", "name": "Jimothy H",
        "deliverability": {"spf_correct": true, "dkim_correct": true}, "error": null
    }]);
    assert_eq!((connected.status, connected.json()), (200, expected));
    assert_eq!(sandbox.mailboxes().await, [json!(["jim@example.com", true, null])]);
    let refused = sandbox.request("DELETE", &format!("{PATH}/{id}"), None).await;
    assert_eq!((refused.status, refused.json()), (409, json!({"message": "CREDENTIAL_IN_USE"})));
    assert_eq!(sandbox.listed().await.len(), 1);

    let omitted = json!({"accounts": [{"mailbox_email": "pam@example.com"}]});
    assert_eq!(sandbox.request("POST", BULK, Some(omitted.clone())).await.status, 200, "there is only one");
    sandbox.create(json!({})).await;
    let ambiguous = sandbox.request("POST", BULK, Some(omitted)).await;
    assert_eq!((ambiguous.status, ambiguous.json()), (422, json!({"message": "CREDENTIAL_ID_REQUIRED"})));
    let unknown = sandbox.bulk(&json!(7), &["a@example.com"]).await;
    assert_eq!((unknown.status, unknown.json()), (422, json!({"message": "CREDENTIAL_NOT_FOUND"})));
    for body in [
        json!({}),
        json!({"accounts": [{"mailbox_email": "x"}]}),
        json!({"accounts": [], "auth_type": "SMTP"}),
    ] {
        assert_eq!(sandbox.request("POST", BULK, Some(body)).await.status, 422);
    }
    sandbox.request("POST", "/sandbox/clock", Some(json!({"now": "2028-01-01T00:00:00Z"}))).await;
    let expired = sandbox.bulk(&id, &["late@example.com"]).await.json();
    assert_eq!(
        (&expired[0]["success"], &expired[0]["error"]),
        (&json!(false), &json!("INVALID_CLIENT_SECRET"))
    );
}

#[tokio::test]
async fn magic_addresses_provoke_failures_of_single_mailboxes_and_of_whole_requests() {
    let sandbox = Sandbox::start(&[]).await;
    let id = sandbox.create(json!({})).await.json()["credential_id"].clone();
    let addresses = [
        "rejected@example.com",
        "rejected-without-error@example.com",
        "already-connected@example.com",
        "left-out@example.com",
        "no-slot@example.com",
        "conditionally@example.com",
    ];
    let response = sandbox.bulk(&id, &addresses).await;
    let shown = |it: &Value| json!([it["email"], it["success"], it["error"]]);
    let results: Vec<Value> = response.json().as_array().unwrap().iter().map(shown).collect();
    let expected = [
        json!(["rejected@example.com", false, "MAILBOX_REJECTED"]),
        json!(["rejected-without-error@example.com", false, null]),
        json!(["already-connected@example.com", false, "MAILBOX_ALREADY_CONNECTED"]),
        json!(["no-slot@example.com", true, null]),
        json!(["conditionally@example.com", true, null]),
    ];
    assert_eq!((response.status, results.as_slice()), (200, &expected[..]));
    let listed = [
        json!(["left-out@example.com", true, null]),
        json!(["no-slot@example.com", false, null]),
        json!(["conditionally@example.com", true, "Connected conditionally."]),
    ];
    assert_eq!(sandbox.mailboxes().await, listed);
    let again = sandbox.bulk(&id, &["LEFT-OUT@example.com"]).await.json();
    assert_eq!(again[0]["error"], "MAILBOX_ALREADY_CONNECTED");
    assert_eq!(sandbox.bulk(&id, &["created@example.com"]).await.status, 201);
    assert_eq!(sandbox.bulk(&id, &["sandbox-bad-gateway@example.com", "a@example.com"]).await.status, 502);
    assert_eq!(sandbox.mailboxes().await.len(), 4, "nothing was connected");
    assert_eq!(sandbox.bulk(&id, &["sandbox-internal-error-saved@example.com"]).await.status, 500);
    assert_eq!(sandbox.mailboxes().await.len(), 5, "it was connected");
}

#[tokio::test]
async fn an_agency_lists_its_companies_and_acts_for_them() {
    let sandbox = Sandbox::start(&[]).await;
    let all = sandbox.request("GET", COMPANIES, None).await.json();
    let paging = json!({"total_elements": 5, "total_pages": 1, "current_page_number": 1, "page_size": 50});
    assert_eq!((all["content"].as_array().unwrap().len(), &all["pagination_data"]), (5, &paging));
    let keys: Vec<&String> = all["content"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["active", "email_slots", "id", "linkedin_slots", "name", "owner", "running_campaigns"]);
    let former = sandbox.request("GET", &format!("{COMPANIES}?active=false"), None).await.json();
    assert_eq!(former["content"][0]["name"], "Former client");
    let second = sandbox.request("GET", &format!("{COMPANIES}?page=2"), None).await.json();
    assert_eq!(
        (&second["content"], &second["pagination_data"]["current_page_number"]),
        (&json!([]), &json!(2))
    );

    let create = async |company: &str, name: &str| {
        let headers = [("x-api-key", KEY), ("x-company-id", company)];
        let body = sample(json!({"name": name}));
        sandbox.request_with(&headers, "POST", PATH, Some(body)).await.status
    };
    assert_eq!(create("20000001", "of the first").await, 201);
    assert_eq!(create("20000003", "ignored").await, 201);
    assert_eq!(create("20000004", "refused").await, 404);
    assert_eq!(create("4711", "unknown").await, 422);
    let names = async |key: &str| -> Vec<Value> {
        let listed = sandbox.request_with(&[("x-api-key", key)], "GET", PATH, None).await.json();
        listed["credentials"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect()
    };
    assert_eq!(names(KEY).await, ["ignored"]);
    let own = "20000001.sandboxsandboxsandbox";
    assert_eq!(names(own).await, ["of the first"]);
    let headers = [("x-api-key", own), ("x-company-id", "20000002")];
    assert_eq!(sandbox.request_with(&headers, "GET", PATH, None).await.status, 422, "it is no agency");
    assert_eq!(sandbox.request_with(&[("x-api-key", own)], "GET", COMPANIES, None).await.status, 403);

    let company = format!("{COMPANIES}/20000001");
    let created = sandbox.request("POST", &format!("{company}/api_keys"), Some(json!({"label": "ci"}))).await;
    let key = created.json()["api_key"].as_str().unwrap().to_owned();
    assert_eq!((created.status, key.starts_with("20000001.")), (201, true), "{created:?}");
    assert_eq!(names(&key).await, ["of the first"]);
    let listed = sandbox.request("GET", &format!("{company}/api_keys"), None).await.json();
    assert_eq!(listed["content"][1], json!({"api_key": key, "label": "ci"}));
    for (path, body) in [("api_keys", json!({"label": ""})), ("api_keys", json!({})), ("api_keys", json!([]))]
    {
        assert_eq!(sandbox.request("POST", &format!("{company}/{path}"), Some(body)).await.status, 422);
    }
    for path in ["4711/api_keys", "x/api_keys", "4711/email_accounts"] {
        assert_eq!(sandbox.request("GET", &format!("{COMPANIES}/{path}"), None).await.status, 404, "{path}");
    }

    let body = json!({"accounts": [{"mailbox_email": "pam@example.com", "display_name": "Pam"}]});
    let headers = [("x-api-key", KEY), ("x-company-id", "20000001")];
    assert_eq!(sandbox.request_with(&headers, "POST", BULK, Some(body)).await.status, 200);
    let accounts = sandbox.request("GET", &format!("{company}/email_accounts"), None).await.json();
    let details = &accounts["content"][0]["details"];
    assert_eq!((&details["email"], &details["error"]), (&json!("pam@example.com"), &Value::Null));
    assert_eq!(sandbox.mailboxes().await, Vec::<Value>::new(), "not of the agency itself");
}

#[tokio::test]
async fn every_answer_beside_credentials_says_what_is_ours() {
    let sandbox = Sandbox::start(&[]).await;
    let document = sandbox.request("GET", "/openapi.json", None).await.json();
    let mut described = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        if path.starts_with("/sandbox") || path.starts_with(PATH) {
            continue;
        }
        for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
        {
            let text = operation["description"].as_str().unwrap_or_default().to_lowercase();
            assert!(text.contains("vendor") && text.contains("ours"), "{method} {path}: {text}");
            described += 1;
        }
    }
    assert_eq!(described, 7);
}
