//! Requests to Woodpecker by the operator's rules: allowed URLs only, and the API key from the Secret in the account's
//! namespace. Read-only.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::api::reasons::Reason;
use crate::api::{AccountLocation, AccountName, WoodpeckerAccount};
use crate::cli::cluster::ClusterArgs;
use crate::cli::kubernetes;
use crate::config::{BaseUrl, EgressConfig, WoodpeckerSettings};
use crate::core::error_chain::chain;
use crate::core::remote::Entry;
use crate::core::timing::Timing;
use crate::http::client::HttpClients;
use crate::k8s::client::Cluster;
use crate::k8s::leadership::Leadership;
use crate::k8s::secrets::SecretData;
use crate::woodpecker::access::{self, AccessError};
use crate::woodpecker::{self, ApiError};

/// Settings of requests to Woodpecker.
#[derive(Debug, Args)]
pub(super) struct RemoteArgs {
    #[command(flatten)]
    cluster: ClusterArgs,

    #[command(flatten)]
    woodpecker: WoodpeckerSettings,

    #[command(flatten)]
    egress: EgressConfig,
}

/// The clients for the cluster and Woodpecker.
pub(super) struct Remote {
    pub(super) cluster: Cluster,
    http: HttpClients,
    allowed: Vec<BaseUrl>,
}

/// The credentials of an account.
pub(super) struct AccountListing {
    pub(super) object: WoodpeckerAccount,
    pub(super) location: AccountLocation,
    pub(super) entries: Vec<Entry>,
}

/// Reads `NAMESPACE/NAME`.
pub(super) fn account_name(text: &str) -> Result<AccountName, &'static str> {
    let named = super::parse_namespaced_name(text)
        .ok_or("it must be NAMESPACE/NAME of a WoodpeckerAccount, such as mail/agency")?;
    Ok(AccountName { namespace: named.namespace, name: named.name })
}

/// Namespace and name of an account that may be unreadable.
pub(super) fn name_of(account: &DynamicObject) -> AccountName {
    AccountName { namespace: account.namespace().unwrap_or_default(), name: account.name_any() }
}

// === impl Remote ===

impl Remote {
    pub(super) fn connect(args: &RemoteArgs) -> anyhow::Result<Self> {
        let http = super::http_clients(&args.egress)?;
        let cluster = args.cluster.connect(None, &Timing::STANDARD)?;
        Ok(Self { cluster, http, allowed: args.woodpecker.allowed_urls.clone() })
    }

    /// The account of that name, or else all accounts of these namespaces; of all namespaces if the list is empty.
    pub(super) async fn accounts(
        &self,
        wanted: Option<&AccountName>,
        namespaces: &[String],
    ) -> anyhow::Result<Vec<DynamicObject>> {
        match wanted {
            Some(wanted) => Ok(vec![self.account(wanted).await?]),
            None => kubernetes::list::<WoodpeckerAccount>(&self.cluster.client, namespaces).await,
        }
    }

    pub(super) async fn account(&self, wanted: &AccountName) -> anyhow::Result<DynamicObject> {
        let found = kubernetes::find::<WoodpeckerAccount>(&self.cluster.client, wanted).await?;
        found.with_context(|| {
            format!(
                "there is no WoodpeckerAccount {wanted}: fix --account (kubectl get woodpeckeraccounts -A lists all)"
            )
        })
    }

    /// Lists the account's credentials with one request. An error says what is wrong, and what to do.
    pub(super) async fn list(&self, account: &DynamicObject) -> Result<AccountListing, String> {
        self.list_with(account, None).await
    }

    /// The same with the API key in `secret` instead of the account's Secret in the cluster.
    pub(super) async fn list_with(
        &self,
        account: &DynamicObject,
        secret: Option<&SecretData>,
    ) -> Result<AccountListing, String> {
        let (object, client) = self.client(account, secret).await?;
        let listed =
            client.list().await.map_err(|error| problem(&error, "check spec.baseUrl and spec.companyId"))?;
        let key = client.api_key.expose();
        let entries = listed.into_iter().map(|entry| redact(entry, key)).collect();
        let location = AccountLocation {
            account: name_of(account),
            base_url: client.base_url.to_string(),
            company_id: object.spec.company_id,
        };
        Ok(AccountListing { object, location, entries })
    }

