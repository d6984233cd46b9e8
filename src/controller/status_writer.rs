//! Writes the whole status by PUT, conditional on uid and resource version.

use std::borrow::Cow;
use std::time::Duration;

use kube::api::{ObjectMeta, PostParams};
use kube::core::request::{Error as RequestError, Request};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::api::{
    CreateAttempt, CreatedSecret, EarlierSecret, FIELD_MANAGER, MicrosoftGraphCredential,
    MicrosoftGraphCredentialStatus, NamespacedName, PendingCreate, Registration,
};
use crate::controller::context::Context;
use crate::controller::error::{ReconcileError, Result};
use crate::controller::index::Pruned;
use crate::core::error_chain::chain;
use crate::core::model::Observed;
use crate::k8s::leadership::Leadership;

/// Writes the status once. Fails with [`ReconcileError::Conflict`] if the object changed since it was read: intents and
/// conditions must not be based on outdated state.
pub async fn write_status(
    context: &Context,
    observed: &mut Observed,
    status: MicrosoftGraphCredentialStatus,
) -> Result<()> {
    let written =
        replace_status(&context.client, &context.leadership, &(), &observed.object, &status).await?;
    let Pruned(object) = written.ok_or(ReconcileError::Deleted)?;
    context.on_written(&object);
    adopt_resource_version(observed, object);
    observed.written.clone_from(&status);
    observed.status = status;
    Ok(())
}

/// Writes an intent once. If the response was lost, reads whether it was written: a request that was not sent must not
/// look as if it might have been.
pub async fn persist_intent(
    context: &Context,
    observed: &mut Observed,
    status: MicrosoftGraphCredentialStatus,
) -> Result<()> {
    let intent = status.clone();
    let error = match write_status(context, observed, status).await {
        Err(error @ ReconcileError::WriteStatus(_)) => error,
        ended => return ended,
    };
    refetch(context, observed).await?;
    if adopt_if_written(observed, &intent) { Ok(()) } else { Err(error) }
}

/// Writes the result of a change at the destination, which must not be lost. Retries for at most
/// `timing.status_persist_timeout`, even if the object changed otherwise. It yields only to another writer of the
/// registration state, that is a second process.
pub async fn persist_result(
    context: &Context,
    observed: &mut Observed,
    status: MicrosoftGraphCredentialStatus,
) -> Result<()> {
    let deadline = Instant::now() + context.policy.timing.status_persist_timeout;
    let pause = context.policy.timing.status_persist_timeout / 600;
    loop {
        let error = match write_status(context, observed, status.clone()).await {
            Err(error @ (ReconcileError::Conflict | ReconcileError::WriteStatus(_))) => error,
            ended => return ended,
        };
        if !is_retryable(&error) || Instant::now() >= deadline {
            return Err(error);
        }
        tracing::info!(error = chain(&error), "retrying the status write");
        tokio::time::sleep(pause.max(Duration::from_millis(10))).await;
        match refetch(context, observed).await {
            Ok(()) => {}
            Err(ReconcileError::Deleted) => return Err(ReconcileError::Deleted),
            Err(error) => {
                tracing::info!(error = chain(&error), "failed to read the object again");
                continue;
            }
        }
        // The write may have been applied, with only its response lost.
        if adopt_if_written(observed, &status) {
            return Ok(());
        }
        if persisted_state(&observed.object.status_or_default()) != persisted_state(&observed.written) {
            tracing::error!("another process has changed the registration state; its version is kept");
            return Err(ReconcileError::Conflict);
        }
    }
}

/// Whether the object that was read again has the state to be written. Then it counts as written.
fn adopt_if_written(observed: &mut Observed, status: &MicrosoftGraphCredentialStatus) -> bool {
    let live = observed.object.status_or_default();
    let is_written = persisted_state(&live) == persisted_state(status);
    if is_written {
        observed.written = live;
        observed.status.clone_from(status);
    }
    is_written
}

/// What the status says about client secrets at Microsoft Entra.
type PersistedRotation<'a> = Option<(
    Option<&'a CreatedSecret>,
    Option<&'a CreatedSecret>,
    Option<&'a CreateAttempt>,
    &'a [EarlierSecret],
)>;

/// The persisted registration state. Only the operator writes it, one process at a time.
fn persisted_state(
    status: &MicrosoftGraphCredentialStatus,
) -> (Option<&Registration>, &[Registration], Option<&PendingCreate>, PersistedRotation<'_>) {
    let rotation = status.rotation.as_deref().map(|rotation| {
        (
            rotation.current.as_ref(),
            rotation.pending.as_ref(),
            rotation.attempt.as_ref(),
            rotation.earlier.as_slice(),
        )
    });
    let (registration, pending) = (status.registration.as_ref(), status.pending_create.as_deref());
    (registration, &status.previous_registrations, pending, rotation)
}

/// Whether the same write may succeed later: unless the API server rejects its content. Rights and tokens may change.
fn is_retryable(error: &ReconcileError) -> bool {
    match error {
        ReconcileError::WriteStatus(kube::Error::Api(status)) => !status.is_invalid() && status.code != 400,
        _ => true,
    }
}

/// Reads the object again; `None` if it was deleted or re-created.
async fn read(context: &Context, observed: &Observed) -> Result<Option<MicrosoftGraphCredential>> {
    let live: Option<MicrosoftGraphCredential> =
        context.read(&NamespacedName::of(&observed.object)).await.map_err(ReconcileError::ReadObject)?;
    Ok(live.filter(|live| live.metadata.uid == observed.object.metadata.uid))
}

