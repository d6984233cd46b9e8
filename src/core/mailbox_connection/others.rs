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
}

/// Whether another object, which has that UID, keeps it from submitting them: no listing has shown yet what it submitted with
/// the credential, or a person has to look for one of them.
pub fn is_kept_from(intent: &Intent<'_>, other: &WoodpeckerMailboxesStatus, uid: &str) -> bool {
    let is_earlier = |pending: &PendingConnection| {
        intent.own.is_none_or(|(own, own_uid)| (pending.start_time.0, uid) < (own.start_time.0, own_uid))
    };
    let is_unproven = other.proven_credential_id != Some(intent.credential_id);
    let pending = other.pending.as_ref().filter(|_| is_unproven);
    let of_credential = pending.filter(|it| {
        it.credential_id == intent.credential_id && it.base_url == intent.base_url && is_earlier(it)
    });
    let mut unlisted =
        other.mailboxes.iter().filter(|it| it.unlisted.is_some() && it.credential_id.is_some());
    of_credential.is_some() || unlisted.any(|mailbox| intent.emails.contains(&mailbox.email))
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

    #[test]
    fn an_object_waits_for_what_another_one_submitted_until_a_listing_shows_it() {
        let emails = ["jim@example.com".to_owned()];
        let own: PendingConnection = serde_json::from_value(pending("2026-11-30T00:00:05Z", 7)).unwrap();
        let intent = |own| Intent { credential_id: 7, base_url: "https://a.example", emails: &emails, own };
        let (unwritten, written) = (intent(None), intent(Some((&own, "b"))));
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
            let found = [unwritten, written].map(|intent| is_kept_from(&intent, &other, "a"));
            assert_eq!(found, before_and_after_the_write, "{what}");
        }
    }

    #[test]
    fn a_mailbox_that_a_person_has_to_look_for_is_not_submitted_by_another_object() {
        let mailbox = |email: &str, change: Value| {
            let mut mailbox = json!({"email": email, "state": "Stopped"});
            mailbox.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            status(&json!({"mailboxes": [mailbox]}))
        };
        let emails = ["jim@example.com".to_owned()];
        let intent = Intent { credential_id: 7, base_url: "https://a.example", emails: &emails, own: None };
        let (lost, there_before) = (json!({"unlisted": true, "credentialId": 7}), json!({"unlisted": true}));
        assert!(is_kept_from(&intent, &mailbox("jim@example.com", lost.clone()), "a"));
        assert!(!is_kept_from(&intent, &mailbox("pam@example.com", lost), "a"));
        assert!(!is_kept_from(&intent, &mailbox("jim@example.com", there_before), "a"));
        assert!(!is_kept_from(&intent, &mailbox("jim@example.com", json!({"credentialId": 7})), "a"));
    }
}
