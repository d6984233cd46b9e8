//! Adds the operator's finalizers to objects and removes them.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::controller::error::ReconcileError;
use crate::k8s::leadership::Leadership;

/// Adds or removes a finalizer, conditional on the resource version. Returns the resulting object, or `None` if it was
/// deleted.
pub async fn set<K>(
    leadership: &Leadership,
    api: &Api<K>,
    object: &K,
    finalizer: &str,
    is_wanted: bool,
) -> Result<Option<K>, ReconcileError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    leadership.check_write()?;
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|it| it != finalizer);
    if is_wanted {
        finalizers.push(finalizer.to_owned());
    }
    let version = object.resource_version();
    let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
    match api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(kube::Error::Api(status)) if status.is_conflict() => Err(ReconcileError::Conflict),
        // The write may have been applied. No later reconcile would report what a deletion has left behind.
        Err(error) => match api.get_opt(&object.name_any()).await {
            Ok(None) => Ok(None),
            Ok(Some(found)) if found.uid() != object.uid() => Ok(None),
            Ok(Some(found)) if has(&found, finalizer) == is_wanted => Ok(Some(found)),
            Ok(Some(_)) | Err(_) => Err(ReconcileError::WriteFinalizer(error)),
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
    use crate::api::{FINALIZER, WoodpeckerAccount};

    /// Removes a finalizer at an API server with these responses to the PATCH and to a GET; `None` breaks the
    /// connection.
    async fn remove(
        patched: Option<u16>,
        found: Option<&'static str>,
    ) -> Result<Option<WoodpeckerAccount>, ReconcileError> {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let (code, body) = if request.method() == Method::PATCH {
                let Some(code) = patched else { return Err("the connection was lost") };
                let reason = if code == 404 { "NotFound" } else { "Conflict" };
                let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason});
                (code, status.to_string())
            } else {
                let Some(body) = found else { return Err("the connection was lost") };
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
    async fn a_lost_response_is_resolved_by_a_read() {
        for found in [NONE, OTHER] {
            let ended = remove(None, Some(found)).await;
            assert!(matches!(ended, Ok(None)), "{found}: {ended:?}");
        }
        let ended = remove(None, Some(LACKS_IT)).await;
        assert!(matches!(ended, Ok(Some(_))), "others keep it: {ended:?}");
        for found in [Some(HAS_IT), None] {
            let ended = remove(None, found).await;
            assert!(matches!(ended, Err(ReconcileError::WriteFinalizer(_))), "{found:?}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn a_response_needs_no_further_read() {
        let (deleted, changed) = (remove(Some(404), Some(HAS_IT)).await, remove(Some(409), Some(NONE)).await);
        assert!(matches!(deleted, Ok(None)), "{deleted:?}");
        assert!(matches!(changed, Err(ReconcileError::Conflict)), "{changed:?}");
    }
}
