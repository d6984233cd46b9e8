//! What the requests of another `WoodpeckerMailboxes` mean for one that uses the same credential.

use crate::api::{PendingConnection, WoodpeckerMailboxesStatus};

/// What an object is about to submit with a credential that is not proven.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    pub credential_id: i64,
    pub base_url: &'a str,
    pub emails: &'a [String],
    /// Its own request, if that is written already, and its UID. Of two, the later one waits.
    pub own: Option<(&'a PendingConnection, &'a str)>,
    /// Whether a person, who has looked in Woodpecker, requests it.
    pub is_requested: bool,
}

/// What keeps an object from submitting mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// No listing has shown yet what the other object submitted with the credential.
    Pending,
    /// The other object has submitted one of the mailboxes, and no listing has shown it.
    Submitted,
}

/// Whether another object of the namespace, which has that UID, keeps it from submitting them.
pub fn obstacle(intent: &Intent<'_>, other: &WoodpeckerMailboxesStatus, uid: &str) -> Option<Obstacle> {
    let is_same = |credential_id: Option<i64>| credential_id == Some(intent.credential_id);
    let is_unproven = !is_same(other.proven_credential_id);
    let is_earlier = |pending: &PendingConnection| {
        intent.own.is_none_or(|(own, own_uid)| (pending.start_time.0, uid) < (own.start_time.0, own_uid))
    };
    let is_pending = other.pending.as_ref().is_some_and(|pending| {
        is_same(Some(pending.credential_id)) && pending.base_url == intent.base_url && is_earlier(pending)
    });
    if is_unproven && is_pending {
        return Some(Obstacle::Pending);
    }
    let of_spec = other.mailboxes.iter().filter(|it| it.unlisted.is_some() && is_same(it.credential_id));
    let left = other.left_connected.iter().filter(|it| is_same(it.credential_id));
    let left = left.filter(|it| is_unproven || it.unlisted.is_some());
    let mut submitted = of_spec.map(|it| &it.email).chain(left.map(|it| &it.email));
    let is_submitted = !intent.is_requested && submitted.any(|email| intent.emails.contains(email));
    is_submitted.then_some(Obstacle::Submitted)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(text: &Value) -> WoodpeckerMailboxesStatus {
        serde_json::from_value(text.clone()).unwrap()
    }

    fn pending(at: &str, credential_id: i64) -> Value {
        json!({
            "startTime": at, "credentialId": credential_id, "account": {"namespace": "mail", "name": "agency"},
            "accountUid": "1", "baseUrl": "https://a.example", "emails": ["pam@example.com"]
        })
    }

    fn intent(emails: &[String]) -> Intent<'_> {
        let base_url = "https://a.example";
        Intent { credential_id: 7, base_url, emails, own: None, is_requested: false }
    }

    #[test]
    fn an_object_waits_for_what_another_one_submitted_until_a_listing_shows_it() {
        let emails = ["jim@example.com".to_owned()];
        let own: PendingConnection = serde_json::from_value(pending("2026-11-30T00:00:05Z", 7)).unwrap();
        let unwritten = Intent { is_requested: true, ..intent(&emails) };
        let written = Intent { own: Some((&own, "b")), ..unwritten };
        for (what, other, before_and_after_the_write) in [
            ("earlier", json!({"pending": pending("2026-11-30T00:00:04Z", 7)}), [true, true]),
            ("at the same time", json!({"pending": pending("2026-11-30T00:00:05Z", 7)}), [true, true]),
            ("later", json!({"pending": pending("2026-11-30T00:00:06Z", 7)}), [true, false]),
            ("another credential", json!({"pending": pending("2026-11-30T00:00:04Z", 8)}), [false, false]),
            (
                "proven",
                json!({"pending": pending("2026-11-30T00:00:04Z", 7), "provenCredentialId": 7}),
                [false, false],
            ),
        ] {
            let other = status(&other);
            let found = [unwritten, written].map(|intent| obstacle(&intent, &other, "a"));
            let expected = before_and_after_the_write.map(|waits| waits.then_some(Obstacle::Pending));
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn a_mailbox_that_another_object_submitted_and_no_listing_shows_is_submitted_only_on_request() {
        let emails = ["jim@example.com".to_owned()];
        let jim = |change: Value| {
            let mut mailbox = json!({"email": "jim@example.com", "state": "Stopped"});
            mailbox.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            mailbox
        };
        let lost = jim(json!({"unlisted": true, "credentialId": 7}));
        for (what, other, is_kept) in [
            ("lost", json!({"mailboxes": [lost]}), true),
            (
                "with another credential",
                json!({"mailboxes": [jim(json!({"unlisted": true, "credentialId": 8}))]}),
                false,
            ),
            ("there before", json!({"mailboxes": [jim(json!({"unlisted": true}))]}), false),
            ("refused", json!({"mailboxes": [jim(json!({"credentialId": 7}))]}), false),
            (
                "left the spec",
                json!({"leftConnected": [{"email": "jim@example.com", "credentialId": 7}]}),
                true,
            ),
            (
                "left the spec, and listings show such mailboxes",
                json!({"leftConnected": [{"email": "jim@example.com", "credentialId": 7}], "provenCredentialId": 7}),
                false,
            ),
            (
                "lost, and left the spec",
                json!({
                    "leftConnected": [{"email": "jim@example.com", "credentialId": 7, "unlisted": true}],
                    "provenCredentialId": 7
                }),
                true,
            ),
            (
                "another address",
                json!({"leftConnected": [{"email": "pam@example.com", "credentialId": 7}]}),
                false,
            ),
        ] {
            let other = status(&other);
            let found = obstacle(&intent(&emails), &other, "a");
            assert_eq!(found, is_kept.then_some(Obstacle::Submitted), "{what}");
            let requested = Intent { is_requested: true, ..intent(&emails) };
            assert_eq!(obstacle(&requested, &other, "a"), None, "{what}");
        }
    }
}
