//! Opens an account: is the address allowed, is there a key that can be sent?

use std::sync::Arc;

use super::ledger::OneWith;
use super::report::{AccountProblem, problem};
use crate::controller::context::Context;
use crate::controller::error::PassError;
use crate::resources::conditions::Reason;
use crate::resources::{AccountName, WoodpeckerAccount};
use crate::secret::SecretText;
use crate::secrets::{self, ReadError};
use crate::settings::BaseUrl;
use crate::woodpecker::{Client, ClientParts, RemoteAccount};

/// Makes the client of the account, or says why it cannot be used; keeps the one there is while nothing
/// that it is made of changed.
pub(super) async fn open(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
) -> Result<Result<Arc<RemoteAccount>, AccountProblem>, PassError> {
    let accounts = &context.accounts;
    let Some(base_url) =
        object.spec.base_url().parse::<BaseUrl>().ok().filter(|url| accounts.allowed_base_urls.contains(url))
    else {
        return Ok(Err(problem(
            Reason::BaseUrlNotAllowed,
            format!(
                "the operator does not send API keys to {}: its administrator must add it with --woodpecker-base-url",
                object.spec.base_url()
            ),
        )));
    };
    let api_key = match read_key(context, object).await? {
        Ok(key) => key,
        Err(problem) => return Ok(Err(problem)),
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

async fn read_key(
    context: &Context,
    object: &WoodpeckerAccount,
) -> Result<Result<SecretText, AccountProblem>, PassError> {
    let reference = &object.spec.api_key_secret_ref;
    let (name, key) = (&reference.name, reference.key());
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let missing = |text: String| Ok(Err(problem(Reason::ApiKeyMissing, text)));
    let data = match secrets::read(&context.client, namespace, name).await {
        Ok(data) => data,
        Err(ReadError::NotFound) => {
            return missing(format!(
                "there is no Secret {name} in this namespace: create it or mend spec.apiKeySecretRef.name"
            ));
        }
        Err(ReadError::Forbidden) => {
            return missing(format!(
                "the operator may not read Secret {name}: grant its ServiceAccount get on Secrets in this namespace"
            ));
        }
        Err(source @ ReadError::Kube(_)) => return Err(PassError::ReadSecret { name: name.clone(), source }),
    };
    let Some(bytes) = data.get(key).filter(|bytes| !bytes.expose().is_empty()) else {
        return missing(format!(
            "Secret {name} has no key {key} or it is empty: put the API key into it, or name the right key in spec.apiKeySecretRef.key"
        ));
    };
    // What is not ASCII cannot stand in a header either.
    match bytes.to_text().filter(|text| !text.has_stray_whitespace() && text.expose().is_ascii()) {
        Some(text) => Ok(Ok(text)),
        None => Ok(Err(problem(
            Reason::ApiKeyWhitespace,
            format!(
                "key {key} of Secret {name} holds a line break, white space around the value or other characters that no API key has: write the value without (echo -n, or stringData)"
            ),
        ))),
    }
}
