//! Writes the status: the whole of it, by PUT, always under the uid and the resource version that were seen.

use std::fmt::Debug;
use std::time::Duration;

use kube::api::PostParams;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;

use super::context::Context;
use super::error::PassError;
use super::index::Named;
use super::observed::Observed;
use crate::leadership::Leadership;
use crate::resources::{
    FIELD_MANAGER, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, Pending, Registration,
};
use crate::telemetry::logs::chain;

/// Whether a status that had to be written was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was.
    Yes,
    /// The object is gone, or another one has its name.
    ObjectGone,
}

/// Writes the status once. Fails with [`PassError::Conflict`] where the object changed since it was read:
/// for intents and reports, which must not rest on what is outdated.
pub async fn write_once(
    context: &Context,
    observed: &mut Observed,
    status: MicrosoftGraphCredentialStatus,
) -> Result<Written, PassError> {
    let api = credentials(context, observed);
    match replace(&context.leadership, &api, &observed.object, &status).await {
        Ok(Some(object)) => {
            context.note_written(&object);
            take_over(observed, object);
            observed.written.clone_from(&status);
            observed.status = status;
            Ok(Written::Yes)
        }
        Ok(None) => Ok(Written::ObjectGone),
        Err(error) => Err(error),
    }
}

/// Writes an intent once, and where the answer was lost looks whether it was written all the same: what was
/// not sent must not look as if it might have been.
pub async fn write_intent(
    context: &Context,
    observed: &mut Observed,
    status: MicrosoftGraphCredentialStatus,
) -> Result<Written, PassError> {
    let intent = status.clone();
    let error = match write_once(context, observed, status).await {
        Err(error @ PassError::WriteStatus(_)) => error,
        ended => return ended,
    };
    if read_again(context, observed).await? == Live::Gone {
        return Ok(Written::ObjectGone);
    }
    let live = observed.object.status_or_default();
    if Books::of(&live) != Books::of(&intent) {
        return Err(error);
    }
    observed.written = live;
    observed.status = intent;
    Ok(Written::Yes)
}

/// Writes a fact that exists at the destination and must not be forgotten, whatever else happened to the
/// object, for at most `timing.record`. It yields only to another writer of the books themselves, which two
/// processes at once would be.
pub async fn write_fact(
    context: &Context,
    observed: &mut Observed,
    status: MicrosoftGraphCredentialStatus,
) -> Result<Written, PassError> {
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
            Ok(Live::Gone) => return Ok(Written::ObjectGone),
            Ok(Live::Same) => {}
            Err(error) => {
                tracing::info!(error = chain(&error), "reading the object again failed");
                continue;
            }
        }
        let live = observed.object.status_or_default();
        if Books::of(&live) == Books::of(&status) {
            // The write before was applied, and only its answer was lost.
            observed.written = live;
            observed.status = status;
            return Ok(Written::Yes);
        }
        if Books::of(&live) != Books::of(&observed.written) {
            tracing::error!("another writer has changed what is registered; its word stands");
            return Err(PassError::Conflict);
        }
    }
}

/// What the status remembers of the destination: only we write it, and only one of us at a time.
#[derive(PartialEq)]
struct Books<'a> {
    registration: Option<&'a Registration>,
    retiring: &'a [Registration],
    pending: Option<&'a Pending>,
}

impl<'a> Books<'a> {
    fn of(status: &'a MicrosoftGraphCredentialStatus) -> Self {
        Self {
            registration: status.registration.as_ref(),
            retiring: &status.retiring,
            pending: status.pending.as_ref(),
        }
    }
}

/// Whether the same write may succeed a moment later: after anything but the server's word that what is
/// written is wrong. Rights and tokens come and go.
fn is_worth_another_try(error: &PassError) -> bool {
    match error {
        PassError::WriteStatus(kube::Error::Api(answer)) => !answer.is_invalid() && answer.code != 400,
        _ => true,
    }
}

/// Whether the object is still there.
#[derive(PartialEq)]
enum Live {
    Same,
    Gone,
}

