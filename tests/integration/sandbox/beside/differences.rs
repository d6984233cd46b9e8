//! Where the sandbox and the double differ: a list, so that a new difference is a decision, and one that is gone leaves it.
//! Clients must cope with both answers, because Woodpecker documents neither.

use super::super::*;
use super::served::{MAILBOXES, Served};

/// A question that Woodpecker's documentation does not answer.
struct Difference {
    question: &'static str,
    /// Why both answers are kept.
    reason: &'static str,
    sandbox: Value,
    double: Value,
}

const MIXED: &str = "Only INVALID_CLIENT_SECRET is documented, so each has constants of its own.";
const NO_STATUS: &str =
    "Neither status nor body is documented. Each has a form that Woodpecker uses elsewhere.";
const TYPE: &str =
    "The documented statuses are 401, 404, 422 and 500. The sandbox uses the standard one, like `serve`.";
const COMPANY_ID: &str = "Not documented. The sandbox names the reason, and the double has what a path has.";
const BULK_FAILS: &str = "Only success is documented, so all failures are made up.";

fn known() -> Vec<Difference> {
    let row = |question, reason, sandbox, double| Difference { question, reason, sandbox, double };
    let message = |constant: &str| json!([422, constant]);
    vec![
        row("a POST without tenant_id", MIXED, message("INVALID_TENANT_ID"), message("MISSING_TENANT_ID")),
        row(
            "a POST without a secret",
            MIXED,
            message("INVALID_CLIENT_SECRET"),
            message("MISSING_CLIENT_SECRET"),
        ),
        row("a POST of a list", MIXED, message("MALFORMED_REQUEST"), message("INVALID_REQUEST_BODY")),
        row(
            "a PATCH with half of a pair",
            MIXED,
            message("SECRET_AND_EXPIRY_REQUIRED_TOGETHER"),
            message("SECRET_AND_EXPIRY_BELONG_TOGETHER"),
        ),
        row("a PATCH with tenant_id", MIXED, message("UNKNOWN_FIELD"), message("FIELD_NOT_UPDATABLE")),
        row(
            "a DELETE of a credential in use",
            NO_STATUS,
            json!([409, {"message": "CREDENTIAL_IN_USE"}]),
            json!([409, {
                "code": "CREDENTIAL_IN_USE", "message": "The credential is used by an active mailbox", "details": []
            }]),
        ),
        row("a POST of plain text", TYPE, json!(415), json!(422)),
        row("an x-company-id of no company", COMPANY_ID, json!(422), json!(404)),
        row("a wrong mailbox", BULK_FAILS, json!("MAILBOX_REJECTED"), json!("NO_MAILBOX")),
        row("fields of its result", BULK_FAILS, json!(6), json!(3)),
        row("a mailbox connected twice", BULK_FAILS, json!([false, 1]), json!([true, 2])),
        row("a bulk request without mailboxes", BULK_FAILS, json!(200), json!(422)),
        row(
            "the provider of a Microsoft mailbox",
            "Not documented; the double has the one of the vendor's sample.",
            json!("OFFICE365"),
            json!("CUSTOM"),
        ),
    ]
}

/// The answers of one of the two, in the order of the list.
async fn answers(served: &Served) -> Vec<Value> {
    let id = served.created(json!({})).await;
    let item = format!("{PATH}/{id}");
    let mut answers = Vec::new();
    let without = |field: &str| {
        let mut body = sample(json!({}));
        body.as_object_mut().unwrap().remove(field);
        body
    };
    for (method, path, body) in [
        ("POST", PATH, without("tenant_id")),
        ("POST", PATH, without("client_secret")),
        ("POST", PATH, json!([1])),
        ("PATCH", &*item, json!({"client_secret": "x"})),
        ("PATCH", &*item, json!({"name": "x", "tenant_id": TENANT})),
    ] {
        let rejected = served.request(method, path, Some(body)).await;
        answers.push(json!([rejected.status, rejected.json()["message"]]));
    }
    served.use_credential(id).await;
    let in_use = served.request("DELETE", &item, None).await;
    answers.push(json!([in_use.status, in_use.json()]));
    let text = [served.key(), ("content-type", "text/plain")];
    answers.push(served.send(&text, "POST", PATH, Some(sample(json!({})))).await.status.into());
    let company = [served.key(), ("x-company-id", "4711")];
    answers.push(served.send(&company, "GET", PATH, None).await.status.into());
    let wrong = served.connect(id, &[served.wrong_mailbox]).await.json();
    answers.push(wrong[0]["error"].clone());
    answers.push(wrong[0].as_object().unwrap().len().into());
    served.connect(id, &["twice@example.com"]).await;
    let again = served.connect(id, &["TWICE@example.com"]).await.json();
    let listed = served.get(MAILBOXES).await;
    let is_it = |it: &&Value| {
        it["details"]["email"].as_str().is_some_and(|it| it.eq_ignore_ascii_case("twice@example.com"))
    };
    answers.push(json!([again[0]["success"], listed.as_array().unwrap().iter().filter(is_it).count()]));
    answers.push(served.connect(id, &[]).await.status.into());
    answers.push(listed[0]["details"]["provider"].clone());
    answers
}

#[tokio::test]
async fn the_differences_between_sandbox_and_double_are_known() {
    let (sandbox, double) = (Served::sandbox().await, Served::double().await);
    let found = answers(&sandbox).await.into_iter().zip(answers(&double).await);
    let known = known();
    assert_eq!(found.len(), known.len());
    for ((in_sandbox, in_double), difference) in found.zip(&known) {
        let Difference { question, reason, sandbox, double } = difference;
        assert_eq!((&in_sandbox, &in_double), (sandbox, double), "{question}. {reason}");
        assert_ne!(in_sandbox, in_double, "no longer a difference: {question}");
    }
}
