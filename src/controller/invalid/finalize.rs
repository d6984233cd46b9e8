//! Deletion of an object that does not match its schema, based only on the fields that decide about the deletion.

use jiff::Timestamp;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Resource, ResourceExt};
use serde_json::Value;

use crate::api::FINALIZER;
use crate::controller::context::Context;
use crate::controller::credential::observe::namespace_deleted_at;
use crate::controller::error::Result;
use crate::controller::finalizers;
use crate::core::event::EventBody;

/// What to do with an object that does not match its schema and is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deletion {
    /// It stays until it is fixed, because what it registered has to be deleted.
    Blocked,
    /// Its finalizer is removed; there is nothing to delete.
    Finalize,
    /// Its finalizer is removed, and what should have been deleted stays, for that cause.
    Orphan(&'static str),
}

/// Removes the operator's finalizer if the object may be deleted, and returns whether it did.
pub(super) async fn finalize(
    context: &Context,
    api: &Api<DynamicObject>,
    kind: &ApiResource,
    live: &DynamicObject,
) -> Result<bool> {
    if live.metadata.deletion_timestamp.is_none() || !live.finalizers().iter().any(|it| it == FINALIZER) {
        return Ok(false);
    }
    let name = live.name_any();
    let namespace = live.namespace().unwrap_or_default();
    let deleted_at = namespace_deleted_at(context, &namespace).await?;
    let grace = context.policy.timing.namespace_grace;
    let is_grace_over = deleted_at.is_some_and(|at| at + grace <= Timestamp::now());
    let deletion = deletion(&live.data, is_grace_over);
    if deletion == Deletion::Blocked {
        return Ok(false);
    }
    let id = live.data.pointer("/status/registration/credentialId").and_then(Value::as_i64);
    if let Deletion::Orphan(cause) = deletion {
        tracing::error!(
            object = format!("{namespace}/{name}"),
            id,
            cause,
            "an orphan is left: the object is invalid"
        );
    }
    finalizers::set(&context.leadership, api, live, FINALIZER, false).await?;
    if let Deletion::Orphan(cause) = deletion {
        context.metrics.credentials.orphaned(cause);
        let what = id.map_or_else(|| "what it registered".to_owned(), |id| format!("credential {id}"));
        let text = format!(
            "{what} is left although deletionPolicy is Delete, because the object is invalid ({cause}): \
             delete it at its destination"
        );
        let note = EventBody {
            is_warning: true,
            reason: "Orphaned",
            action: "Delete",
            text,
            request_ids: String::new(),
        };
        context.events.publish_orphan(&live.object_ref(kind), &note).await;
    }
    Ok(true)
}

/// Decides like the plan for valid objects, from these fields alone.
fn deletion(object: &Value, is_grace_over: bool) -> Deletion {
    let field = |path: &str| object.pointer(path);
    let is_registered = ["/status/registration", "/status/pendingCreate", "/status/previousRegistrations/0"]
        .into_iter()
        .any(|path| field(path).is_some_and(|it| !it.is_null()));
    if !is_registered || field("/spec/deletionPolicy").and_then(Value::as_str) != Some("Delete") {
        Deletion::Finalize
    } else if field("/spec/suspend").and_then(Value::as_bool) == Some(true) {
        Deletion::Orphan("suspended")
    } else if is_grace_over {
        Deletion::Orphan("namespace")
    } else {
        Deletion::Blocked
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn deletion_of_an_invalid_object_depends_on_its_readable_fields() {
        let registered = json!({"registration": {"credentialId": 7}});
        let object = |policy: &str, suspend: bool, status: &Value| json!({"spec": {"deletionPolicy": policy, "suspend": suspend, "expiryWarning": "odd"}, "status": status});
        for (object, terminating, expected) in [
            (object("Retain", false, &registered), false, Deletion::Finalize),
            (json!({"spec": {}, "status": registered}), false, Deletion::Finalize),
            (object("Delete", false, &json!({})), false, Deletion::Finalize),
            (object("Delete", false, &registered), false, Deletion::Blocked),
            (
                object("Delete", false, &json!({"pendingCreate": {"idempotencyToken": "t"}})),
                false,
                Deletion::Blocked,
            ),
            (object("Delete", true, &registered), false, Deletion::Orphan("suspended")),
            (object("Delete", false, &registered), true, Deletion::Orphan("namespace")),
        ] {
            assert_eq!(deletion(&object, terminating), expected, "{object}");
        }
    }
}
