//! Observes a credential as the operator would, with the rights of a person: without the keyring, so whether the Secret
//! holds what is registered follows from its version.

use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use kube::api::{DynamicObject, ListParams};

use super::account::{Accounts, Looked};
use super::manifests::Manifests;
use super::report::{End, PlannedResult};
use super::sentences;
use crate::api::conditions::{Reason, whole_second};
use crate::api::{
    AccountName, ExpirySource, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, NamespacedName,
    ObservedSecret, SealedGraphCredential,
};
use crate::cli::kubernetes;
use crate::cli::woodpecker::Remote;
use crate::core::claims::{self, Candidate, resolve_claim};
use crate::core::model::{
    Claim, Content, Observed, OperatorPolicy, PreviousRegistration, Record, SealedRecord, Source,
    StepResults, Target, UsableSource,
};
use crate::core::plan::preview::preview;
use crate::core::remote::Entry;
use crate::core::secret_form;
use crate::k8s::client_secret::{self, ClientSecret};
use crate::k8s::secrets::{self, ReadError, SecretData};
use crate::store::record::record_name;

/// What all credentials of a plan share.
pub(super) struct Observer<'a> {
    pub(super) remote: &'a Remote,
    pub(super) manifests: &'a Manifests,
    pub(super) policy: &'a OperatorPolicy,
    pub(super) now: Timestamp,
}

// === impl Observer ===

