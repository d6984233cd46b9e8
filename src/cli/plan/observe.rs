//! Observes a credential as the operator would, with the rights of a person: without the keyring, so whether the Secret
//! holds what is registered follows from its version.

mod secret;

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DynamicObject;

use super::account::{Accounts, Lookup};
use super::manifests::Manifests;
use super::report::PlannedResult;
use super::sentences;
use crate::api::conditions::whole_second;
use crate::api::{
    AccountName, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, NamespacedName, Registration,
    SealedGraphCredential,
};
use crate::cli::kubernetes;
use crate::cli::woodpecker::Remote;
use crate::core::app_reading::AppAccess;
use crate::core::claims::{self, Candidate, resolve_claim};
use crate::core::model::{
    Claim, Content, Observed, OperatorPolicy, OwnSecrets, PreviousRegistration, Record, SealedRecord, Source,
    StepResults, Target,
};
use crate::core::plan::preview::preview;
use crate::core::remote::Entry;
use crate::core::rotation::SecretRecord;
use crate::store::record::record_name;

/// Plans the credentials of a file, one by one.
pub(super) struct Planner<'a> {
    pub(super) remote: &'a Remote,
    pub(super) manifests: &'a Manifests,
    pub(super) policy: &'a OperatorPolicy,
    pub(super) now: Timestamp,
    pub(super) accounts: Accounts<'a>,
    /// The credentials that were planned before.
    pub(super) earlier: Vec<MicrosoftGraphCredential>,
}

// === impl Planner ===

