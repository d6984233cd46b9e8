//! Who an account's API key belongs to, as information in its status. It never changes what the account can do.

use kube::Resource;

use crate::api::{AccountName, KeyIdentity, WoodpeckerAccount, WoodpeckerAccountStatus};
use crate::controller::account::requester;
use crate::controller::context::Context;
use crate::controller::error::ReconcileError;
use crate::controller::index::Pruned;
use crate::controller::status_writer::replace_status;
use crate::core::error_chain::chain;
use crate::core::key_identity::changed;
use crate::core::request_priority::RequestPriority;
use crate::core::status::account::AccountResult;
use crate::woodpecker::{AccountQueue, ApiError, QueueEntry, RemoteAccount};

/// Writes the identity of a usable account's key if it is new. Asks Woodpecker about a key once a day at most, and only
/// if nothing else waits for the account.
pub(super) async fn update(
    context: &Context,
    name: &AccountName,
    result: &AccountResult,
    queued_in: Option<&AccountQueue>,
) -> Result<(), ReconcileError> {
    let is_free = matches!(result, AccountResult::Ready) && queued_in.is_none();
    let Some(remote) = context.accounts.remote(name).filter(|_| is_free) else { return Ok(()) };
    let Some(identity) = learn(context, name, &remote).await else { return Ok(()) };
    let indexed = context.index.get::<WoodpeckerAccount>(name);
    let Some(object) = indexed.as_ref().and_then(|parsed| parsed.0.as_ref().ok()) else { return Ok(()) };
    let before = object.status.clone().unwrap_or_default();
    if before.key_identity.as_ref() == Some(&identity) {
        return Ok(());
    }
    let event = changed(before.key_identity.as_ref(), &identity);
    let status = WoodpeckerAccountStatus { key_identity: Some(identity), ..before };
    let written = replace_status(&context.client, &context.leadership, &(), object, &status).await?;
    if let Some(Pruned(written)) = written {
        context.on_written::<WoodpeckerAccount>(&written);
    }
    if let Some(event) = event {
        context.events.emit(&object.object_ref(&()), &event).await;
    }
    Ok(())
}

/// What is known about the key, or what Woodpecker says now.
async fn learn(context: &Context, name: &AccountName, remote: &RemoteAccount) -> Option<KeyIdentity> {
    let identities = &context.accounts.shared.key_identities;
    if let Some(known) = identities.of(&remote.own_identity) {
        return known.identity;
    }
    let entry =
        QueueEntry { requester: requester(name), priority: RequestPriority::Rename, is_failing: false };
    let permit = remote.queue.request_permit(&entry).ok()?;
    let slot = permit.slot().await.ok()?;
    // Another account with the key may have asked while this one waited for its slot.
    if let Some(known) = identities.of(&remote.own_identity) {
        return known.identity;
    }
    let response = remote.key_identity(&slot).await;
    if let Err(ApiError::NotLeading(_)) = &response {
        return None;
    }
    let identity = response.unwrap_or_else(|error| {
        tracing::debug!(error = chain(&error), "Woodpecker did not say who the API key belongs to");
        None
    });
    identities.put(&remote.own_identity, identity.clone());
    identity
}
