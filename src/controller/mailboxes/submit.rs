//! Submits mailboxes: writes the intent, sends the request, and applies what came of it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::api::conditions::whole_second;
use crate::api::timestamp::Time;
use crate::api::{
    MailboxPolicy, MicrosoftGraphCredential, WoodpeckerAccount, WoodpeckerAccountSpec, WoodpeckerMailboxes,
};
use crate::controller::error::ReconcileError;
use crate::controller::mailboxes::others::waits_for_another;
use crate::controller::mailboxes::reconcile::Session;
use crate::controller::mailboxes::target::{Connection, registration};
use crate::core::error_chain::chain;
use crate::core::mailbox_connection as connection;
use crate::core::status::mailboxes::Standing;
use crate::woodpecker::{ApiError, ConnectError, Effect, NewMailbox, Permit};

/// Submits these mailboxes, which a listing that began at `listed_at` lacks, unless one of them may have been submitted
/// since. Returns when to continue. If the process ends meanwhile, the next one finds the intent in the status, and looks them
/// up.
pub(super) async fn submit(
    session: &mut Session<'_>,
    target: &Connection,
    permit: Permit,
    emails: Vec<String>,
    listed_at: Instant,
) -> Result<Duration, ReconcileError> {
    let (submissions, timing) = (&session.context.submissions, &session.context.policy.timing);
    let own = target.account.as_submission_target();
    let Some(mut reserved) = submissions.reserve(&own, &emails, listed_at) else {
        return Ok(timing.mailbox_listing_grace);
    };
    let before = session.status.clone();
    if let Err(error) = write_intent(session, target, &emails).await {
        submissions.release(&own, &emails, reserved);
        return Err(error);
    }
    let result = match permit.slot().await {
        // The wait for the slot may have been long.
        Ok(_) if !may_still_submit(session, target, &emails, listed_at) => {
            (session.status, session.has_result) = (before, true);
            submissions.release(&own, &emails, reserved);
            return Ok(timing.mailbox_listing_grace);
        }
        Ok(slot) => {
            // The wait for the slot does not count.
            submissions.record(&own, &emails);
            let mailboxes = new_mailboxes(&session.object, &emails);
            let remote = &target.account.remote;
            let result = remote.connect_mailboxes(&slot, target.registration.credential_id, &mailboxes).await;
            reserved = submissions.record(&own, &emails);
            result
        }
        Err(error) => Err(ConnectError::from(ApiError::from(error))),
    };
    drop(permit);
    session.has_result = true;
    let (status, now) = (&mut session.status, Timestamp::now());
    match result {
        Ok(results) => connection::apply_results(status, &results, timing, now),
        Err(ConnectError { error, text }) => {
            tracing::warn!(error = chain(&error), mailboxes = emails.len(), "failed to connect mailboxes");
            match error.effect() {
                // They are looked up once the request can no longer take effect.
                Effect::Unknown => {}
                Effect::NotApplied if is_refusal(&error) => {
                    let text = text.unwrap_or_else(|| error.to_string());
                    connection::apply_refusal(status, text, timing, now);
                }
                Effect::NotApplied => {
                    *status = before;
                    submissions.release(&own, &emails, reserved);
                    return Ok(timing.blocked_poll);
                }
            }
        }
    }
    // The next request follows at once.
    Ok(Duration::ZERO)
}

async fn write_intent(
    session: &mut Session<'_>,
    target: &Connection,
    emails: &[String],
) -> Result<(), ReconcileError> {
    confirm_unchanged(session, target).await?;
    let start = Time(whole_second(Timestamp::now()));
    let pending = target.account.pending(target.registration.credential_id, emails.to_vec(), start);
    connection::begin(&mut session.status, pending);
    match session.write(&Standing::Submitting).await {
        Ok(_) => Ok(()),
        Err(error) if is_lost(&error) => read_back(session, error).await,
        Err(error) => Err(error),
    }
}