    /// The account, and a client with its API key or the one in `secret`. An error says what is wrong, and what to do.
    pub(super) async fn client(
        &self,
        account: &DynamicObject,
        secret: Option<&SecretData>,
    ) -> Result<(WoodpeckerAccount, woodpecker::Client), String> {
        let name = name_of(account);
        let object: WoodpeckerAccount = account.clone().try_parse().map_err(|error| {
            format!("the object cannot be read: fix the field that the error names ({error})")
        })?;
        let base_url = access::base_url(&object.spec, &self.allowed)
            .map_err(|error| access_problem(&name, &object, &error))?;
        let api_key = match secret {
            Some(secret) => access::api_key_in(secret, &object),
            None => access::api_key(&self.cluster.client, &object).await,
        };
        let api_key = api_key.map_err(|error| access_problem(&name, &object, &error))?;
        let client = woodpecker::Client {
            http: self.http.clone(),
            base_url,
            company_id: object.spec.company_id,
            api_key,
            time_out: Timing::STANDARD.woodpecker_call,
            // Reading needs no leadership.
            leadership: Leadership::always(),
            metrics: Arc::default(),
        };
        Ok((object, client))
    }
}

fn redact(mut entry: Entry, key: &str) -> Entry {
    for text in [&mut entry.name, &mut entry.tenant, &mut entry.client] {
        redact_text(text, key);
    }
    entry
}

/// Redacts a text in which the response echoes the API key.
pub(super) fn redact_text(text: &mut String, key: &str) {
    if text.to_ascii_lowercase().contains(&key.to_ascii_lowercase()) {
        "[redacted]".clone_into(text);
    }
}

/// Why the account cannot be accessed, and what to do.
fn access_problem(name: &AccountName, account: &WoodpeckerAccount, error: &AccessError) -> String {
    match error {
        AccessError::BaseUrlNotAllowed(url) => format!(
            "spec.baseUrl {url} is not on the allow-list: add --allowed-woodpecker-url {url} if its API key may be sent there"
        ),
        AccessError::Unusable { problem, .. } if problem.reason == Reason::AccessDenied => format!(
            "you may not read Secret {}: ask for the right to get Secrets in namespace {}",
            account.spec.api_key_secret_ref.name, name.namespace
        ),
        AccessError::Unusable { problem, .. } => problem.message.clone(),
        AccessError::Unreadable { .. } => format!("{}; try again", chain(error)),
    }
}

/// Why a request failed, and what to do; `if_rejected` is what to do if Woodpecker rejected its content.
pub(super) fn problem(error: &ApiError, if_rejected: &str) -> String {
    let action = match error {
        ApiError::NotInPlan { missing, .. } => {
            return format!("{}: {}; the API key itself may be right", chain(error), missing.remedy());
        }
        ApiError::Unauthorized(_) => {
            "write an API key of the account to the Secret that spec.apiKeySecretRef names"
        }
        ApiError::NotFound | ApiError::Rejected { .. } => if_rejected,
        ApiError::Throttled(_) => "try again in a few minutes",
        ApiError::Malformed(_) => "check that spec.baseUrl is the address of Woodpecker's API",
        ApiError::NotSent(_) | ApiError::Lost(_) | ApiError::Failed { .. } => {
            "check outbound connections (HTTPS_PROXY, --dns-server, --ca-bundle), and try again"
        }
        ApiError::Queue(_) | ApiError::NotLeading(_) | ApiError::GivenUp | ApiError::Body(_) => "try again",
    };
    format!("{}: {action}", chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_needs_namespace_and_name() {
        assert_eq!(
            account_name("mail/agency").map(|name| name.to_string()).ok().as_deref(),
            Some("mail/agency")
        );
        for text in ["", "agency", "/agency", "mail/", "mail/a/b", "Mail/agency"] {
            assert!(account_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_echoed_api_key_is_redacted() {
        let entry = Entry {
            id: 1,
            tenant: "x.secret-key".into(),
            client: "c".into(),
            name: "n X.Secret-Key".into(),
            expires_at: None,
        };
        let entry = redact(entry, "X.Secret-Key");
        assert_eq!((&*entry.tenant, &*entry.client, &*entry.name), ("[redacted]", "c", "[redacted]"));
    }
}
