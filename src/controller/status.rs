//! Writes the status: the whole of it, by PUT, always under the uid and the resource version that were seen.

use std::borrow::Cow;
use std::time::Duration;

use kube::api::{ObjectMeta, PostParams};
use kube::core::request::{Error as RequestError, Request};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::context::Context;
use super::error::{PassError, Result};
use super::index::{Named, Pruned};
use super::observed::Observed;
use crate::leadership::Leadership;
use crate::resources::{
    FIELD_MANAGER, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, Pending, Registration,
};
use crate::telemetry::logs::chain;

/// Writes the status once. Fails with [`PassError::Conflict`] where the object changed since it was read:
/// for intents and reports, which must not rest on what is outdated.
pub async fn write_once(
    context: &Context,
    observed: &mut Observed,
    status: MicrosoftGraphCredentialStatus,
) -> Result<()> {
    let written = replace(&context.client, &context.leadership, &(), &observed.object, &status).await?;
    let Pruned(object) = written.ok_or(PassError::Gone)?;
    context.note_written(&object);
    take_over(observed, object);
    observed.written.clone_from(&status);
    observed.status = status;
    Ok(())
}

/// Writes an intent once, and where the answer was lost looks whether it was written all the same: what was
/// not sent must not look as if it might have been.
pub async fn write_intent(
    context: &Context,
    observed: &mut Observed,
    status: MicrosoftGraphCredentialStatus,
) -> Result<()> {
    let intent = status.clone();
    let error = match write_once(context, observed, status).await {
        Err(error @ PassError::WriteStatus(_)) => error,
        ended => return ended,
    };
    read_again(context, observed).await?;
    if take_if_written(observed, &intent) { Ok(()) } else { Err(error) }
}

/// Writes a fact that exists at the destination and must not be forgotten, whatever else happened to the
/// object, for at most `timing.record`. It yields only to another writer of the books themselves, which two
/// processes at once would be.
pub async fn write_fact(
    context: &Context,
    observed: &mut Observed,
    status: MicrosoftGraphCredentialStatus,
) -> Result<()> {
    let deadline = Instant::now() + context.rules.timing.record;
    let pause = context.rules.timing.record / 600;
    loop {
        let error = match write_once(context, observed, status.clone()).await {
            Err(error @ (PassError::Conflict | PassError::WriteStatus(_))) => error,
            ended => return ended,
        };
        if !is_worth_another_try(&error) || Instant::now() >= deadline {
            return Err(error);
        }
        tracing::info!(error = chain(&error), "writing the status again");
        tokio::time::sleep(pause.max(Duration::from_millis(10))).await;
        match read_again(context, observed).await {
            Ok(()) => {}
            Err(PassError::Gone) => return Err(PassError::Gone),
            Err(error) => {
                tracing::info!(error = chain(&error), "reading the object again failed");
                continue;
            }
        }
        // Perhaps the write before was applied, and only its answer was lost.
        if take_if_written(observed, &status) {
            return Ok(());
        }
        if books(&observed.object.status_or_default()) != books(&observed.written) {
            tracing::error!("another writer has changed what is registered; its word stands");
            return Err(PassError::Conflict);
        }
    }
}

/// Whether the object, as it was read again, says what was to be written; then it counts as written.
fn take_if_written(observed: &mut Observed, status: &MicrosoftGraphCredentialStatus) -> bool {
    let live = observed.object.status_or_default();
    let is_written = books(&live) == books(status);
    if is_written {
        observed.written = live;
        observed.status.clone_from(status);
    }
    is_written
}

/// What the status remembers of the destination: only we write it, and only one of us at a time.
fn books(
    status: &MicrosoftGraphCredentialStatus,
) -> (Option<&Registration>, &[Registration], Option<&Pending>) {
    (status.registration.as_ref(), &status.retiring, status.pending.as_deref())
}

/// Whether the same write may succeed a moment later: after anything but the server's word that what is
/// written is wrong. Rights and tokens come and go.
fn is_worth_another_try(error: &PassError) -> bool {
    match error {
        PassError::WriteStatus(kube::Error::Api(answer)) => !answer.is_invalid() && answer.code != 400,
        _ => true,
    }
}

/// Reads the object again; nothing where it is gone, or another one has its name.
async fn read(context: &Context, observed: &Observed) -> Result<Option<MicrosoftGraphCredential>> {
    let live: Option<MicrosoftGraphCredential> =
        context.read(&Named::of(&observed.object)).await.map_err(PassError::ReadObject)?;
    Ok(live.filter(|live| live.metadata.uid == observed.object.metadata.uid))
}

async fn read_again(context: &Context, observed: &mut Observed) -> Result<()> {
    let live = read(context, observed).await?.ok_or(PassError::Gone)?;
    take_over(observed, live);
    Ok(())
}

