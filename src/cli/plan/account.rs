//! The accounts of a plan: those of the file, else those of the cluster, each listed once.

use std::collections::HashMap;

use kube::api::DynamicObject;

use super::manifests::Manifests;
use super::report::{End, PlannedResult};
use crate::api::conditions::{ConditionStatus, ConditionType, find};
use crate::api::{AccountLocation, AccountName, NamespacedName, WoodpeckerAccount};
use crate::cli::kubernetes;
use crate::cli::woodpecker::{Remote, name_of};
use crate::core::model::{ReadyTarget, Target};
use crate::core::remote::Entry;

/// The accounts that were looked up.
pub(super) struct Accounts<'a> {
    remote: &'a Remote,
    manifests: &'a Manifests,
    known: HashMap<AccountName, Option<Account>>,
}

/// An account as it would be.
#[derive(Clone, Default)]
struct Account {
    object: Option<WoodpeckerAccount>,
    /// Its location, if it can be used.
    location: Option<AccountLocation>,
    /// What it lists, if that could be asked.
    entries: Option<Vec<Entry>>,
    /// Why it could not be listed.
    problem: Option<String>,
}

/// The target of a plan.
pub(super) struct Looked {
    pub(super) target: Target,
    pub(super) entries: Option<Vec<Entry>>,
    /// Why it is not known what the account lists.
    pub(super) problem: Option<String>,
}

// === impl Accounts ===

impl<'a> Accounts<'a> {
    pub(super) fn new(remote: &'a Remote, manifests: &'a Manifests) -> Self {
        Self { remote, manifests, known: HashMap::new() }
    }

    /// Adds an account of the file, and plans it.
    pub(super) async fn add(&mut self, object: DynamicObject) -> PlannedResult {
        let name = name_of(&object);
        let account = self.inspect(&object).await;
        let end = match (&account.problem, &account.entries) {
            (Some(problem), _) => End::not_ready("NotReady", problem.clone()),
            (None, Some(entries)) => {
                End::ready(format!("it is Ready: the account has {} credentials", entries.len()))
            }
            (None, None) => End::open("it could not be listed"),
        };
        self.known.insert(name, Some(account));
        let steps = vec!["list its credentials at Woodpecker with the API key".to_owned()];
        PlannedResult { steps, assumptions: Vec::new(), end }
    }

    /// Adds an account of the file that the API server rejects.
    pub(super) fn add_rejected(&mut self, name: NamespacedName) {
        self.known.insert(name, Some(Account::default()));
    }

    /// The account as target of an object in `namespace`.
    pub(super) async fn look_up(&mut self, name: &AccountName, namespace: &str) -> anyhow::Result<Looked> {
        if !self.known.contains_key(name) {
            let live = kubernetes::find::<WoodpeckerAccount>(&self.remote.cluster.client, name).await?;
            let account = match live {
                Some(object) => Some(self.inspect(&object).await),
                None => None,
            };
            self.known.insert(name.clone(), account);
        }
        let known = self.known.get(name).cloned().flatten();
        Ok(match known {
            None => Looked { target: Target::Missing(name.clone()), entries: None, problem: None },
            Some(account) => account.target(name, namespace),
        })
    }

    async fn inspect(&self, object: &DynamicObject) -> Account {
        let parsed: Option<WoodpeckerAccount> = object.clone().try_parse().ok();
        let key = parsed.as_ref().and_then(|account| {
            let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
            self.manifests.secret(namespace, &account.spec.api_key_secret_ref.name)
        });
        match self.remote.list_with(object, key).await {
            Ok(listing) => Account {
                object: parsed,
                location: Some(listing.location),
                entries: Some(listing.entries),
                problem: None,
            },
            Err(problem) => {
                let location =
                    parsed.as_ref().filter(|account| is_ready(account)).map(|account| AccountLocation {
                        account: name_of(object),
                        base_url: account.spec.base_url().to_owned(),
                        company_id: account.spec.company_id,
                    });
                Account { object: parsed, location, entries: None, problem: Some(problem) }
            }
        }
    }
}

/// Whether the operator says that the current spec is Ready.
fn is_ready(account: &WoodpeckerAccount) -> bool {
    let Some(status) = &account.status else { return false };
    Some(status.observed_generation) == account.metadata.generation
        && find(&status.conditions, ConditionType::Ready).is_some_and(|it| it.status == ConditionStatus::True)
}

// === impl Account ===

impl Account {
    fn target(self, name: &AccountName, namespace: &str) -> Looked {
        let Self { object, location, entries, problem } = self;
        let allows = object.as_ref().is_some_and(|account| account.spec.allows(&name.namespace, namespace));
        let target = match location {
            _ if object.is_some() && !allows => Target::NotAllowed(name.clone()),
            Some(location) => Target::Ready(ReadyTarget { location, may_create: true, may_adopt: true }),
            None => Target::NotReady(name.clone()),
        };
        Looked { target, entries, problem }
    }
}