impl Planner<'_> {
    /// Plans the object, which is as the API server would keep it.
    pub(super) async fn plan(&mut self, object: MicrosoftGraphCredential) -> anyhow::Result<PlannedResult> {
        let mut assumptions = Vec::new();
        let source = self.source(&object, &mut assumptions).await?;
        let (mut steps, mut observed) = (Vec::new(), None);
        let mut end = sentences::unplanned();
        for wanted in self.destinations(&object, &source).await? {
            let lookup = self.look_up(&object, wanted, &mut assumptions).await?;
            let entries = lookup.entries.clone();
            let mut state = match observed.take() {
                None => self.observe(&object, &source, lookup, &mut assumptions).await?,
                Some(before) => Observed {
                    results: StepResults::default(),
                    cached_entries: None,
                    claim: self.claim(&object, &lookup.target, &mut assumptions).await?,
                    target: lookup.target,
                    ..before
                },
            };
            let planned = preview(&mut state, entries.as_deref(), self.policy, self.now, sentences::step);
            steps.extend(planned.steps);
            end = sentences::end(planned.end.as_ref(), &state, self.policy, self.now);
            observed = Some(state);
        }
        self.earlier.push(object);
        assumptions.dedup();
        Ok(PlannedResult { steps, assumptions, end })
    }

    /// The accounts where the plan has steps, in this order; `None` is the store. A new secret goes to the account of
    /// the registration first, because mail depends on it until the new registration exists.
    async fn destinations(
        &mut self,
        object: &MicrosoftGraphCredential,
        source: &Source,
    ) -> anyhow::Result<Vec<Option<AccountName>>> {
        let (status, wanted) = (object.status_or_default(), object.account_name());
        if let Some(pending) = &status.pending_create {
            return Ok(vec![Some(pending.account.clone())]);
        }
        let is_new = matches!(source, Source::Usable(source) if !source.is_registered);
        let registration =
            status.registration.as_ref().filter(|_| is_new && status.consecutive_failures.is_none());
        if let Some(registration) = registration
            && let Some(account) = registration.account.clone().filter(|it| Some(it) != wanted.as_ref())
            && self.accounts.look_up(&account, object).await?.target.matches(registration)
        {
            return Ok(vec![Some(account), wanted]);
        }
        Ok(vec![wanted])
    }

    async fn look_up(
        &mut self,
        object: &MicrosoftGraphCredential,
        wanted: Option<AccountName>,
        assumptions: &mut Vec<String>,
    ) -> anyhow::Result<Lookup> {
        let Some(name) = wanted else { return Ok(Lookup::store()) };
        let lookup = self.accounts.look_up(&name, object).await?;
        assumptions.extend(lookup.assumption.clone());
        Ok(lookup)
    }

    async fn observe(
        &mut self,
        object: &MicrosoftGraphCredential,
        source: &Source,
        lookup: Lookup,
        assumptions: &mut Vec<String>,
    ) -> anyhow::Result<Observed> {
        let status = object.status_or_default();
        let is_in_store = lookup.target == Target::Store;
        let record = if is_in_store { Some(self.record(object, source, assumptions).await?) } else { None };
        let settles_in =
            |is_open: bool| if is_open { self.policy.timing.settle_period } else { Duration::ZERO };
        let is_updating = status.registration.as_ref().is_some_and(|it| it.update_sent_time.is_some());
        let creates = object.spec.rotation.is_some() && matches!(source, Source::Unusable(_));
        if creates {
            assumptions.push("a grant of the EntraIdentity names this namespace and app".to_owned());
        }
        let access = if creates { AppAccess::Granted } else { AppAccess::NotKnown };
        Ok(Observed {
            object: object.clone(),
            written: status.clone(),
            source: source.clone(),
            source_version: None,
            source_changed_at: None,
            settles_in: settles_in(status.pending_create.is_some()),
            change_settles_in: settles_in(is_updating),
            previous_registration: self.previous_registration(object, &status).await?,
            record,
            record_version: None,
            cached_entries: lookup.entries.map(|entries| related(object, &status, &entries)),
            claim: self.claim(object, &lookup.target, assumptions).await?,
            target: lookup.target,
            namespace_deleted_at: None,
            // Which identities there are is the business of the operator's administrator.
            app_access: object.spec.entra.as_ref().map(|_| access),
            own_secrets: object.spec.rotation.as_ref().map(|_| OwnSecrets {
                record: SecretRecord::NotRead,
                is_outdated: false,
                other: None,
            }),
            is_reading_requested: false,
            account_changed: false,
            has_unpersisted_changes: false,
            results: StepResults::default(),
            status,
        })
    }

    async fn previous_registration(
        &mut self,
        object: &MicrosoftGraphCredential,
        status: &MicrosoftGraphCredentialStatus,
    ) -> anyhow::Result<Option<PreviousRegistration>> {
        let Some(registration) = status.previous_registrations.first().cloned() else { return Ok(None) };
        let Some(account) = &registration.account else { return Ok(None) };
        let target = self.accounts.look_up(account, object).await?.target;
        let is_reachable = target.matches(&registration);
        Ok(Some(PreviousRegistration { registration, target, is_reachable }))
    }

    /// The record, which holds the secret of the source if the status says so. Ordinary users may not read records.
    async fn record(
        &self,
        object: &MicrosoftGraphCredential,
        source: &Source,
        assumptions: &mut Vec<String>,
    ) -> anyhow::Result<Record> {
        let status = object.status_or_default();
        if status.registration.is_none() && status.observed_record.is_none() {
            return Ok(Record::NotRead);
        }
        let is_registered = matches!(source, Source::Usable(source) if source.is_registered);
        let content = if is_registered { Content::SourceSecret } else { Content::AnotherSecret };
        let sealed = |credential_id: i64, name: String, expires_at: Timestamp| {
            Record::ForApp(SealedRecord {
                credential_id,
                name,
                expires_at: whole_second(expires_at),
                content,
                is_under_primary: true,
                is_for_object: true,
            })
        };
        let name =
            NamespacedName { namespace: object.namespace_name().to_owned(), name: record_name(object) };
        let live = match kubernetes::find::<SealedGraphCredential>(&self.remote.cluster.client, &name).await {
            Ok(live) => live.and_then(|live| live.try_parse::<SealedGraphCredential>().ok()),
            Err(error) if kubernetes::is_forbidden(&error) => {
                assumptions
                    .push(format!("SealedGraphCredential {} is unchanged: you may not read it", name.name));
                let of_status =
                    |it: &Registration| sealed(it.credential_id, it.name.clone(), it.expires_at.0);
                return Ok(status.registration.as_ref().map_or(Record::NotRead, of_status));
            }
            Err(error) => return Err(error),
        };
        let Some(live) = live else { return Ok(Record::Missing) };
        let (spec, wanted) = (live.spec, &object.spec);
        let is_for_app = (&spec.tenant_id, &spec.client_id, spec.cloud.unwrap_or_default())
            == (&wanted.tenant_id, &wanted.client_id, wanted.cloud());
        if !is_for_app {
            return Ok(Record::ForOtherApp { name: name.name });
        }
        Ok(sealed(spec.credential_id, spec.name, spec.secret_expires_at.0))
    }

    /// Whether another object of the cluster or of the file has the app at the account. Accounts are compared by name.
    async fn claim(
        &self,
        object: &MicrosoftGraphCredential,
        target: &Target,
        assumptions: &mut Vec<String>,
    ) -> anyhow::Result<Claim> {
        let Target::Ready(target) = target else { return Ok(Claim::Granted) };
        let is_there = |name: &AccountName| *name == target.location.account;
        let candidate = |it: &MicrosoftGraphCredential| claims::candidate(it, is_there, |_| true);
        let Some(mut own) = candidate(object) else { return Ok(Claim::Granted) };
        let is_for_app = |it: &MicrosoftGraphCredential| {
            (&it.spec.tenant_id, &it.spec.client_id) == (&object.spec.tenant_id, &object.spec.client_id)
        };
        // Those of the file would be verified by then.
        let verified =
            |it: &MicrosoftGraphCredential| Some(Candidate { could_register: true, ..candidate(it)? });
        let mut others: Vec<Candidate> =
            self.earlier.iter().filter(|it| is_for_app(it)).filter_map(verified).collect();
        let planned: Vec<NamespacedName> =
            self.earlier.iter().chain([object]).map(NamespacedName::of).collect();
        // One that does not exist yet is the youngest.
        own.created = Timestamp::MAX;
        for live in self.live_credentials(object, assumptions).await? {
            if NamespacedName::of(&live) == NamespacedName::of(object) {
                own.created = live.creation_timestamp().map_or(Timestamp::MAX, |created| created.0);
            }
            if !planned.contains(&NamespacedName::of(&live))
                && let Ok(other) = live.try_parse::<MicrosoftGraphCredential>()
                && is_for_app(&other)
            {
                others.extend(candidate(&other));
            }
        }
        Ok(resolve_claim(&own, &others))
    }

    /// The credentials of all namespaces, else those of the object's own.
    async fn live_credentials(
        &self,
        object: &MicrosoftGraphCredential,
        assumptions: &mut Vec<String>,
    ) -> anyhow::Result<Vec<DynamicObject>> {
        let client = &self.remote.cluster.client;
        match kubernetes::list::<MicrosoftGraphCredential>(client, &[]).await {
            Err(error) if kubernetes::is_forbidden(&error) => {
                let assumption = "no object in another namespace has this app: you may not list them";
                assumptions.push(assumption.to_owned());
                kubernetes::list::<MicrosoftGraphCredential>(client, &[object.namespace_name().to_owned()])
                    .await
            }
            listed => listed,
        }
    }
}

/// The entries for the object's app or with one of its idempotency tokens.
fn related(
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    entries: &[Entry],
) -> Vec<Entry> {
    let token = status.registration.as_ref().and_then(|it| it.idempotency_token.as_deref());
    let spec = &object.spec;
    let is_related = |entry: &&Entry| {
        entry.is_for(&spec.tenant_id, &spec.client_id) || token.is_some_and(|token| entry.has_token(token))
    };
    entries.iter().filter(is_related).cloned().collect()
}
