//! The accounts of a plan: those of the file, else those of the cluster, each listed once.

use std::collections::HashMap;

use kube::api::DynamicObject;

use super::manifests::Manifests;
use super::report::{End, PlannedResult};
use crate::api::conditions::{ConditionStatus, ConditionType, find};
use crate::api::{
    AccountLocation, AccountName, Labels, MicrosoftGraphCredential, Registration, WoodpeckerAccount,
};
use crate::cli::kubernetes;
use crate::cli::woodpecker::{Remote, name_of};
use crate::core::model::{ReadyTarget, Target};
use crate::core::remote::Entry;

/// The accounts that were looked up.
pub(super) struct Accounts<'a> {
    remote: &'a Remote,
    manifests: &'a Manifests,
    /// The namespaces that the operator serves; empty for all.
    served: Vec<String>,
    known: HashMap<AccountName, Known>,
}

/// What is known of an account.
#[derive(Clone)]
enum Known {
    Missing,
    /// It may not be read.
    Unreadable,
    /// The API server would reject it.
    Rejected,
    Found(Box<Account>),
}

/// An account as it would be.
#[derive(Clone)]
struct Account {
    object: WoodpeckerAccount,
    /// Whether it can be used, as far as is known.
    is_usable: bool,
    listing: Listing,
}

/// What an account lists, or why that is not known.
type Listing = Result<Vec<Entry>, String>;

/// The target of a plan.
pub(super) struct Lookup {
    pub(super) target: Target,
    /// `None` for the store, or if the target cannot be used.
    pub(super) entries: Option<Vec<Entry>>,
    /// What is assumed about it.
    pub(super) assumption: Option<String>,
}

// === impl Accounts ===

impl<'a> Accounts<'a> {
    pub(super) fn new(remote: &'a Remote, manifests: &'a Manifests, served: Vec<String>) -> Self {
        Self { remote, manifests, served, known: HashMap::new() }
    }

    /// Adds an account of the file, and plans it.
    pub(super) async fn add(&mut self, object: &DynamicObject) -> PlannedResult {
        let name = name_of(object);
        let steps = vec!["list its credentials at Woodpecker with the API key".to_owned()];
        let Ok(account) = object.clone().try_parse::<WoodpeckerAccount>() else {
            self.known.insert(name, Known::Rejected);
            let end = End::not_ready("InvalidObject", "the operator cannot read the object".to_owned());
            return PlannedResult { steps: Vec::new(), assumptions: Vec::new(), end };
        };
        let account = self.inspect(object, account).await;
        let end = match &account.listing {
            Ok(entries) => End::ready(format!("it is Ready: the account has {} credentials", entries.len())),
            Err(problem) if account.is_usable => End::open(problem),
            Err(problem) => End::not_ready("", problem.clone()),
        };
        self.known.insert(name, Known::Found(Box::new(account)));
        PlannedResult { steps, assumptions: Vec::new(), end }
    }

    /// Adds an account of the file that the API server rejects.
    pub(super) fn add_rejected(&mut self, name: AccountName) {
        self.known.insert(name, Known::Rejected);
    }

    /// The account as target of the object.
    pub(super) async fn look_up(
        &mut self,
        name: &AccountName,
        object: &MicrosoftGraphCredential,
    ) -> anyhow::Result<Lookup> {
        if !self.served.is_empty() && !self.served.contains(&name.namespace) {
            return Ok(Lookup::unusable(Target::NotServed(name.clone())));
        }
        if !self.known.contains_key(name) {
            let known = match kubernetes::find::<WoodpeckerAccount>(&self.remote.cluster.client, name).await {
                Ok(None) => Known::Missing,
                Ok(Some(live)) => match live.clone().try_parse() {
                    Ok(account) => Known::Found(Box::new(self.inspect(&live, account).await)),
                    Err(_) => Known::Rejected,
                },
                Err(error) if kubernetes::is_forbidden(&error) => Known::Unreadable,
                Err(error) => return Err(error),
            };
            self.known.insert(name.clone(), known);
        }
        Ok(match self.known.get(name) {
            None | Some(Known::Missing) => Lookup::unusable(Target::Missing(name.clone())),
            Some(Known::Rejected) => Lookup::unusable(Target::NotReady(name.clone())),
            Some(Known::Unreadable) => Lookup::assumed(name, object),
            Some(Known::Found(account)) => {
                let namespace = object.namespace_name();
                account.target(name, namespace, self.labels(account, namespace).await)
            }
        })
    }

