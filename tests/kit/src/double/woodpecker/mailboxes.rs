//! The mailboxes of an account: the listing and the bulk connection. The vendor documents only their success, so
//! everything else here is imagined.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::response::unprocessable;
use crate::double::http::HttpResponse;

/// ID of the first mailbox, as in the vendor's sample.
const FIRST_ID: i64 = 444_444;

/// The mailboxes of all accounts.
#[derive(Default)]
pub(crate) struct Mailboxes {
    /// The objects of the listing, by account.
    objects: BTreeMap<String, Vec<Value>>,
    /// The error of each address that cannot be connected.
    refused: BTreeMap<String, String>,
    /// The addresses that were submitted although the listing showed them.
    resubmitted: Vec<String>,
    assigned_ids: i64,
}

impl Mailboxes {
    pub(crate) fn set(&mut self, account: &str, objects: Vec<Value>) {
        self.objects.insert(account.to_owned(), objects);
    }

    pub(crate) fn of(&self, account: &str) -> Vec<Value> {
        self.objects.get(account).cloned().unwrap_or_default()
    }

    pub(crate) fn refuse(&mut self, address: &str, error: Option<&str>) {
        match error {
            Some(error) => self.refused.insert(address.to_owned(), error.to_owned()),
            None => self.refused.remove(address),
        };
    }

    pub(crate) fn resubmitted(&self) -> Vec<String> {
        self.resubmitted.clone()
    }

    pub(crate) fn list(&self, account: &str) -> HttpResponse {
        HttpResponse::json(200, &Value::from(self.of(account)))
    }

    /// Connects the mailboxes of a request with one of the account's credentials. A request may leave out the only one.
    pub(crate) fn connect(
        &mut self,
        account: &str,
        body: Option<&Map<String, Value>>,
        credentials: &[i64],
    ) -> HttpResponse {
        let Some(body) = body else { return unprocessable("INVALID_REQUEST_BODY") };
        let is_known = match body.get("credential_id") {
            None => credentials.len() == 1,
            Some(id) => id.as_i64().is_some_and(|id| credentials.contains(&id)),
        };
        if !is_known {
            return unprocessable("CREDENTIAL_NOT_FOUND");
        }
        let Some(submitted) = body.get("accounts").and_then(Value::as_array).filter(|all| !all.is_empty())
        else {
            return unprocessable("MISSING_ACCOUNTS");
        };
        let results: Vec<Value> = submitted.iter().map(|one| self.connect_one(account, one)).collect();
        HttpResponse::json(200, &Value::from(results))
    }

    fn connect_one(&mut self, account: &str, submitted: &Value) -> Value {
        let address = submitted["mailbox_email"].as_str().unwrap_or_default();
        let name = submitted["display_name"].as_str().unwrap_or(address);
        if self.shows(account, address) {
            self.resubmitted.push(address.to_owned());
        }
        if let Some(error) = self.refused.get(address) {
            return json!({"success": false, "email": address, "error": error});
        }
        let id = FIRST_ID + self.assigned_ids;
        self.assigned_ids += 1;
        let details = json!({
            "email": address, "provider": "CUSTOM", "login": address, "from_name": name, "error": null,
            "signature": "<div></div>", "freeze_account": [], "in_slot": true
        });
        let object = json!({"id": id, "type": "SMTP", "details": details});
        self.objects.entry(account.to_owned()).or_default().push(object);
        let deliverability = json!({"spf_correct": true, "dkim_correct": true});
        json!({
            "success": true, "id": id, "email": address, "name": name, "deliverability": deliverability,
            "error": null
        })
    }

    fn shows(&self, account: &str, address: &str) -> bool {
        let objects = self.objects.get(account).into_iter().flatten();
        let mut addresses = objects.filter_map(|object| object["details"]["email"].as_str());
        addresses.any(|known| known.eq_ignore_ascii_case(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(mailboxes: &mut Mailboxes, addresses: &[&str]) -> Value {
        let accounts: Vec<Value> = addresses.iter().map(|it| json!({"mailbox_email": it})).collect();
        let body = json!({"auth_type": "APP_ONLY", "credential_id": 7, "accounts": accounts});
        let response = mailboxes.connect("agency", body.as_object(), &[7]);
        serde_json::from_slice(&response.body).unwrap()
    }

    #[test]
    fn what_was_connected_is_listed_and_a_second_submission_is_noticed() {
        let mut mailboxes = Mailboxes::default();
        mailboxes.refuse("pam@example.com", Some("NO_MAILBOX"));
        let answer = connect(&mut mailboxes, &["jim@example.com", "pam@example.com"]);
        assert_eq!((&answer[0]["success"], &answer[0]["id"]), (&json!(true), &json!(FIRST_ID)));
        assert_eq!((&answer[1]["success"], &answer[1]["error"]), (&json!(false), &json!("NO_MAILBOX")));
        assert_eq!(mailboxes.of("agency").len(), 1);
        assert!(mailboxes.resubmitted().is_empty());
        connect(&mut mailboxes, &["JIM@example.com"]);
        assert_eq!(mailboxes.resubmitted(), ["JIM@example.com"]);
    }

    #[test]
    fn a_request_without_credential_or_mailboxes_is_rejected() {
        let mut mailboxes = Mailboxes::default();
        for body in [json!({}), json!({"credential_id": 8, "accounts": [{}]}), json!({"credential_id": 7})] {
            assert_eq!(mailboxes.connect("agency", body.as_object(), &[7]).status, 422, "{body}");
        }
        let body = json!({"accounts": [{"mailbox_email": "jim@example.com"}]});
        for (credentials, status) in [(&[7][..], 200), (&[7, 8], 422), (&[], 422)] {
            assert_eq!(mailboxes.connect("agency", body.as_object(), credentials).status, status);
        }
    }
}
