//! An account's credentials, listed at Woodpecker once and by the operator's own rules: an allow-list of addresses, the
//! key from the Secret beside the account, read-only.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};

use super::cluster;
use crate::app::kubernetes;
use crate::http::HttpClients;
use crate::leadership::Leadership;
use crate::resources::{AccountName, Place, WoodpeckerAccount};
use crate::settings::{BaseUrl, Timing, WayOutSettings, WoodpeckerSettings};
use crate::telemetry::logs::chain;
use crate::woodpecker::access::{self, AccessError};
use crate::woodpecker::{self, ApiError, Entry};

/// How accounts are reached.
#[derive(Debug, Args)]
pub(super) struct RemoteArgs {
    #[command(flatten)]
    woodpecker: WoodpeckerSettings,

    #[command(flatten)]
    way_out: WayOutSettings,
}

/// The way to the cluster and to Woodpecker.
pub(super) struct Remote {
    pub(super) client: Client,
    http: HttpClients,
    allowed: Vec<BaseUrl>,
}

/// What an account holds.
pub(super) struct Listed {
    pub(super) object: WoodpeckerAccount,
    pub(super) place: Place,
    pub(super) entries: Vec<Entry>,
}

/// Reads `NAMESPACE/NAME`.
pub(super) fn account_name(text: &str) -> Result<AccountName, &'static str> {
    let named =
        super::named(text).ok_or("it must be NAMESPACE/NAME of a WoodpeckerAccount, such as mail/agency")?;
    Ok(AccountName { namespace: named.namespace, name: named.name })
}

/// Namespace and name of an account that may be unreadable.
pub(super) fn name_of(account: &DynamicObject) -> AccountName {
    AccountName { namespace: account.namespace().unwrap_or_default(), name: account.name_any() }
}

// === impl Remote ===

impl Remote {
    pub(super) async fn connect(args: &RemoteArgs) -> anyhow::Result<Self> {
        let http = super::http_clients(&args.way_out)?;
        let client = kubernetes::connect(None, &Timing::STANDARD).await?.client;
        Ok(Self { client, http, allowed: args.woodpecker.base_urls.clone() })
    }

    /// The account of that name, or all of all namespaces.
    pub(super) async fn accounts(&self, wanted: Option<&AccountName>) -> anyhow::Result<Vec<DynamicObject>> {
        match wanted {
            Some(wanted) => Ok(vec![self.account(wanted).await?]),
            None => Ok(cluster::list::<WoodpeckerAccount>(&self.client, &[]).await?),
        }
    }

    /// The account of that name.
    pub(super) async fn account(&self, wanted: &AccountName) -> anyhow::Result<DynamicObject> {
        let kind = ApiResource::erase::<WoodpeckerAccount>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &wanted.namespace, &kind);
        let found = api.get_opt(&wanted.name).await;
        let found = found.with_context(|| {
            format!("failed to read WoodpeckerAccount {wanted}: you need the right to get it")
        })?;
        found.with_context(|| {
            format!(
                "there is no WoodpeckerAccount {wanted}: mend --account (kubectl get woodpeckeraccounts -A shows all)"
            )
        })
    }

    /// Lists what the account holds with one request, or says what is wrong and what to do.
    pub(super) async fn list(&self, account: &DynamicObject) -> Result<Listed, String> {
        let name = name_of(account);
        let object: WoodpeckerAccount = account
            .clone()
            .try_parse()
            .map_err(|error| format!("the object cannot be read: mend the field in question ({error})"))?;
        let base_url =
            access::base_url(&object.spec, &self.allowed).map_err(|error| no_access(&name, &error))?;
        let api_key =
            access::api_key(&self.client, &object).await.map_err(|error| no_access(&name, &error))?;
        let client = woodpecker::Client {
            http: self.http.clone(),
            base_url: base_url.clone(),
            company_id: object.spec.company_id,
            api_key,
            time_out: Timing::STANDARD.woodpecker_call,
            // Reading needs no lease: nothing is changed.
            leadership: Leadership::always(),
            metrics: Arc::default(),
        };
        let listed = client.list().await.map_err(|error| not_listed(&error))?;
        let key = client.api_key.expose();
        let entries = listed.into_iter().map(|credential| without(Entry::from(credential), key)).collect();
        let place =
            Place { account: name, base_url: base_url.to_string(), company_id: object.spec.company_id };
        Ok(Listed { object, place, entries })
    }
}

/// The entry without the key, where an answer says back what it was sent.
fn without(mut entry: Entry, key: &str) -> Entry {
    for text in [&mut entry.name, &mut entry.tenant, &mut entry.client] {
        if text.to_ascii_lowercase().contains(&key.to_ascii_lowercase()) {
            "[redacted]".clone_into(text);
        }
    }
    entry
}

/// What keeps the caller out, and what to do.
fn no_access(name: &AccountName, error: &AccessError) -> String {
    match error {
        AccessError::BaseUrlNotAllowed(url) => format!(
            "spec.baseUrl {url} is not on the allow-list: add --woodpecker-base-url {url} if its API key may be sent there"
        ),
        AccessError::Forbidden(secret) => format!(
            "you may not read Secret {secret}: ask for the right to get Secrets in namespace {}",
            name.namespace
        ),
        AccessError::NoSecret(_) | AccessError::NoKey { .. } | AccessError::Stray { .. } => error.to_string(),
        AccessError::Unreadable { .. } => format!("{}; try again", chain(error)),
    }
}

/// What came of the listing, and what to do.
fn not_listed(error: &ApiError) -> String {
    let cure = match error {
        ApiError::Unauthorized(_) => {
            "put a key of the account into the Secret that spec.apiKeySecretRef names"
        }
        ApiError::NotFound | ApiError::Refused { .. } => "check spec.baseUrl and spec.companyId",
        ApiError::Throttled(_) => "try again in some minutes",
        ApiError::Malformed(_) => "check that spec.baseUrl is the address of Woodpecker's API",
        ApiError::NotSent(_) | ApiError::Lost(_) | ApiError::Failed(_) => {
            "check the way out to the internet (HTTPS_PROXY, --dns-server, --extra-ca), and try again"
        }
        ApiError::Lane(_) | ApiError::NotLeading(_) | ApiError::Body(_) => "try again",
    };
    format!("{}: {cure}", chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_named_with_its_namespace() {
        assert_eq!(
            account_name("mail/agency").map(|name| name.to_string()).ok().as_deref(),
            Some("mail/agency")
        );
        for text in ["", "agency", "/agency", "mail/", "mail/a/b", "Mail/agency"] {
            assert!(account_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_that_an_answer_says_back_is_not_shown() {
        let entry = Entry {
            id: 1,
            tenant: "x.secret-key".into(),
            client: "c".into(),
            name: "n X.Secret-Key".into(),
            expires_at: None,
        };
        let entry = without(entry, "X.Secret-Key");
        assert_eq!((&*entry.tenant, &*entry.client, &*entry.name), ("[redacted]", "c", "[redacted]"));
    }
}
