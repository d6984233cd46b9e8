//! The documented rules.

use serde_json::{Value, json};

use super::*;
use crate::entra::Entra;
use crate::woodpecker::ExpiryEcho;

fn unprocessable(message: &str) -> (u16, Value) {
    (422, json!({ "message": message }))
}

#[tokio::test]
async fn responses_never_contain_the_secret() {
    let it = woodpecker().await;
    assert_eq!(status_and_body(&list(&it).await), (200, json!({ "credentials": [] })));

    let created = create(&it).await;
    let shown = json!({
        "credential_id": 22_334_455,
        "tenant_id": TENANT,
        "client_id": CLIENT,
        "secret_expires_at": EXPIRY,
        "name": "mail/sales-eu [0123456789ab]",
    });
    assert_eq!(status_and_body(&created), (201, shown.clone()));
    assert_eq!(status_and_body(&list(&it).await), (200, json!({ "credentials": [shown] })));
    assert!(it.secret_matches("team", 22_334_455, "canary"));
    assert!(!it.secret_matches("team", 22_334_455, "other"));
}

#[tokio::test]
async fn two_creates_of_one_app_make_two_credentials() {
    let it = woodpecker().await;
    create(&it).await;
    send(&it, "POST", "", without("name")).await;
    let all = it.credentials("team");
    assert_eq!(all.iter().map(|it| it.credential_id).collect::<Vec<_>>(), [22_334_455, 22_334_456]);
    assert_eq!(all[1].name, "Microsoft Graph credential");
}

#[tokio::test]
async fn invalid_creates_are_rejected_with_the_field() {
    let it = woodpecker().await;
    for (field, constant) in [
        ("tenant_id", "MISSING_TENANT_ID"),
        ("client_id", "MISSING_CLIENT_ID"),
        ("client_secret", "MISSING_CLIENT_SECRET"),
        ("secret_expires_at", "MISSING_SECRET_EXPIRES_AT"),
    ] {
        assert_eq!(status_and_body(&send(&it, "POST", "", without(field)).await), unprocessable(constant));
    }
    for (field, value, constant) in [
        ("secret_expires_at", json!("soon"), "INVALID_SECRET_EXPIRES_AT"),
        ("tenant_id", json!(7), "INVALID_TENANT_ID"),
        ("name", Value::Null, "INVALID_NAME"),
        ("client_id", json!(""), "MISSING_CLIENT_ID"),
    ] {
        let mut body = create_body();
        body[field] = value;
        assert_eq!(status_and_body(&send(&it, "POST", "", body).await), unprocessable(constant));
    }
    assert_eq!(
        status_and_body(&send(&it, "POST", "", json!([1])).await),
        unprocessable("INVALID_REQUEST_BODY")
    );
    let text = [("x-api-key", "key"), ("content-type", "text/plain")];
    let url = format!("{}/v2/mailboxes/microsoft/credentials", it.base_url());
    let refused = client::send("POST", &url, &text, &create_body().to_string()).await;
    assert_eq!(status_and_body(&refused), unprocessable("INVALID_REQUEST_BODY"));
    assert!(it.credentials("team").is_empty());
    assert!(it.requests("team").iter().all(|it| !it.took_effect));
}

#[tokio::test]
async fn verification_leaves_no_record_at_entra() {
    let it = woodpecker().await;
    let entra = Entra::start().await;
    it.verify_with(&entra);
    assert_eq!(status_and_body(&create(&it).await), unprocessable("INVALID_CLIENT_SECRET"));

    entra.propagate_after(TENANT, CLIENT, "canary", 1);
    assert_eq!(status(&create(&it).await), 422, "not propagated, and no attempt used up");
    entra.set_secrets(TENANT, CLIENT, &["canary"]);
    assert_eq!(status(&create(&it).await), 201);
    assert!(entra.requests().is_empty());

    let change = json!({ "client_secret": "bad", "secret_expires_at": EXPIRY });
    it.verify_updates(true);
    assert_eq!(
        status_and_body(&send(&it, "PATCH", "/22334455", change.clone()).await),
        unprocessable("INVALID_CLIENT_SECRET")
    );
    it.verify_updates(false);
    assert_eq!(status(&send(&it, "PATCH", "/22334455", change).await), 200);
}

