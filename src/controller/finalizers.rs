//! Puts our finalizers on objects and takes them off.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::PassError;
use crate::leadership::Leadership;

/// Puts a finalizer on an object or takes it off, under the resource version that was seen. Returns the object as it is
/// then; nothing where it is gone.
pub async fn set<K>(
    leadership: &Leadership,
    api: &Api<K>,
    object: &K,
    finalizer: &str,
    is_wanted: bool,
) -> Result<Option<K>, PassError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    leadership.admit_write()?;
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|it| it != finalizer);
    if is_wanted {
        finalizers.push(finalizer.to_owned());
    }
    let version = object.resource_version();
    let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
    match api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(None),
        Err(kube::Error::Api(answer)) if answer.is_conflict() => Err(PassError::Conflict),
        // No later reconcile would report what a deletion has left behind.
        Err(error) => match api.get_opt(&object.name_any()).await {
            Ok(None) => Ok(None),
            Ok(Some(found)) if found.uid() != object.uid() => Ok(None),
            Ok(Some(found)) if has(&found, finalizer) == is_wanted => Ok(Some(found)),
            Ok(Some(_)) | Err(_) => Err(PassError::WriteFinalizer(error)),
        },
    }
}

fn has(object: &impl Resource, finalizer: &str) -> bool {
    object.finalizers().iter().any(|it| it == finalizer)
}

#[cfg(test)]
mod tests {
    use http::{Method, Request, Response};
    use kube::Client;
    use kube::client::Body;

    use super::*;
    use crate::resources::{FINALIZER, WoodpeckerAccount};

    /// Takes a finalizer off an object at an API server that answers the PATCH so, and a GET so; nothing is no answer.
    async fn taken_off(
        patched: Option<u16>,
        found: Option<&'static str>,
    ) -> Result<Option<WoodpeckerAccount>, PassError> {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let (code, body) = if request.method() == Method::PATCH {
                let Some(code) = patched else { return Err("the connection broke off") };
                let reason = if code == 404 { "NotFound" } else { "Conflict" };
                let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason});
                (code, status.to_string())
            } else {
                let Some(body) = found else { return Err("the connection broke off") };
                (if body.contains("Status") { 404 } else { 200 }, body.to_owned())
            };
            Ok(Response::builder().status(code).body(Body::from(body.into_bytes())).unwrap())
        });
        let api = Api::namespaced(Client::new(service, "mail"), "mail");
        let account = json!({
            "metadata": {"name": "a", "namespace": "mail", "uid": "1", "finalizers": [FINALIZER]},
            "spec": {"apiKeySecretRef": {"name": "key"}}
        });
        let account: WoodpeckerAccount = serde_json::from_value(account).unwrap();
        set(&Leadership::always(), &api, &account, FINALIZER, false).await
    }

    const HAS_IT: &str = r#"{"metadata":{"name":"a","uid":"1","finalizers":["graph-credentials.io/registration"]},"spec":{"apiKeySecretRef":{"name":"key"}}}"#;
    const LACKS_IT: &str = r#"{"metadata":{"name":"a","uid":"1"},"spec":{"apiKeySecretRef":{"name":"key"}}}"#;
    const OTHER: &str = r#"{"metadata":{"name":"a","uid":"2"},"spec":{"apiKeySecretRef":{"name":"key"}}}"#;
    const NONE: &str = r#"{"kind":"Status","status":"Failure","code":404,"reason":"NotFound"}"#;

    #[tokio::test]
    async fn what_came_of_a_write_whose_answer_is_lost_is_looked_up() {
        for found in [NONE, OTHER] {
            let ended = taken_off(None, Some(found)).await;
            assert!(matches!(ended, Ok(None)), "{found}: {ended:?}");
        }
        let ended = taken_off(None, Some(LACKS_IT)).await;
        assert!(matches!(ended, Ok(Some(_))), "others keep it: {ended:?}");
        for found in [Some(HAS_IT), None] {
            let ended = taken_off(None, found).await;
            assert!(matches!(ended, Err(PassError::WriteFinalizer(_))), "{found:?}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_believed_without_a_second_look() {
        let (gone, changed) =
            (taken_off(Some(404), Some(HAS_IT)).await, taken_off(Some(409), Some(NONE)).await);
        assert!(matches!(gone, Ok(None)), "{gone:?}");
        assert!(matches!(changed, Err(PassError::Conflict)), "{changed:?}");
    }
}
