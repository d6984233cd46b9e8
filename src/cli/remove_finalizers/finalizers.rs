//! Removal of the operator's finalizers from an object, even from an invalid one.

use std::fmt;
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use crate::api::{ACCOUNT_PROTECTION_FINALIZER, FINALIZER, IDENTITY_PROTECTION_FINALIZER, NamespacedName};
use crate::core::error_chain::chain;

/// The finalizer on accounts of versions before the first release.
const OLD_ACCOUNT_FINALIZER: &str = "graph-credentials.io/in-use";

/// Attempts on an object that other clients change at the same time.
const TRIES: u32 = 20;

/// Pause between two attempts, times the attempt.
const PAUSE: Duration = Duration::from_millis(50);

/// An object with a finalizer of the operator.
pub(super) struct FinalizedObject {
    kind: ApiResource,
    name: NamespacedName,
}

// === impl FinalizedObject ===

impl FinalizedObject {
    /// The objects of a kind that have one.
    pub(super) fn among<K>(objects: &[DynamicObject]) -> Vec<Self>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        let of = |object: &DynamicObject| Self {
            kind: ApiResource::erase::<K>(&()),
            name: NamespacedName::of(object),
        };
        objects.iter().filter(|object| has_our_finalizer(object)).map(of).collect()
    }

    /// Removes the operator's finalizers and leaves others, with the version that was read. An error says what is wrong, and
    /// what to do.
    pub(super) async fn remove_finalizers(
        &self,
        client: &Client,
        longest_pause: Duration,
    ) -> Result<(), String> {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &self.name.namespace, &self.kind);
        for attempt in 0..TRIES {
            let live = api.get_opt(&self.name.name).await;
            let live = live.map_err(|error| {
                format!("failed to read it: {}; run remove-finalizers again", chain(&error))
            })?;
            let Some(live) = live.filter(has_our_finalizer) else { return Ok(()) };
            let others: Vec<&String> = live.finalizers().iter().filter(|it| !is_our_finalizer(it)).collect();
            let patch = json!({"metadata": {
                "resourceVersion": live.metadata.resource_version, "finalizers": others
            }});
            match api.patch(&self.name.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
                Err(kube::Error::Api(status)) if status.is_conflict() => {
                    tokio::time::sleep(longest_pause.min(PAUSE.saturating_mul(attempt))).await;
                }
                Err(error) => {
                    let is_forbidden = matches!(&error, kube::Error::Api(status) if status.is_forbidden());
                    let action = if is_forbidden {
                        "ask for the right to patch objects of its kind"
                    } else {
                        "run remove-finalizers again"
                    };
                    return Err(format!("failed to change its finalizers: {}; {action}", chain(&error)));
                }
            }
        }
        Err("other clients keep changing it: stop them, and run remove-finalizers again".to_owned())
    }
}

impl fmt::Display for FinalizedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.kind, self.name)
    }
}

fn has_our_finalizer(object: &DynamicObject) -> bool {
    object.finalizers().iter().any(|it| is_our_finalizer(it))
}

fn is_our_finalizer(finalizer: &str) -> bool {
    [FINALIZER, ACCOUNT_PROTECTION_FINALIZER, IDENTITY_PROTECTION_FINALIZER, OLD_ACCOUNT_FINALIZER]
        .contains(&finalizer)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::Value;

    use super::*;
    use crate::api::WoodpeckerAccount;

    /// An API server with one object, which another client changes before each of the first writes.
    struct Contended {
        object: Value,
        changes: u64,
    }

    fn object(version: u64, finalizers: &Value) -> Value {
        json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "WoodpeckerAccount", "spec": "odd",
            "metadata": {"name": "x", "namespace": "mail", "resourceVersion": version.to_string(), "finalizers": finalizers}
        })
    }

    async fn serve(api: Arc<Mutex<Contended>>, request: Request<Body>) -> Response<Body> {
        let method = request.method().clone();
        let body = request.into_body().collect_bytes().await.unwrap();
        let mut api = api.lock().unwrap();
        if method == Method::PATCH && api.changes > 0 {
            api.changes -= 1;
            api.object = object(api.changes + 10, &api.object["metadata"]["finalizers"].clone());
        }
        let version = api.object["metadata"]["resourceVersion"].clone();
        let patch: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (code, response) = match method {
            Method::PATCH if patch["metadata"]["resourceVersion"] != version => {
                let status =
                    json!({"status": "Failure", "reason": "Conflict", "code": 409, "message": "changed"});
                (409, status)
            }
            Method::PATCH => {
                api.object = object(99, &patch["metadata"]["finalizers"]);
                (200, api.object.clone())
            }
            _ => (200, api.object.clone()),
        };
        Response::builder().status(code).body(Body::from(response.to_string().into_bytes())).unwrap()
    }

    async fn remove(changes: u64) -> (Result<(), String>, Value) {
        let object = object(
            1,
            &json!(["a.example/theirs", FINALIZER, ACCOUNT_PROTECTION_FINALIZER, OLD_ACCOUNT_FINALIZER]),
        );
        let finalized =
            FinalizedObject::among::<WoodpeckerAccount>(&[serde_json::from_value(object.clone()).unwrap()])
                .remove(0);
        let api = Arc::new(Mutex::new(Contended { object, changes }));
        let served = api.clone();
        let service = tower::service_fn(move |request| {
            let api = served.clone();
            async move { Ok::<_, Infallible>(serve(api, request).await) }
        });
        let ended = finalized.remove_finalizers(&Client::new(service, "mail"), Duration::ZERO).await;
        let left = api.lock().unwrap().object["metadata"]["finalizers"].clone();
        (ended, left)
    }

    #[tokio::test]
    async fn a_conflict_is_retried_but_not_forever() {
        let (ended, left) = remove(5).await;
        assert!(ended.is_ok(), "{ended:?}");
        assert_eq!(left, json!(["a.example/theirs"]));
        let (ended, left) = remove(1000).await;
        assert!(ended.is_err_and(|problem| problem.starts_with("other clients keep changing it")));
        assert_eq!(
            left,
            json!(["a.example/theirs", FINALIZER, ACCOUNT_PROTECTION_FINALIZER, OLD_ACCOUNT_FINALIZER])
        );
    }
}