    /// The labels of the namespace, if the account selects namespaces by them; an error if they are not known.
    async fn labels(&self, account: &Account, namespace: &str) -> Result<Option<Labels>, ()> {
        if account.object.spec.namespace_selector().is_none() {
            return Ok(None);
        }
        if self.manifests.creates_namespace(namespace) {
            return Err(());
        }
        kubernetes::namespace_labels(&self.remote.cluster.client, namespace).await.map_err(|_| ())
    }

    async fn inspect(&self, object: &DynamicObject, account: WoodpeckerAccount) -> Account {
        let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
        let secret = self.manifests.secret(namespace, &account.spec.api_key_secret_ref.name);
        let (is_readable, listing) = match secret {
            Some(Err(problem)) => (false, Err(format!("its Secret in the file cannot be used: {problem}"))),
            Some(Ok(secret)) => (true, self.remote.list_with(object, Some(secret)).await),
            None => (true, self.remote.list_with(object, None).await),
        };
        let is_usable = listing.is_ok() || !is_readable || is_ready(&account);
        Account { object: account, is_usable, listing: listing.map(|listing| listing.entries) }
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
    fn target(&self, name: &AccountName, namespace: &str, labels: Result<Option<Labels>, ()>) -> Lookup {
        let spec = &self.object.spec;
        let is_allowed = |labels: Option<&Labels>| spec.allows(&name.namespace, namespace, labels);
        let selected = labels.map(|labels| is_allowed(labels.as_ref()));
        if selected == Ok(false) {
            return Lookup::unusable(Target::NotAllowed(name.clone()));
        }
        let about = |problem: &String| format!("it is not known what account {name} lists: {problem}");
        let assumption = self.listing.as_ref().err().map(about);
        let assumption = assumption.or_else(|| {
            let is_assumed = selected.is_err() && !is_allowed(None);
            is_assumed.then(|| format!("the labels of namespace {namespace} let it use account {name}"))
        });
        if !self.is_usable {
            return Lookup { assumption, ..Lookup::unusable(Target::NotReady(name.clone())) };
        }
        let location = AccountLocation {
            account: name.clone(),
            base_url: self.object.spec.base_url().to_owned(),
            company_id: self.object.spec.company_id,
        };
        Lookup { target: ready(location), entries: self.listing.clone().ok(), assumption }
    }
}

// === impl Lookup ===

impl Lookup {
    pub(super) fn store() -> Self {
        Self::unusable(Target::Store)
    }

    fn unusable(target: Target) -> Self {
        Self { target, entries: None, assumption: None }
    }

    /// An account that may not be read: as it was when the object was registered there.
    fn assumed(name: &AccountName, object: &MicrosoftGraphCredential) -> Self {
        let status = object.status_or_default();
        let registered = status.registration.iter().chain(&status.previous_registrations);
        let known = registered.filter_map(Registration::location).find(|it| it.account == *name);
        let location = known.unwrap_or_else(|| AccountLocation {
            account: name.clone(),
            base_url: String::new(),
            company_id: None,
        });
        let assumption = format!("account {name} is Ready and allows this namespace: you may not read it");
        Self { target: ready(location), entries: None, assumption: Some(assumption) }
    }
}

fn ready(location: AccountLocation) -> Target {
    Target::Ready(ReadyTarget { location, may_create: true, may_adopt: true })
}
