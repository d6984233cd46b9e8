//! One pass over one account: is the address allowed, is there a key, does Woodpecker accept it?

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, Resource};

use super::Known;
use super::report::{Verdict, counts, problem, report};
use crate::controller::context::Context;
use crate::controller::error::PassError;
use crate::controller::guard::Outcome;
use crate::controller::index::Named;
use crate::controller::status::{ApplyError, apply};
use crate::controller::{backoff, jitter};
use crate::resources::conditions::Reason;
use crate::resources::{AccountName, WoodpeckerAccount};
use crate::secret::SecretText;
use crate::secrets::{self, ReadError};
use crate::settings::BaseUrl;
use crate::telemetry::logs::chain;
use crate::woodpecker::{ApiError, Client, ClientParts, Entry, RemoteAccount};

/// Looks at the account and tells the credentials that use it where that changed anything for them.
pub async fn run(context: &Context, own: &Named) -> Result<Outcome, PassError> {
    let timing = &context.rules.timing;
    let api: Api<WoodpeckerAccount> = Api::namespaced(context.client.clone(), &own.namespace);
    let Some(object) = api.get_opt(&own.name).await.map_err(PassError::ReadObject)? else {
        return Ok(Outcome { result: "gone", again_in: timing.resync });
    };
    let name = AccountName { namespace: own.namespace.clone(), name: own.name.clone() };
    let opened = match open(context, &object, &name).await? {
        Ok(remote) => {
            let listed = remote.list(listing_age(context, &name, &remote)).await;
            if let Err(ApiError::NotLeading(error)) = listed {
                return Err(PassError::NotLeading(error));
            }
            if let Err(error) = &listed {
                tracing::warn!(error = chain(error), "listing the account's credentials failed");
            }
            Ok((remote, listed))
        }
        Err(problem) => Err(problem),
    };
    let verdict = match &opened {
        Ok((_, listed)) => Verdict::of_listing(listed.as_ref()),
        Err(problem) => Verdict::Unusable(problem.clone()),
    };
    let failures =
        remember(context, &object, &name, &verdict, opened.as_ref().ok().map(|(remote, _)| remote.clone()));
    let listing = opened.as_ref().ok().and_then(|(_, listed)| listed.as_ref().ok());
    write(context, &api, &object, &name, &verdict, listing).await?;
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let again_in = match verdict {
        Verdict::Ready => jitter::shorten(uid, timing.listing_interval, 20),
        Verdict::Unreachable(_) => backoff::delay(timing, failures, uid),
        // A key may be refused for a moment; a Secret that changes calls at once.
        Verdict::Unusable(_) => timing.listing_interval,
    };
    Ok(Outcome { result: verdict.result(), again_in })
}

/// A listing of the interval serves all objects; a new key or an earlier failure wants a new one.
fn listing_age(context: &Context, name: &AccountName, remote: &Arc<RemoteAccount>) -> Duration {
    let known = context.accounts.lock();
    let Some(known) = known.get(name) else { return Duration::ZERO };
    let is_same = known.remote.as_ref().is_some_and(|before| Arc::ptr_eq(before, remote));
    let interval = context.rules.timing.listing_interval;
    if is_same && known.is_ready && known.failures == 0 { interval * 9 / 10 } else { Duration::ZERO }
}

/// Makes the client of the account, or says why it cannot be used; keeps the one there is while nothing
/// that it is made of changed.
async fn open(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
) -> Result<Result<Arc<RemoteAccount>, super::report::AccountProblem>, PassError> {
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
    Ok(Ok(Arc::new(RemoteAccount::new(client, &accounts.lanes))))
}