/// Whether the API server may have applied the write.
fn is_lost(error: &ReconcileError) -> bool {
    matches!(error, ReconcileError::WriteStatus(error) if !matches!(error, kube::Error::Api(status) if status.code < 500))
}

/// Continues with the intent if it is in the cluster. Otherwise, nothing was sent, and no attempt is counted.
async fn read_back(session: &mut Session<'_>, error: ReconcileError) -> Result<(), ReconcileError> {
    let live = session.context.read::<WoodpeckerMailboxes>(session.own).await;
    let live = live.map_err(ReconcileError::ReadObject)?;
    let is_stored = |live: &WoodpeckerMailboxes| {
        let (seen, now) = (&session.object.metadata, &live.metadata);
        let pending = live.status.as_ref().and_then(|status| status.pending.as_ref());
        seen.uid == now.uid && seen.generation == now.generation && pending == session.status.pending.as_ref()
    };
    let Some(live) = live.filter(is_stored) else { return Err(error) };
    tracing::info!(error = chain(&error), "the status was written, and only the response was lost");
    session.status = live.status.clone().unwrap_or_default();
    session.object = live;
    Ok(())
}

/// Whether everything still allows the request, as the watches show it, and the listing is recent.
fn may_still_submit(
    session: &Session<'_>,
    target: &Connection,
    emails: &[String],
    listed_at: Instant,
) -> bool {
    let (index, timing) = (&session.context.index, &session.context.policy.timing);
    let object = index.get::<WoodpeckerMailboxes>(session.own);
    let object = object.as_ref().and_then(|parsed| parsed.0.as_ref().ok());
    let credential = index.get::<MicrosoftGraphCredential>(&target.credential);
    let credential = credential.as_ref().and_then(|parsed| parsed.0.as_ref().ok());
    let account = index.get::<WoodpeckerAccount>(&target.account.name);
    let account = account.as_ref().and_then(|parsed| parsed.0.as_ref().ok());
    object.is_some_and(|object| is_wanted(object, session.object.metadata.uid.as_deref(), emails))
        && credential.is_some_and(|credential| is_registered(credential, target))
        && account.is_some_and(|account| allows(account, &target.account.uid, &target.account.spec))
        && waits_for_another(session, target, emails).is_none()
        && listed_at.elapsed() <= timing.listing_max_age
}

/// Whether the credential is still registered under the same ID.
fn is_registered(credential: &MicrosoftGraphCredential, target: &Connection) -> bool {
    registration(credential).is_ok_and(|(now, _)| now.credential_id == target.registration.credential_id)
}

/// Whether the object, which has that UID, still asks for these mailboxes.
fn is_wanted(object: &WoodpeckerMailboxes, uid: Option<&str>, emails: &[String]) -> bool {
    object.metadata.uid.as_deref() == uid
        && object.metadata.deletion_timestamp.is_none()
        && object.spec.policy() == MailboxPolicy::Connect
        && !object.spec.is_suspended()
        && emails.iter().all(|email| object.spec.mailboxes.iter().any(|it| it.email == *email))
}

/// Whether the account is as it was, and allows connections.
fn allows(account: &WoodpeckerAccount, uid: &str, seen: &WoodpeckerAccountSpec) -> bool {
    account.metadata.uid.as_deref() == Some(uid)
        && account.metadata.deletion_timestamp.is_none()
        && account.spec == *seen
        && account.spec.allows_connecting()
}

fn new_mailboxes<'a>(object: &'a WoodpeckerMailboxes, emails: &[String]) -> Vec<NewMailbox<'a>> {
    let submitted = object.spec.mailboxes.iter().filter(|mailbox| emails.contains(&mailbox.email));
    let new = submitted.map(|it| NewMailbox { email: &it.email, display_name: it.display_name.as_deref() });
    new.collect()
}