impl Observer<'_> {
    /// Plans the object, which is as the API server would keep it.
    pub(super) async fn plan(
        &self,
        object: DynamicObject,
        accounts: &mut Accounts<'_>,
    ) -> anyhow::Result<PlannedResult> {
        let object: MicrosoftGraphCredential = match object.try_parse() {
            Ok(object) => object,
            Err(error) => {
                let problem =
                    format!("the operator cannot read it: fix the field that the error names ({error})");
                let end = End::not_ready(Reason::InvalidObject.as_str(), problem);
                return Ok(PlannedResult { steps: Vec::new(), assumptions: Vec::new(), end });
            }
        };
        let mut assumptions = Vec::new();
        let source = self.source(&object, &mut assumptions).await?;
        let (mut steps, mut end) = (Vec::new(), None);
        let mut observed = None;
        for wanted in destinations(&object, &source) {
            let looked = self.look_up(&object, wanted, accounts, &mut assumptions).await?;
            let mut state = match observed.take() {
                None => self.observe(&object, &source, &looked, &mut assumptions).await?,
                Some(before) => Observed {
                    results: StepResults::default(),
                    cached_entries: None,
                    target: looked.target.clone(),
                    ..before
                },
            };
            let planned =
                preview(&mut state, looked.entries.as_deref(), self.policy, self.now, sentences::step);
            steps.extend(planned.steps);
            end = Some(sentences::end(planned.end.as_ref(), &state));
            observed = Some(state);
        }
        let end = end.unwrap_or_else(|| End::open("it has no destination"));
        Ok(PlannedResult { steps, assumptions, end })
    }

    async fn look_up(
        &self,
        object: &MicrosoftGraphCredential,
        wanted: Option<AccountName>,
        accounts: &mut Accounts<'_>,
        assumptions: &mut Vec<String>,
    ) -> anyhow::Result<Looked> {
        let Some(name) = wanted else {
            return Ok(Looked { target: Target::Store, entries: None, problem: None });
        };
        let looked = accounts.look_up(&name, object.namespace_name()).await?;
        if let Some(problem) = &looked.problem {
            assumptions.push(format!("it is not known what account {name} lists: {problem}"));
        }
        Ok(looked)
    }

    async fn observe(
        &self,
        object: &MicrosoftGraphCredential,
        source: &Source,
        looked: &Looked,
        assumptions: &mut Vec<String>,
    ) -> anyhow::Result<Observed> {
        let status = object.status_or_default();
        let record =
            if looked.target == Target::Store { Some(self.record(object, source).await?) } else { None };
        let claim = match &looked.target {
            Target::Ready(target) if !object.spec.is_suspended() => {
                self.claim(object, &target.location.account, assumptions).await?
            }
            _ => Claim::Granted,
        };
        let cached_entries = looked.entries.as_ref().map(|entries| related(object, &status, entries));
        let previous = status.previous_registrations.first().cloned();
        Ok(Observed {
            object: object.clone(),
            written: status.clone(),
            source: source.clone(),
            source_version: None,
            source_changed_at: None,
            previous_registration: previous.map(|registration| PreviousRegistration {
                registration,
                target: looked.target.clone(),
                is_reachable: true,
            }),
            target: looked.target.clone(),
            record,
            record_version: None,
            cached_entries,
            settles_in: settles_in(status.pending_create.is_some(), self.policy),
            change_settles_in: settles_in(
                status.registration.as_ref().is_some_and(|it| it.update_sent_time.is_some()),
                self.policy,
            ),
            claim,
            namespace_deleted_at: None,
            account_changed: false,
            has_unpersisted_changes: false,
            results: StepResults::default(),
            status,
        })
    }

    /// The Secret of the file, else of the cluster.
    async fn source(
        &self,
        object: &MicrosoftGraphCredential,
        assumptions: &mut Vec<String>,
    ) -> anyhow::Result<Source> {
        if object.is_deleted() || object.spec.is_suspended() {
            return Ok(Source::NotRead);
        }
        let (namespace, value) = (object.namespace_name(), client_secret::value(&object.spec.secret_ref));
        if let Some(data) = self.manifests.secret(namespace, value.secret) {
            return Ok(self.evaluate(object, data));
        }
        match secrets::read(&self.remote.cluster.client, namespace, value.secret).await {
            Ok(data) => Ok(self.evaluate(object, &data)),
            Err(ReadError::NotFound) => Ok(Source::Unusable(client_secret::not_found(object))),
            Err(ReadError::Forbidden) => {
                assumptions.push(format!(
                    "Secret {} holds a usable client secret and its expiry: you may not read it",
                    value.secret
                ));
                Ok(assumed(&object.status_or_default(), self.now))
            }
            Err(ReadError::Kube(error)) => {
                let advice = kubernetes::advice(&error, &format!("get Secret {namespace}/{}", value.secret));
                Err(anyhow::Error::from(error).context(advice))
            }
        }
    }

    fn evaluate(&self, object: &MicrosoftGraphCredential, data: &SecretData) -> Source {
        let ClientSecret { secret, expires_at, expiry_source } = match client_secret::of(data, object) {
            Ok(usable) => usable,
            Err(problem) => return Source::Unusable(problem),
        };
        let status = object.status_or_default();
        let is_known = is_observed(data, status.observed_secret.as_ref());
        let registration =
            status.registration.as_ref().filter(|_| is_known && status.pending_secret.is_none());
        let registered = registration.filter(|it| whole_second(it.expires_at.0) == whole_second(expires_at));
        let pending = status.pending_secret.as_ref().filter(|_| is_known);
        if expires_at <= self.now && registered.is_none() {
            return Source::Unusable(client_secret::already_expired(object, expires_at));
        }
        let known = registered.map(|it| it.fingerprint.clone()).or(pending.map(|it| it.fingerprint.clone()));
        Source::Usable(UsableSource {
            fingerprint: known.unwrap_or_default(),
            expires_at,
            expiry_source,
            is_registered: registered.is_some(),
            is_pending: pending.is_some(),
            form: secret_form::recognize(secret.expose(), &object.spec.tenant_id, &object.spec.client_id),
        })
    }

    /// The record, which holds the secret of the source if the status says so.
    async fn record(&self, object: &MicrosoftGraphCredential, source: &Source) -> anyhow::Result<Record> {
        let name =
            NamespacedName { namespace: object.namespace_name().to_owned(), name: record_name(object) };
        let live = kubernetes::find::<SealedGraphCredential>(&self.remote.cluster.client, &name).await?;
        let Some(live) = live.and_then(|live| live.try_parse::<SealedGraphCredential>().ok()) else {
            return Ok(Record::Missing);
        };
        let (spec, wanted) = (live.spec, &object.spec);
        if (&spec.tenant_id, &spec.client_id) != (&wanted.tenant_id, &wanted.client_id) {
            return Ok(Record::ForOtherApp { name: name.name });
        }
        let is_registered = matches!(source, Source::Usable(source) if source.is_registered);
        Ok(Record::ForApp(SealedRecord {
            credential_id: spec.credential_id,
            name: spec.name,
            expires_at: whole_second(spec.secret_expires_at.0),
            content: if is_registered { Content::SourceSecret } else { Content::AnotherSecret },
            is_under_primary: true,
            is_for_object: true,
        }))
    }

    /// Whether another object has the app at the account.
    async fn claim(
        &self,
        object: &MicrosoftGraphCredential,
        account: &AccountName,
        assumptions: &mut Vec<String>,
    ) -> anyhow::Result<Claim> {
        let client = self.remote.cluster.client.clone();
        let (tenant, app) = (&object.spec.tenant_id, &object.spec.client_id);
        let same_app =
            |it: &MicrosoftGraphCredential| it.spec.tenant_id == *tenant && it.spec.client_id == *app;
        let everywhere: Api<MicrosoftGraphCredential> = Api::all(client.clone());
        let others = match everywhere.list(&ListParams::default()).await {
            Ok(listed) => listed.items,
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                assumptions.push("no object in another namespace has this app: you may not list them".into());
                let here: Api<MicrosoftGraphCredential> = Api::namespaced(client, object.namespace_name());
                here.list(&ListParams::default()).await?.items
            }
            Err(error) => {
                let advice = kubernetes::advice(&error, "list MicrosoftGraphCredentials");
                return Err(anyhow::Error::from(error).context(advice));
            }
        };
        let own_name = NamespacedName::of(object);
        let candidate =
            |it: &MicrosoftGraphCredential| claims::candidate(it, |name| name == account, |_| true);
        let others: Vec<Candidate> = others
            .iter()
            .filter(|it| same_app(it) && NamespacedName::of(*it) != own_name)
            .filter_map(candidate)
            .collect();
        Ok(candidate(object).map_or(Claim::Granted, |own| resolve_claim(&own, &others)))
    }
}