/// Reads the object before something that cannot be undone: what is known of it comes from a watch, which may lag. Fails
/// with [`PassError::Conflict`] where it is not what the decision rests on any more.
pub async fn confirm(context: &Context, observed: &Observed) -> Result<()> {
    let is_the_same = |live: &MicrosoftGraphCredential| {
        let seen = &observed.object;
        live.is_deleted() == seen.is_deleted()
            && live.spec.deletion_policy() == seen.spec.deletion_policy()
            && live.spec.is_suspended() == seen.spec.is_suspended()
            && books(&live.status_or_default()) == books(&observed.written)
    };
    let live = read(context, observed).await?;
    if live.is_some_and(|live| is_the_same(&live)) { Ok(()) } else { Err(PassError::Conflict) }
}

/// Whether the object is gone, or another one has its name, by a GET.
pub async fn is_gone(context: &Context, observed: &Observed) -> bool {
    matches!(read(context, observed).await, Ok(None))
}

/// Takes over what the next write needs. Spec, generation and annotations stay those on which this pass
/// rests: what changed since wakes the object again.
fn take_over(observed: &mut Observed, live: MicrosoftGraphCredential) {
    observed.object.metadata.resource_version = live.metadata.resource_version;
    observed.object.metadata.finalizers = live.metadata.finalizers;
    observed.object.status = live.status;
}

/// The write of a status. It has no spec: the API server takes none from it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusWrite<'a, S> {
    api_version: Cow<'a, str>,
    kind: Cow<'a, str>,
    metadata: ObjectMeta,
    status: &'a S,
}

/// Replaces the whole status of the object at the uid and the resource version at which it was read, and returns what is
/// read of the answer; nothing where the object does not exist.
pub(super) async fn replace<K: Resource, W: DeserializeOwned>(
    client: &Client,
    leadership: &Leadership,
    kind: &K::DynamicType,
    object: &K,
    status: &impl Serialize,
) -> Result<Option<W>> {
    leadership.admit_write()?;
    let ObjectMeta { name, namespace, uid, resource_version, .. } = object.meta().clone();
    let path = K::url_path(kind, namespace.as_deref());
    let metadata = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
    let body = StatusWrite { api_version: K::api_version(kind), kind: K::kind(kind), metadata, status };
    let name = object.meta().name.as_deref().unwrap_or_default();
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let unwritten = |error| PassError::WriteStatus(kube::Error::BuildRequest(error));
    let body = serde_json::to_vec(&body).map_err(|error| unwritten(RequestError::SerializeBody(error)))?;
    let request = Request::new(path).replace_subresource("status", name, &params, body).map_err(unwritten)?;
    match client.request(request).await {
        Ok(written) => Ok(Some(written)),
        // Any other 404 is about the path, not about the object.
        Err(kube::Error::Api(answer))
            if answer.is_not_found()
                && answer.details.as_ref().is_some_and(|details| details.name == name) =>
        {
            Ok(None)
        }
        Err(kube::Error::Api(answer)) if answer.is_conflict() => Err(PassError::Conflict),
        Err(error) => Err(PassError::WriteStatus(error)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::leadership::testing::clock;

    #[tokio::test]
    async fn only_a_leader_writes() {
        let refuse = |_: http::Request<Body>| async { Err::<http::Response<Body>, _>("it is sent") };
        let client = Client::new(tower::service_fn(refuse), "mail");
        let leadership = Leadership::none(clock, Duration::from_secs(5));
        let object = ConfigMap {
            metadata: kube::api::ObjectMeta { name: Some("a".into()), ..Default::default() },
            ..ConfigMap::default()
        };
        let write = async || replace::<_, Value>(&client, &leadership, &(), &object, &json!({})).await;
        assert!(matches!(write().await, Err(PassError::NotLeading(_))));
        leadership.extend(clock() + Duration::from_secs(1));
        assert!(matches!(write().await, Err(PassError::WriteStatus(_))));
    }

    #[tokio::test]
    async fn a_404_counts_as_gone_only_where_it_names_the_object() {
        let object = ConfigMap {
            metadata: kube::api::ObjectMeta { name: Some("a".into()), ..Default::default() },
            ..ConfigMap::default()
        };
        for (details, is_gone) in
            [(json!({"name": "a", "kind": "x"}), true), (json!({"name": "b"}), false), (json!(null), false)]
        {
            let answer = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound",
                "message": "not found", "details": details
            });
            let answer = answer.to_string();
            let service = tower::service_fn(move |_: http::Request<Body>| {
                let body = Body::from(answer.clone().into_bytes());
                async {
                    Ok::<_, std::convert::Infallible>(
                        http::Response::builder().status(404).body(body).unwrap(),
                    )
                }
            });
            let client = Client::new(service, "mail");
            let written = replace::<_, Value>(&client, &Leadership::always(), &(), &object, &json!({})).await;
            match written {
                Ok(None) => assert!(is_gone),
                Err(PassError::WriteStatus(_)) => assert!(!is_gone),
                other => panic!("{other:?}"),
            }
        }
    }
}