/// Whether Woodpecker has refused the request, rather than not received it.
fn is_refusal(error: &ApiError) -> bool {
    !matches!(
        error,
        ApiError::Queue(_) | ApiError::NotLeading(_) | ApiError::NotSent(_) | ApiError::Throttled(_)
    )
}

/// Reads the object, its credential and the account before an irreversible step, because the watches may lag.
async fn confirm_unchanged(session: &Session<'_>, target: &Connection) -> Result<(), ReconcileError> {
    let context = session.context;
    let live = context.read::<WoodpeckerMailboxes>(session.own).await;
    let live = live.map_err(ReconcileError::ReadObject)?;
    let is_unchanged = live.is_some_and(|live| {
        let (seen, now) = (&session.object.metadata, &live.metadata);
        seen.uid == now.uid && seen.resource_version == now.resource_version
    });
    let credential = context.read::<MicrosoftGraphCredential>(&target.credential).await;
    let credential = credential.map_err(ReconcileError::ReadObject)?;
    let is_registered = credential.is_some_and(|live| is_registered(&live, target));
    let account = context.read::<WoodpeckerAccount>(&target.account.name).await;
    let account = account.map_err(ReconcileError::ReadAccount)?;
    let is_allowed = account.is_some_and(|live| allows(&live, &target.account.uid, &target.account.spec));
    if is_unchanged && is_registered && is_allowed { Ok(()) } else { Err(ReconcileError::Conflict) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn with_the_slot_held_only_what_is_still_asked_for_and_allowed_is_sent() {
        let emails = ["jim@example.com".to_owned()];
        let object = json!({
            "metadata": {"name": "team", "namespace": "mail", "uid": "1"},
            "spec": {
                "credentialRef": {"name": "sales-eu"}, "policy": "Connect",
                "mailboxes": [{"email": "jim@example.com"}, {"email": "pam@example.com"}]
            }
        });
        let changed = |change: &Value| -> WoodpeckerMailboxes {
            let mut object = object.clone();
            json_patch(&mut object, change);
            serde_json::from_value(object).unwrap()
        };
        assert!(is_wanted(&changed(&json!({})), Some("1"), &emails));
        for change in [
            json!({"metadata": {"uid": "2"}}),
            json!({"metadata": {"deletionTimestamp": "2026-11-30T00:00:00Z"}}),
            json!({"spec": {"policy": "Plan"}}),
            json!({"spec": {"suspend": true}}),
            json!({"spec": {"mailboxes": [{"email": "pam@example.com"}]}}),
        ] {
            assert!(!is_wanted(&changed(&change), Some("1"), &emails), "{change}");
        }
        let account = |connect: &str| -> WoodpeckerAccount {
            let spec = json!({"apiKeySecretRef": {"name": "key"}, "mailboxes": {"connect": connect}});
            serde_json::from_value(json!({"metadata": {"name": "agency", "uid": "3"}, "spec": spec})).unwrap()
        };
        let (allowed, denied) = (account("Allowed"), account("Denied"));
        assert!(allows(&allowed, "3", &allowed.spec) && !allows(&allowed, "4", &allowed.spec));
        assert!(!allows(&denied, "3", &allowed.spec) && !allows(&denied, "3", &denied.spec));
    }

    /// Sets the fields of `change`, at two levels.
    fn json_patch(object: &mut Value, change: &Value) {
        for (part, fields) in change.as_object().unwrap() {
            for (field, value) in fields.as_object().unwrap() {
                object[part][field] = value.clone();
            }
        }
    }

    #[test]
    fn only_a_write_that_may_have_been_applied_is_read_back() {
        let of = |code| {
            let status = kube::core::Status { code, ..kube::core::Status::default() };
            ReconcileError::WriteStatus(kube::Error::Api(Box::new(status)))
        };
        assert!(is_lost(&of(500)) && is_lost(&of(504)));
        assert!(!is_lost(&of(403)) && !is_lost(&of(422)) && !is_lost(&ReconcileError::Conflict));
    }
}
