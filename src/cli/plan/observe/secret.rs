//! The Secret of a planned credential: of the file, else of the cluster.

use std::time::Duration;

use jiff::Timestamp;

use super::Planner;
use crate::api::conditions::{Reason, whole_second};
use crate::api::{ExpirySource, MicrosoftGraphCredential, ObservedSecret, Registration, SecretRef};
use crate::cli::kubernetes;
use crate::core::model::{ConditionFailure, Source, UsableSource};
use crate::core::secret_form;
use crate::k8s::client_secret::{self, ClientSecret};
use crate::k8s::secrets::{self, ReadError, SecretData};

/// The Secret in the cluster.
enum Live {
    Found(SecretData),
    Missing,
    Forbidden,
}

// === impl Planner ===

impl Planner<'_> {
    pub(super) async fn source(
        &self,
        object: &MicrosoftGraphCredential,
        assumptions: &mut Vec<String>,
    ) -> anyhow::Result<Source> {
        if object.is_deleted() || object.spec.is_suspended() {
            return Ok(Source::NotRead);
        }
        let Some(reference) = &object.spec.secret_ref else { return Ok(created(object)) };
        let (namespace, name) = (object.namespace_name(), reference.name.as_str());
        let mut assume = |why: &str| {
            assumptions.push(format!("Secret {name} holds a usable client secret and its expiry: {why}"));
            Ok(assumed(object, self.now))
        };
        let live = self.live_secret(namespace, name).await?;
        match (self.manifests.secret(namespace, name), live) {
            (Some(Err(problem)), _) => {
                assume(&format!("the one in the file cannot be read, because {problem}"))
            }
            // The version in the cluster says whether the operator has read it.
            (Some(Ok(own)), Live::Found(live)) if has_same_values(own, &live, reference) => {
                Ok(self.evaluate(object, reference, &live, assumptions))
            }
            (Some(Ok(own)), _) => Ok(self.evaluate(object, reference, own, assumptions)),
            (None, Live::Found(live)) => Ok(self.evaluate(object, reference, &live, assumptions)),
            (None, Live::Forbidden) => assume("you may not read it"),
            (None, Live::Missing) => match self.manifests.source_of_secrets(namespace) {
                Some(source) => assume(&format!("{source} may create it")),
                None => Ok(Source::Unusable(client_secret::not_found(reference, object))),
            },
        }
    }

    async fn live_secret(&self, namespace: &str, name: &str) -> anyhow::Result<Live> {
        match secrets::read(&self.remote.cluster.client, namespace, name).await {
            Ok(data) => Ok(Live::Found(data)),
            Err(ReadError::NotFound) => Ok(Live::Missing),
            Err(ReadError::Forbidden) => Ok(Live::Forbidden),
            Err(ReadError::Kube(error)) => {
                let advice = kubernetes::advice(&error, &format!("get Secret {namespace}/{name}"));
                Err(anyhow::Error::from(error).context(advice))
            }
        }
    }

    fn evaluate(
        &self,
        object: &MicrosoftGraphCredential,
        reference: &SecretRef,
        data: &SecretData,
        assumptions: &mut Vec<String>,
    ) -> Source {
        let ClientSecret { secret, expiry } = match client_secret::of(data, reference, object) {
            Ok(usable) => usable,
            Err(problem) => return Source::Unusable(problem),
        };
        let status = object.status_or_default();
        let is_read = is_read(data, status.observed_secret.as_ref());
        let at_entra = status.entra.as_ref().filter(|_| is_read).and_then(|it| it.expires_at.as_ref());
        let expiry = expiry.or(at_entra.map(|at| (at.0, ExpirySource::Entra)));
        let (expires_at, expiry_source) =
            expiry.map_or((None, ExpirySource::Entra), |(at, source)| (Some(at), source));
        let is_same = |it: &&Registration| {
            it.fingerprint != Registration::UNKNOWN
                && Some(whole_second(it.expires_at.0)) == expires_at.map(whole_second)
        };
        let registration = status.registration.as_ref().filter(is_same);
        let registered = registration.filter(|_| is_read && status.pending_secret.is_none());
        let pending = status.pending_secret.as_ref().filter(|_| is_read);
        if registration.is_some() && !is_read {
            let name = &reference.name;
            assumptions.push(format!(
                "Secret {name} has a new client secret: it differs from the version that the operator has read"
            ));
        }
        if let Some(at) = expires_at.filter(|at| *at <= self.now && registered.is_none()) {
            return Source::Unusable(client_secret::already_expired(object, at, expiry_source));
        }
        let known = registered.map(|it| &it.fingerprint).or(pending.map(|it| &it.fingerprint));
        Source::Usable(UsableSource {
            fingerprint: known.cloned().unwrap_or_default(),
            expires_at,
            expiry_source,
            is_registered: registered.is_some(),
            is_pending: pending.is_some(),
            form: secret_form::recognize(secret.expose(), &object.spec.tenant_id, &object.spec.client_id),
            reading: None,
        })
    }
}

/// The client secret that the operator creates itself: the registered one, or none yet.
fn created(object: &MicrosoftGraphCredential) -> Source {
    let status = object.status_or_default();
    let current = status.rotation.as_ref().and_then(|rotation| rotation.current.as_ref());
    match (current, &status.registration) {
        (Some(current), Some(registration)) => Source::Usable(UsableSource {
            fingerprint: registration.fingerprint.clone(),
            expires_at: Some(current.expires_at.0),
            expiry_source: ExpirySource::Entra,
            is_registered: status.pending_secret.is_none(),
            is_pending: status.pending_secret.is_some(),
            form: None,
            reading: None,
        }),
        _ => Source::Unusable(ConditionFailure {
            reason: Reason::CreationPending,
            message: "the operator has not created a client secret yet".into(),
        }),
    }
}

/// Whether the values that the object uses are the same.
fn has_same_values(one: &SecretData, other: &SecretData, reference: &SecretRef) -> bool {
    let value = |data: &SecretData, key: &str| data.get(key).map(|bytes| bytes.expose().to_vec());
    [reference.client_secret_key(), reference.expires_at_key()]
        .into_iter()
        .all(|key| value(one, key) == value(other, key))
}

/// Whether the operator has read this version.
fn is_read(data: &SecretData, observed: Option<&ObservedSecret>) -> bool {
    let version = data.version();
    observed.is_some_and(|it| (&it.uid, &it.resource_version) == (&version.uid, &version.resource_version))
}

/// A Secret whose values are not known: it holds what is registered, or a new secret.
fn assumed(object: &MicrosoftGraphCredential, now: Timestamp) -> Source {
    let status = object.status_or_default();
    let registration = status.registration.as_ref().filter(|_| status.pending_secret.is_none());
    Source::Usable(UsableSource {
        fingerprint: registration.map(|it| it.fingerprint.clone()).unwrap_or_default(),
        expires_at: Some(registration.map_or(now + Duration::from_hours(24 * 365), |it| it.expires_at.0)),
        expiry_source: status.expiry_source.unwrap_or(ExpirySource::Secret),
        is_registered: registration.is_some(),
        is_pending: status.pending_secret.is_some(),
        form: None,
        reading: None,
    })
}
