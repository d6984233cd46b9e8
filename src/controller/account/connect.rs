//! Connects to an account: checks its base URL and reads its API key.

use std::sync::Arc;

use jiff::Timestamp;

use crate::api::conditions::Reason;
use crate::api::{AccountName, WoodpeckerAccount};
use crate::controller::account::reconcile::requested;
use crate::controller::context::Context;
use crate::controller::error::ReconcileError;
use crate::core::model::ConditionFailure;
use crate::core::secret_value::arrival_time_left;
use crate::core::status::account::AccountResult;
use crate::core::timing::Timing;
use crate::secret_text::SecretText;
use crate::woodpecker::access::{self, AccessError};
use crate::woodpecker::{Client, RemoteAccount};

/// Creates the client of the account, or returns the result that it cannot be used. An unchanged account keeps its
/// client.
pub(super) async fn open(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
) -> Result<Result<Arc<RemoteAccount>, AccountResult>, ReconcileError> {
    let accounts = &context.accounts;
    let access = async {
        let base_url = access::base_url(&object.spec, &accounts.allowed_base_urls)?;
        Ok((base_url, api_key(context, object, name).await?))
    };
    let (base_url, api_key) = match access.await {
        Ok(access) => access,
        Err(error) => return result_of(error, object, &context.policy.timing).map(Err),
    };
    let client = Client {
        http: accounts.http.clone(),
        base_url,
        company_id: object.spec.company_id,
        api_key,
        time_out: context.policy.timing.woodpecker_call,
        leadership: context.leadership.clone(),
        metrics: context.metrics.clone(),
    };
    let own_identity = accounts.shared.identity(&client);
    let known = accounts.read(name, |account| {
        let consistency = &account.consistency;
        let is_company_separate = consistency.separate_company.as_ref() == Some(&own_identity);
        (account.remote().cloned(), consistency.alias_of.clone(), is_company_separate)
    });
    let (before, alias_of, is_company_separate) = known.unwrap_or_default();
    let alias_of = alias_of.filter(|alias_of| alias_of.own == own_identity).and_then(|alias_of| {
        accounts.remote(&alias_of.other).filter(|other| other.own_identity == alias_of.others)
    });
    let wanted = match alias_of {
        Some(other) => RemoteAccount::alias_of(client, &other, &accounts.shared),
        None => RemoteAccount::new(client, &accounts.shared, is_company_separate),
    };
    // An equal client is kept, because clients are compared by pointer.
    Ok(Ok(before.filter(|before| before.is_equivalent(&wanted)).unwrap_or_else(|| Arc::new(wanted))))
}

/// The API key. It is read from its Secret if that changed or was not read within about one listing interval.
async fn api_key(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
) -> Result<SecretText, AccessError> {
    let max_age = context.policy.timing.listing_interval * 9 / 10;
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
    context.index.change_account(name, uid, |account| account.record_key_read(read.is_ok(), changes));
    read
}

/// The result of the account for this error; an error if it may be temporary.
fn result_of(
    error: AccessError,
    object: &WoodpeckerAccount,
    timing: &Timing,
) -> Result<AccountResult, ReconcileError> {
    match error {
        AccessError::BaseUrlNotAllowed(_) => Ok(AccountResult::Unusable(ConditionFailure {
            reason: Reason::BaseUrlNotAllowed,
            message: error.to_string(),
        })),
        AccessError::Unusable { problem, changed_at } => {
            let created = object.metadata.creation_timestamp.as_ref().map(|created| created.0);
            let since = created.into_iter().chain(changed_at);
            Ok(match arrival_time_left(problem.reason, since, timing.secret_arrival, Timestamp::now()) {
                Some(left) => AccountResult::AwaitingKey(problem, left),
                None => AccountResult::Unusable(problem),
            })
        }
        AccessError::Unreadable { name, source } => Err(ReconcileError::ReadSecret { name, source }),
    }
}
