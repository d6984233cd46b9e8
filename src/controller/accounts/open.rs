//! Opens an account: is the address allowed, is there a key that can be sent?

use std::sync::Arc;

use super::pass::requested;
use crate::controller::context::Context;
use crate::controller::error::PassError;
use crate::controller::observed::Problem;
use crate::resources::conditions::Reason;
use crate::resources::{AccountName, WoodpeckerAccount};
use crate::secret::SecretText;
use crate::woodpecker::access::{self, AccessError};
use crate::woodpecker::{Client, RemoteAccount};

/// Makes the client of the account, or says why it cannot be used; keeps the one there is while nothing
/// that it is made of changed.
pub(super) async fn open(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
) -> Result<Result<Arc<RemoteAccount>, Problem>, PassError> {
    let accounts = &context.accounts;
    let access = async {
        let base_url = access::base_url(&object.spec, &accounts.allowed_base_urls)?;
        Ok((base_url, api_key(context, object, name).await?))
    };
    let (base_url, api_key) = match access.await {
        Ok(access) => access,
        Err(error) => return refusal(error).map(Err),
    };
    let client = Client {
        http: accounts.http.clone(),
        base_url,
        company_id: object.spec.company_id,
        api_key,
        time_out: context.rules.timing.woodpecker_call,
        leadership: context.leadership.clone(),
        metrics: context.metrics.clone(),
    };
    let natural = accounts.commons.identity(&client);
    let known = accounts.read(name, |account| {
        let ledger = &account.ledger;
        let is_company_honoured = ledger.company_honoured.as_ref() == Some(&natural);
        (account.remote().cloned(), ledger.one_with.clone(), is_company_honoured)
    });
    let (before, one_with, is_company_honoured) = known.unwrap_or_default();
    let one_with = one_with.filter(|one_with| one_with.own == natural).and_then(|one_with| {
        accounts.remote(&one_with.other).filter(|other| other.natural == one_with.others)
    });
    let wanted = match one_with {
        Some(other) => RemoteAccount::sharing(client, &other, &accounts.commons),
        None => RemoteAccount::new(client, &accounts.commons, is_company_honoured),
    };
    // What it is made of is the same, so it stays the same.
    Ok(Ok(before.filter(|before| before.is_like(&wanted)).unwrap_or_else(|| Arc::new(wanted))))
}

/// The API key: from its Secret where that changed, or was not read since the last listing but one, and else as it was read.
async fn api_key(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
) -> Result<SecretText, AccessError> {
    let max_age = context.rules.timing.listing_interval * 9 / 10;
    let known = context.accounts.read(name, |account| {
        let known = account.known.as_ref().filter(|known| {
            account.knows_key(max_age)
                && known.spec.as_ref() == Some(&object.spec)
                && known.requested == requested(object)
        });
        (known.and_then(|known| known.remote.clone()), account.secret_changes)
    });
    let (remote, changes) = known.unwrap_or_default();
    if let Some(remote) = remote {
        return Ok(remote.client.api_key.clone());
    }
    let read = access::api_key(&context.client, object).await;
    let uid = object.metadata.uid.as_deref();
    context.index.change_account(name, uid, |account| account.note_key(read.is_ok(), changes));
    read
}

/// What the account's condition says of it; an error where it may pass by itself.
fn refusal(error: AccessError) -> Result<Problem, PassError> {
    let message = error.to_string();
    let reason = match error {
        AccessError::BaseUrlNotAllowed(_) => Reason::BaseUrlNotAllowed,
        AccessError::NoSecret(_) | AccessError::Forbidden(_) | AccessError::NoKey { .. } => {
            Reason::ApiKeyMissing
        }
        AccessError::Stray { .. } => Reason::ApiKeyWhitespace,
        AccessError::Unreadable { name, source } => return Err(PassError::ReadSecret { name, source }),
    };
    Ok(Problem { reason, message })
}