#[tokio::test]
async fn an_update_changes_secret_and_expiry_together_or_the_name_alone() {
    let it = woodpecker().await;
    let id = it.put("team", entry("old name"));
    let path = format!("/{id}");
    let together = unprocessable("SECRET_AND_EXPIRY_BELONG_TOGETHER");
    for half in [json!({ "client_secret": "new" }), json!({ "secret_expires_at": EXPIRY })] {
        assert_eq!(status_and_body(&send(&it, "PATCH", &path, half).await), together);
    }
    let fixed = send(&it, "PATCH", &path, json!({ "tenant_id": "t" })).await;
    assert_eq!(status_and_body(&fixed), unprocessable("FIELD_NOT_UPDATABLE"));
    assert!(it.secret_matches("team", id, "old"), "nothing changed so far");

    let new = json!({ "client_secret": "new", "secret_expires_at": "2028-01-01T00:00:00Z" });
    let (status_seen, shown) = status_and_body(&send(&it, "PATCH", &path, new).await);
    assert_eq!((status_seen, &shown["name"]), (200, &json!("old name")));
    assert_eq!(shown["secret_expires_at"], "2028-01-01T00:00:00Z");
    assert!(it.secret_matches("team", id, "new"));

    let (_, shown) = status_and_body(&send(&it, "PATCH", &path, json!({ "name": "n" })).await);
    assert_eq!((&shown["name"], &shown["tenant_id"]), (&json!("n"), &json!(TENANT)));
    assert!(it.secret_matches("team", id, "new"));
    assert_eq!(status(&send(&it, "PATCH", "/1", json!({ "name": "n" })).await), 404);
}

#[tokio::test]
async fn a_credential_in_use_is_not_deleted() {
    let it = woodpecker().await;
    let id = it.put("team", entry("n"));
    let path = format!("/{id}");
    it.mark_in_use(id);
    let (refused, body) = status_and_body(&send(&it, "DELETE", &path, Value::Null).await);
    assert_eq!((refused, &body["code"]), (409, &json!("CREDENTIAL_IN_USE")));
    it.in_use_status(422);
    assert_eq!(status(&send(&it, "DELETE", &path, Value::Null).await), 422);
    it.clear_in_use(id);
    assert_eq!(status_and_body(&send(&it, "DELETE", &path, Value::Null).await), (204, Value::Null));
    assert_eq!(status(&send(&it, "DELETE", &path, Value::Null).await), 404);
}

#[tokio::test]
async fn unknown_keys_and_paths_get_the_documented_problem() {
    let it = woodpecker().await;
    for (key, rest, expected, title, detail) in [
        ("nobody", "", 401, "Unauthorized", "Invalid api key"),
        ("key", "/", 404, "Not Found", "Requested resource does not exist"),
    ] {
        let (status, body) =
            status_and_body(&send_with(&it, &[("x-api-key", key)], "GET", rest, Value::Null).await);
        assert_eq!(status, expected);
        assert_eq!(
            (&body["title"], &body["status"], &body["detail"]),
            (&json!(title), &json!(expected), &json!(detail))
        );
        let timestamp = body["timestamp"].as_str().expect("a timestamp");
        assert!(jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", timestamp).is_ok(), "{timestamp}");
    }
    it.revoke_key("key");
    assert_eq!(status(&list(&it).await), 401);
    it.add_account("team", "second");
    assert_eq!(status(&send_with(&it, &[("x-api-key", "second")], "GET", "", Value::Null).await), 200);
}

#[tokio::test]
async fn a_company_is_an_account_of_its_own_unless_the_header_is_ignored() {
    let it = woodpecker().await;
    it.add_company("team", "4711");
    let company = [("x-api-key", "key"), ("x-company-id", "4711")];
    assert_eq!(status(&send_with(&it, &company, "POST", "", create_body()).await), 201);
    assert_eq!((it.credentials("team/4711").len(), it.credentials("team").len()), (1, 0));
    let unknown = [("x-api-key", "key"), ("x-company-id", "1")];
    assert_eq!(status(&send_with(&it, &unknown, "POST", "", create_body()).await), 404);

    it.ignore_company_header(true);
    assert_eq!(status(&send_with(&it, &company, "POST", "", create_body()).await), 201);
    assert_eq!((it.credentials("team/4711").len(), it.credentials("team").len()), (1, 1));
    assert_eq!(it.requests("team").last().and_then(|it| it.company.clone()).as_deref(), Some("4711"));
}

#[tokio::test]
async fn an_expiry_can_be_returned_in_another_format() {
    let it = woodpecker().await;
    it.expiry_echo(ExpiryEcho::Offset);
    let (_, shown) = status_and_body(&create(&it).await);
    assert_eq!(shown["secret_expires_at"], "2027-11-29T01:59:59.000+02:00");
    assert_eq!(it.credentials("team")[0].secret_expires_at, EXPIRY);
}