async fn read_key(
    context: &Context,
    object: &WoodpeckerAccount,
) -> Result<Result<SecretText, super::report::AccountProblem>, PassError> {
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

/// Keeps what credentials ask for, wakes them where their answer changed, and returns the failures in a row.
fn remember(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
    verdict: &Verdict,
    remote: Option<Arc<RemoteAccount>>,
) -> u32 {
    let mut accounts = context.accounts.lock();
    let before = accounts.remove(name);
    let failures = match verdict {
        Verdict::Ready | Verdict::Unusable(_) => 0,
        Verdict::Unreachable(_) => before.as_ref().map_or(0, |known| known.failures).saturating_add(1),
    };
    // Woodpecker being out of reach says nothing against the key: each request finds out for itself.
    let is_ready = !matches!(verdict, Verdict::Unusable(_));
    let remote = remote.or_else(|| before.as_ref().and_then(|known| known.remote.clone()));
    let is_news = before.as_ref().is_none_or(|before| {
        let same_remote = match (&before.remote, &remote) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        };
        before.is_ready != is_ready || before.spec != object.spec || !same_remote
    });
    accounts.insert(name.clone(), Known { spec: object.spec.clone(), remote, is_ready, failures });
    drop(accounts);
    if is_news {
        context.call_credentials_at(name);
    }
    failures
}

async fn write(
    context: &Context,
    api: &Api<WoodpeckerAccount>,
    object: &WoodpeckerAccount,
    name: &AccountName,
    verdict: &Verdict,
    listing: Option<&Vec<Entry>>,
) -> Result<(), PassError> {
    let managed = context.accounts.managed_ids(name);
    let is_named = |entry: &Entry| {
        let (tenant, client) = (entry.tenant.parse(), entry.client.parse());
        matches!((tenant, client), (Ok(tenant), Ok(client)) if !context.index.credentials_for(&tenant, &client).is_empty())
    };
    let counts = listing.map(|entries| counts(entries, &managed, is_named));
    let before = object.status.clone().unwrap_or_default();
    let report =
        report(&before, object.metadata.generation.unwrap_or_default(), verdict, counts, Timestamp::now());
    if report.status == before && object.status.is_some() {
        return Ok(());
    }
    match apply::<WoodpeckerAccount>(&context.leadership, api, object, &report.status).await {
        Ok(_) | Err(ApplyError::Gone) => {}
        Err(ApplyError::Conflict) => return Err(PassError::Conflict),
        Err(ApplyError::NotLeading(error)) => return Err(PassError::NotLeading(error)),
        Err(ApplyError::Encode(error)) => return Err(PassError::Encode(error)),
        Err(ApplyError::Kube(error)) => return Err(PassError::WriteStatus(error)),
    }
    if let Some(note) = report.note {
        context.events.publish(&object.object_ref(&()), &note).await;
    }
    Ok(())
}

// === impl Verdict ===

impl Verdict {
    fn of_listing(listed: Result<&Vec<Entry>, &ApiError>) -> Self {
        match listed {
            Ok(_) => Self::Ready,
            Err(ApiError::Unauthorized(_)) => Self::Unusable(problem(
                Reason::InvalidApiKey,
                "Woodpecker refuses the API key: make one under Marketplace > Integrations > API keys (the account needs that add-on) and put it into the Secret".into(),
            )),
            Err(ApiError::Malformed(_)) => Self::Unreachable(
                "Woodpecker's answer to the listing could not be understood, and is never taken for an empty account; the operator tries again".into(),
            ),
            Err(ApiError::NotFound | ApiError::Refused { .. }) => Self::Unreachable(
                "Woodpecker refuses to list the account's credentials: check spec.baseUrl and spec.companyId; the operator tries again".into(),
            ),
            Err(ApiError::Throttled(_) | ApiError::Lane(_)) => Self::Unreachable(
                "Woodpecker asked to slow down; the operator waits and tries again".into(),
            ),
            Err(ApiError::NotLeading(_) | ApiError::NotSent(_) | ApiError::Lost(_) | ApiError::Failed(_) | ApiError::Body(_)) => Self::Unreachable(
                "Woodpecker could not be reached or had a failure; the operator tries again. If it lasts, check the operator's way out to the internet".into(),
            ),
        }
    }
}