/// The accounts where the plan has steps, in this order; `None` is the store. A new secret goes to the account of the
/// registration first, because mail depends on it until the new registration exists.
fn destinations(object: &MicrosoftGraphCredential, source: &Source) -> Vec<Option<AccountName>> {
    let (status, wanted) = (object.status_or_default(), object.account_name());
    if let Some(pending) = &status.pending_create {
        return vec![Some(pending.account.clone())];
    }
    let registered = status.registration.as_ref().and_then(|registration| registration.account.clone());
    let is_new = matches!(source, Source::Usable(source) if !source.is_registered);
    match registered {
        Some(registered)
            if is_new && Some(&registered) != wanted.as_ref() && status.consecutive_failures.is_none() =>
        {
            vec![Some(registered), wanted]
        }
        _ => vec![wanted],
    }
}

fn is_observed(data: &SecretData, observed: Option<&ObservedSecret>) -> bool {
    let read = data.version();
    observed.is_some_and(|it| (&it.uid, &it.resource_version) == (&read.uid, &read.resource_version))
}

/// A Secret that could not be read: it holds what is registered, or a new secret.
fn assumed(status: &MicrosoftGraphCredentialStatus, now: Timestamp) -> Source {
    let registration = status.registration.as_ref().filter(|_| status.pending_secret.is_none());
    Source::Usable(UsableSource {
        fingerprint: registration.map(|it| it.fingerprint.clone()).unwrap_or_default(),
        expires_at: registration.map_or(now + Duration::from_hours(24 * 365), |it| it.expires_at.0),
        expiry_source: status.expiry_source.unwrap_or(ExpirySource::Secret),
        is_registered: registration.is_some(),
        is_pending: status.pending_secret.is_some(),
        form: None,
    })
}

fn settles_in(is_open: bool, policy: &OperatorPolicy) -> Duration {
    if is_open { policy.timing.settle_period } else { Duration::ZERO }
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
