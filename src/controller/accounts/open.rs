//! Opens an account: is the address allowed, is there a key that can be sent?

use std::sync::Arc;

use super::ledger::OneWith;
use super::report::{AccountProblem, problem};
use crate::controller::context::Context;
use crate::controller::error::PassError;
use crate::resources::conditions::Reason;
use crate::resources::{AccountName, WoodpeckerAccount};
use crate::woodpecker::access::{self, AccessError};
use crate::woodpecker::{Client, ClientParts, RemoteAccount};

/// Makes the client of the account, or says why it cannot be used; keeps the one there is while nothing
/// that it is made of changed.
pub(super) async fn open(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
) -> Result<Result<Arc<RemoteAccount>, AccountProblem>, PassError> {
    let accounts = &context.accounts;
    let base_url = match access::base_url(&object.spec, &accounts.allowed_base_urls) {
        Ok(base_url) => base_url,
        Err(error) => return refusal(error).map(Err),
    };
    let api_key = match access::api_key(&context.client, object).await {
        Ok(api_key) => api_key,
        Err(error) => return refusal(error).map(Err),
    };
    let client = Client::new(ClientParts {
        http: accounts.http.clone(),
        base_url,
        company_id: object.spec.company_id,
        api_key,
        time_out: context.rules.timing.woodpecker_call,
        leadership: context.leadership.clone(),
        metrics: context.metrics.clone(),
    });
    let natural = accounts.commons.identity(&client);
    let (one_with, company_honoured) = accounts
        .ledgers()
        .get(name)
        .map(|ledger| (ledger.one_with.clone(), ledger.company_honoured.clone()))
        .unwrap_or_default();
    let (before, one_with) = {
        let known = accounts.lock();
        let remote_of = |name: &AccountName| known.get(name).and_then(|known| known.remote.clone());
        let is_still = |other: &Arc<RemoteAccount>, one_with: &OneWith| {
            one_with.own == natural && accounts.commons.identity(other.client()) == one_with.others
        };
        let one_with = one_with.and_then(|one| remote_of(&one.other).filter(|other| is_still(other, &one)));
        (remote_of(name), one_with)
    };
    let wanted = if let Some(other) = one_with {
        RemoteAccount::sharing(client, &other)
    } else {
        let is_company_honoured = company_honoured.as_ref() == Some(&natural);
        RemoteAccount::new(client, &accounts.commons, is_company_honoured)
    };
    // What it is made of is the same, so it stays the same.
    Ok(Ok(before.filter(|before| before.is_like(&wanted)).unwrap_or_else(|| Arc::new(wanted))))
}

/// What the account's condition says of it; an error where it may pass by itself.
fn refusal(error: AccessError) -> Result<AccountProblem, PassError> {
    let message = error.to_string();
    let reason = match error {
        AccessError::BaseUrlNotAllowed(_) => Reason::BaseUrlNotAllowed,
        AccessError::NoSecret(_) | AccessError::Forbidden(_) | AccessError::NoKey { .. } => {
            Reason::ApiKeyMissing
        }
        AccessError::Stray { .. } => Reason::ApiKeyWhitespace,
        AccessError::Unreadable { name, source } => return Err(PassError::ReadSecret { name, source }),
    };
    Ok(problem(reason, message))
}
