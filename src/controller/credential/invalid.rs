//! A credential that does not match its schema: its deletion and its registrations, based only on the fields that
//! matter for them.

use jiff::Timestamp;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Resource, ResourceExt};
use serde_json::Value;

use crate::api::{FINALIZER, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus};
use crate::controller::context::Context;
use crate::controller::credential::observe::namespace_deleted_at;
use crate::controller::error::Result;
use crate::controller::{finalizers, orphans};
use crate::core::event::EventBody;
use crate::core::orphan::OrphanCause;

/// What to do with a credential that does not match its schema and is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deletion {
    /// It stays until it is fixed, because what it registered has to be deleted.
    Blocked,
    /// Its finalizer is removed; there is nothing to delete.
    Finalize,
    /// Its finalizer is removed, and what should have been deleted stays, for this cause.
    Orphan(OrphanCause),
}

/// Removes the operator's finalizer if the object may be deleted, and returns whether it did.
pub async fn finalize(context: &Context, api: &Api<DynamicObject>, live: &DynamicObject) -> Result<bool> {
    if live.metadata.deletion_timestamp.is_none() || !has_finalizer(live) {
        return Ok(false);
    }
    let namespace = live.namespace().unwrap_or_default();
    let deleted_at = namespace_deleted_at(context, &namespace).await?;
    let grace = context.policy.timing.namespace_grace;
    let is_grace_over = deleted_at.is_some_and(|at| at + grace <= Timestamp::now());
    let deletion = deletion(&live.data, is_grace_over);
    if deletion == Deletion::Blocked {
        return Ok(false);
    }
    let id = live.data.pointer("/status/registration/credentialId").and_then(Value::as_i64);
    let what = id.map_or_else(|| "what it registered".to_owned(), |id| format!("credential {id}"));
    let created = created_secrets(&live.data);
    let created_text = format!(" with client secrets at Microsoft Entra: {}", created.join(", "));
    let what = if created.is_empty() { what } else { what + &created_text };
    let regarding = live.object_ref(&ApiResource::erase::<MicrosoftGraphCredential>(&()));
    let text = |cause| {
        format!(
            "{what} is left although deletionPolicy is Delete, because {cause}: delete it at its destination. \
             The object is invalid, so the operator cannot name the destination"
        )
    };
    if let Deletion::Orphan(cause) = deletion {
        orphans::log(&regarding, cause, &text(cause));
    } else if !created.is_empty() {
        tracing::warn!(namespace, object = live.name_any(), "{what} stays");
    }
    finalizers::set(&context.leadership, api, live, FINALIZER, false).await?;
    if let Deletion::Orphan(cause) = deletion {
        orphans::publish(context, &regarding, cause, text(cause)).await;
    } else if !created.is_empty() {
        let event = EventBody {
            is_warning: true,
            reason: "Retained",
            action: "Delete",
            text: format!("{what} stays: the object is invalid, so the operator removes nothing"),
            request_ids: String::new(),
        };
        context.events.emit(&regarding, &event).await;
    }
    Ok(true)
}

/// The client secrets that were or may have been created for the object: their IDs, or else their names.
fn created_secrets(object: &Value) -> Vec<String> {
    let rotation = |field: &str| object.pointer(&format!("/status/rotation/{field}")).cloned();
    let one = ["current", "pending", "attempt"].into_iter().filter_map(rotation);
    let many = ["earlier", "earlierAttempts", "unknownSecrets"].into_iter().filter_map(rotation);
    let many = many.filter_map(|list| list.as_array().cloned()).flatten();
    let all = one.chain(many).filter(|it| it.get("removalTime").is_none_or(Value::is_null));
    let named = all.filter_map(|it| Some(it.get("keyId").or(it.get("displayName"))?.as_str()?.to_owned()));
    named.collect()
}

pub fn has_finalizer(live: &DynamicObject) -> bool {
    live.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Keeps its registrations in the index, because its status can mostly be read.
pub fn index_status(context: &Context, live: &DynamicObject) {
    let status = live.data.get("status").cloned().unwrap_or_default();
    if let Ok(status) = serde_json::from_value::<MicrosoftGraphCredentialStatus>(status) {
        let uid = live.metadata.uid.as_deref().unwrap_or_default();
        let removes = live.data.pointer("/spec/deletionPolicy").and_then(Value::as_str) == Some("Delete");
        context
            .requeuer
            .apply::<MicrosoftGraphCredential>(context.index.record_unreadable_status(uid, &status, removes));
    }
}

/// Decides like the plan for valid objects, from these fields alone.
fn deletion(object: &Value, is_grace_over: bool) -> Deletion {
    let field = |path: &str| object.pointer(path);
    let is_registered = [
        "/status/registration",
        "/status/pendingCreate",
        "/status/previousRegistrations/0",
        "/status/rotation/current",
        "/status/rotation/pending",
        "/status/rotation/attempt",
        "/status/rotation/earlier/0",
        "/status/rotation/earlierAttempts/0",
    ]
    .into_iter()
    .any(|path| field(path).is_some_and(|it| !it.is_null()));
    if !is_registered || field("/spec/deletionPolicy").and_then(Value::as_str) != Some("Delete") {
        Deletion::Finalize
    } else if field("/spec/suspend").and_then(Value::as_bool) == Some(true) {
        Deletion::Orphan(OrphanCause::Suspended)
    } else if is_grace_over {
        Deletion::Orphan(OrphanCause::Namespace)
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
            (object("Delete", true, &registered), false, Deletion::Orphan(OrphanCause::Suspended)),
            (object("Delete", false, &registered), true, Deletion::Orphan(OrphanCause::Namespace)),
        ] {
            assert_eq!(deletion(&object, terminating), expected, "{object}");
        }
    }
}
