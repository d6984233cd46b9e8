//! Opens an account: is the address allowed, is there a key that can be sent?

use std::sync::Arc;

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
    let before = accounts.lock().get(name).and_then(|known| known.remote.clone());
    if let Some(before) = before {
        let parts = before.client().parts();
        if parts.base_url == base_url
            && parts.company_id == object.spec.company_id
            && parts.api_key == api_key
        {
            return Ok(Ok(before));
        }
    }
    let client = Client::new(ClientParts {
        http: accounts.http.clone(),
        base_url,
        company_id: object.spec.company_id,
        api_key,
        time_out: context.rules.timing.woodpecker_call,
        leadership: context.leadership.clone(),
        metrics: context.metrics.clone(),
    });
    Ok(Ok(Arc::new(RemoteAccount::new(client, &accounts.lanes, &accounts.listings))))
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