/// Reads the object again and checks that it is still the same one.
async fn read_again(context: &Context, observed: &mut Observed) -> Result<Live, PassError> {
    match context
        .read::<MicrosoftGraphCredential>(&Named::of(&observed.object))
        .await
        .map_err(PassError::ReadObject)?
    {
        Some(live) if live.metadata.uid == observed.object.metadata.uid => {
            take_over(observed, live);
            Ok(Live::Same)
        }
        Some(_) | None => Ok(Live::Gone),
    }
}

/// Reads the object before something that cannot be undone: what is known of it comes from a watch, which may lag. Fails
/// with [`PassError::Conflict`] where it is not what the decision rests on any more.
pub async fn confirm(context: &Context, observed: &Observed) -> Result<(), PassError> {
    let live = context.read(&Named::of(&observed.object)).await.map_err(PassError::ReadObject)?;
    let is_the_same = |live: &MicrosoftGraphCredential| {
        let (seen, status) = (&observed.object, live.status_or_default());
        live.metadata.uid == seen.metadata.uid
            && live.is_deleted() == seen.is_deleted()
            && live.spec.deletion_policy() == seen.spec.deletion_policy()
            && live.spec.is_suspended() == seen.spec.is_suspended()
            && Books::of(&status) == Books::of(&observed.written)
    };
    if live.is_some_and(|live| is_the_same(&live)) { Ok(()) } else { Err(PassError::Conflict) }
}

/// Takes over what the next write needs. Spec, generation and annotations stay those on which this pass
/// rests: what changed since wakes the object again.
fn take_over(observed: &mut Observed, live: MicrosoftGraphCredential) {
    observed.object.metadata.resource_version = live.metadata.resource_version;
    observed.object.metadata.finalizers = live.metadata.finalizers;
    observed.object.status = live.status;
}

fn credentials(context: &Context, observed: &Observed) -> Api<MicrosoftGraphCredential> {
    Api::namespaced(context.client.clone(), observed.object.namespace_name())
}

/// Whether the object is gone, or another one has its name, by a GET.
pub async fn is_gone(context: &Context, observed: &Observed) -> bool {
    let live = context.read::<MicrosoftGraphCredential>(&Named::of(&observed.object)).await;
    live.is_ok_and(|live| live.is_none_or(|live| live.metadata.uid != observed.object.metadata.uid))
}

/// Replaces the whole status of the object at the uid and the resource version at which it was read. Nothing where there is
/// no such object. The body has no spec: the API server takes none from a write of the status.
pub(super) async fn replace<K>(
    leadership: &Leadership,
    api: &Api<K>,
    object: &K,
    status: &impl Serialize,
) -> Result<Option<K>, PassError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    leadership.admit_write()?;
    let meta = object.meta();
    let name = meta.name.as_deref().unwrap_or_default();
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        },
        "status": status,
    });
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match api.replace_subresource("status", name, &params, &body).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(None),
        Err(kube::Error::Api(answer)) if answer.is_conflict() => Err(PassError::Conflict),
        Err(error) => Err(PassError::WriteStatus(error)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Client;
    use kube::client::Body;

    use super::*;
    use crate::leadership::testing::clock;

    #[tokio::test]
    async fn only_a_leader_writes() {
        let refuse = |_: http::Request<Body>| async { Err::<http::Response<Body>, _>("it is sent") };
        let api: Api<ConfigMap> = Api::namespaced(Client::new(tower::service_fn(refuse), "mail"), "mail");
        let leadership = Leadership::none(clock, Duration::from_secs(5));
        let object = ConfigMap {
            metadata: kube::api::ObjectMeta { name: Some("a".into()), ..Default::default() },
            ..ConfigMap::default()
        };
        let write = async || replace(&leadership, &api, &object, &json!({})).await;
        assert!(matches!(write().await, Err(PassError::NotLeading(_))));
        leadership.extend(clock() + Duration::from_secs(1));
        assert!(matches!(write().await, Err(PassError::WriteStatus(_))));
    }
}
