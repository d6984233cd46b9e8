//! Submits mailboxes: writes the intent, sends the request, and applies what came of it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::api::conditions::whole_second;
use crate::api::timestamp::Time;
use crate::api::{MailboxPolicy, MicrosoftGraphCredential, WoodpeckerAccount, WoodpeckerMailboxes};
use crate::controller::error::ReconcileError;
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
    if !submissions.reserve(&own, &emails, listed_at) {
        return Ok(timing.mailbox_listing_grace);
    }
    let before = session.status.clone();
    if let Err(error) = write_intent(session, target, &emails).await {
        submissions.release(&own, &emails);
        return Err(error);
    }
    let result = match permit.slot().await {
        Ok(slot) => {
            // The wait for the slot does not count.
            submissions.record(&own, &emails);
            let mailboxes = new_mailboxes(&session.object, &emails);
            let remote = &target.account.remote;
            let result = remote.connect_mailboxes(&slot, target.registration.credential_id, &mailboxes).await;
            submissions.record(&own, &emails);
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
                    submissions.release(&own, &emails);
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
    session.write(&Standing::Submitting).await?;
    Ok(())
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
        seen.uid == now.uid
            && seen.generation == now.generation
            && seen.resource_version == now.resource_version
            && now.deletion_timestamp.is_none()
            && live.spec.policy() == MailboxPolicy::Connect
    });
    let credential = context.read::<MicrosoftGraphCredential>(&target.credential).await;
    let credential = credential.map_err(ReconcileError::ReadObject)?;
    let is_registered = credential.is_some_and(|live| {
        registration(&live).is_ok_and(|(live, _)| live.credential_id == target.registration.credential_id)
    });
    let account = context.read::<WoodpeckerAccount>(&target.account.name).await;
    let account = account.map_err(ReconcileError::ReadAccount)?;
    let is_allowed = account.is_some_and(|live| {
        live.metadata.uid.as_ref() == Some(&target.account.uid)
            && live.metadata.deletion_timestamp.is_none()
            && live.spec == target.account.spec
            && live.spec.allows_connecting()
    });
    if is_unchanged && is_registered && is_allowed { Ok(()) } else { Err(ReconcileError::Conflict) }
}
