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
        // Without the last finalizer it is gone, and no later pass would come by to tell what it left.
        Err(_) if !is_wanted && is_gone(api, object).await => Ok(None),
        Err(error) => Err(PassError::WriteFinalizer(error)),
    }
}

/// Whether the API server says that an object is gone.
async fn is_gone<K>(api: &Api<K>, object: &K) -> bool
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let found = api.get_metadata_opt(&object.name_any()).await;
    found.is_ok_and(|found| found.is_none_or(|found| found.metadata.uid != object.uid()))
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

    const SAME: &str =
        r#"{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"name":"a","uid":"1"}}"#;
    const OTHER: &str =
        r#"{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"name":"a","uid":"2"}}"#;
    const NONE: &str = r#"{"kind":"Status","status":"Failure","code":404,"reason":"NotFound"}"#;

    #[tokio::test]
    async fn an_object_that_went_with_a_lost_answer_is_gone() {
        for (found, is_gone) in [(Some(NONE), true), (Some(OTHER), true), (Some(SAME), false), (None, false)]
        {
            let ended = taken_off(None, found).await;
            assert_eq!(matches!(ended, Ok(None)), is_gone, "{found:?}: {ended:?}");
            assert_eq!(matches!(ended, Err(PassError::WriteFinalizer(_))), !is_gone, "{found:?}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_believed_without_a_second_look() {
        let (gone, changed) =
            (taken_off(Some(404), Some(SAME)).await, taken_off(Some(409), Some(NONE)).await);
        assert!(matches!(gone, Ok(None)), "{gone:?}");
        assert!(matches!(changed, Err(PassError::Conflict)), "{changed:?}");
    }
}