async fn refetch(context: &Context, observed: &mut Observed) -> Result<()> {
    let live = read(context, observed).await?.ok_or(ReconcileError::Deleted)?;
    adopt_resource_version(observed, live);
    Ok(())
}

/// Reads the object before an irreversible step, because the watch may lag. Fails with [`ReconcileError::Conflict`] if
/// the object is no longer what the plan is based on.
pub async fn confirm_unchanged(context: &Context, observed: &Observed) -> Result<()> {
    let is_the_same = |live: &MicrosoftGraphCredential| {
        let seen = &observed.object;
        live.is_deleted() == seen.is_deleted()
            && live.spec.deletion_policy() == seen.spec.deletion_policy()
            && live.spec.is_suspended() == seen.spec.is_suspended()
            && persisted_state(&live.status_or_default()) == persisted_state(&observed.written)
    };
    let live = read(context, observed).await?;
    if live.is_some_and(|live| is_the_same(&live)) { Ok(()) } else { Err(ReconcileError::Conflict) }
}

/// Whether the object was deleted or re-created, by a GET.
pub async fn is_deleted(context: &Context, observed: &Observed) -> bool {
    matches!(read(context, observed).await, Ok(None))
}

/// Adopts what the next write needs. Spec, generation and annotations stay as at the start of this reconcile, because
/// later changes requeue the object.
fn adopt_resource_version(observed: &mut Observed, live: MicrosoftGraphCredential) {
    observed.object.metadata.resource_version = live.metadata.resource_version;
    observed.object.metadata.finalizers = live.metadata.finalizers;
    observed.object.status = live.status;
}

/// The body of a status write. It has no spec, because the API server ignores it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusWrite<'a, S> {
    api_version: Cow<'a, str>,
    kind: Cow<'a, str>,
    metadata: ObjectMeta,
    status: &'a S,
}

/// Replaces the status, conditional on uid and resource version. Returns the parsed response, or `None` if the object
/// does not exist.
pub(super) async fn replace_status<K: Resource, W: DeserializeOwned>(
    client: &Client,
    leadership: &Leadership,
    kind: &K::DynamicType,
    object: &K,
    status: &impl Serialize,
) -> Result<Option<W>> {
    leadership.check_write()?;
    let ObjectMeta { name, namespace, uid, resource_version, .. } = object.meta().clone();
    let path = K::url_path(kind, namespace.as_deref());
    let metadata = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
    let body = StatusWrite { api_version: K::api_version(kind), kind: K::kind(kind), metadata, status };
    let name = object.meta().name.as_deref().unwrap_or_default();
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let unwritten = |error| ReconcileError::WriteStatus(kube::Error::BuildRequest(error));
    let body = serde_json::to_vec(&body).map_err(|error| unwritten(RequestError::SerializeBody(error)))?;
    let request = Request::new(path).replace_subresource("status", name, &params, body).map_err(unwritten)?;
    match client.request(request).await {
        Ok(written) => Ok(Some(written)),
        // Any other 404 is about the path, not about the object.
        Err(kube::Error::Api(status))
            if status.is_not_found()
                && status.details.as_ref().is_some_and(|details| details.name == name) =>
        {
            Ok(None)
        }
        Err(kube::Error::Api(status)) if status.is_conflict() => Err(ReconcileError::Conflict),
        Err(error) => Err(ReconcileError::WriteStatus(error)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::k8s::leadership::testing::clock;

    #[tokio::test]
    async fn only_a_leader_writes() {
        let refuse = |_: http::Request<Body>| async { Err::<http::Response<Body>, _>("it is sent") };
        let client = Client::new(tower::service_fn(refuse), "mail");
        let leadership = Leadership::none(clock, Duration::from_secs(5));
        let object = ConfigMap {
            metadata: kube::api::ObjectMeta { name: Some("a".into()), ..Default::default() },
            ..ConfigMap::default()
        };
        let write = async || replace_status::<_, Value>(&client, &leadership, &(), &object, &json!({})).await;
        assert!(matches!(write().await, Err(ReconcileError::NotLeading(_))));
        leadership.extend(clock() + Duration::from_secs(1));
        assert!(matches!(write().await, Err(ReconcileError::WriteStatus(_))));
    }

    #[tokio::test]
    async fn a_404_means_deleted_only_if_it_names_the_object() {
        let object = ConfigMap {
            metadata: kube::api::ObjectMeta { name: Some("a".into()), ..Default::default() },
            ..ConfigMap::default()
        };
        for (details, is_deleted) in
            [(json!({"name": "a", "kind": "x"}), true), (json!({"name": "b"}), false), (json!(null), false)]
        {
            let response = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound",
                "message": "not found", "details": details
            });
            let response = response.to_string();
            let service = tower::service_fn(move |_: http::Request<Body>| {
                let body = Body::from(response.clone().into_bytes());
                async {
                    Ok::<_, std::convert::Infallible>(
                        http::Response::builder().status(404).body(body).unwrap(),
                    )
                }
            });
            let client = Client::new(service, "mail");
            let written =
                replace_status::<_, Value>(&client, &Leadership::always(), &(), &object, &json!({})).await;
            match written {
                Ok(None) => assert!(is_deleted),
                Err(ReconcileError::WriteStatus(_)) => assert!(!is_deleted),
                other => panic!("{other:?}"),
            }
        }
    }
}
