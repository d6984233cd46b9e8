//! The end of an object that cannot be read: only the words that its deletion hangs on are read, one by one.

use jiff::Timestamp;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Resource, ResourceExt};
use serde_json::Value;

use crate::controller::context::Context;
use crate::controller::error::Result;
use crate::controller::finalizers;
use crate::controller::observe::namespace_deleted_at;
use crate::events::Note;
use crate::resources::FINALIZER;

/// What becomes of an object that cannot be read and is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It waits until somebody mends it, for what it registered is to be removed.
    Waits,
    /// It goes, and nothing was to be removed.
    Goes,
    /// It goes and leaves what should have been removed, for that cause.
    LeavesAnOrphan(&'static str),
}

/// Takes our finalizer off an object that may go, and says whether it did.
pub(super) async fn let_go(
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
    let grace = context.rules.timing.namespace_grace;
    let namespace_waits_no_longer = deleted_at.is_some_and(|at| at + grace <= Timestamp::now());
    let end = end(&live.data, namespace_waits_no_longer);
    if end == End::Waits {
        return Ok(false);
    }
    let id = live.data.pointer("/status/registration/credentialId").and_then(Value::as_i64);
    if let End::LeavesAnOrphan(cause) = end {
        tracing::error!(
            object = format!("{namespace}/{name}"),
            id,
            cause,
            "an orphan is left: the object cannot be read"
        );
    }
    finalizers::set(&context.leadership, api, live, FINALIZER, false).await?;
    if let End::LeavesAnOrphan(cause) = end {
        context.metrics.credentials.orphaned(cause);
        let what = id.map_or_else(|| "what it registered".to_owned(), |id| format!("credential {id}"));
        let text = format!(
            "{what} is left although deletionPolicy is Delete, for the object could not be read ({cause}): remove it at its destination"
        );
        let note = Note { is_warning: true, reason: "Orphaned", action: "Delete", text, ids: String::new() };
        context.events.publish_orphan(&live.object_ref(kind), &note).await;
    }
    Ok(true)
}

/// As `decide` has it for objects that can be read, from the words alone.
fn end(object: &Value, namespace_waits_no_longer: bool) -> End {
    let word = |path: &str| object.pointer(path);
    let is_registered = ["/status/registration", "/status/pending", "/status/retiring/0"]
        .into_iter()
        .any(|path| word(path).is_some_and(|it| !it.is_null()));
    if !is_registered || word("/spec/deletionPolicy").and_then(Value::as_str) != Some("Delete") {
        End::Goes
    } else if word("/spec/suspend").and_then(Value::as_bool) == Some(true) {
        End::LeavesAnOrphan("suspended")
    } else if namespace_waits_no_longer {
        End::LeavesAnOrphan("namespace")
    } else {
        End::Waits
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_that_cannot_be_read_ends_as_its_words_say() {
        let registered = json!({"registration": {"credentialId": 7}});
        let object = |policy: &str, suspend: bool, status: &Value| json!({"spec": {"deletionPolicy": policy, "suspend": suspend, "expiryWarning": "odd"}, "status": status});
        for (object, terminating, expected) in [
            (object("Retain", false, &registered), false, End::Goes),
            (json!({"spec": {}, "status": registered}), false, End::Goes),
            (object("Delete", false, &json!({})), false, End::Goes),
            (object("Delete", false, &registered), false, End::Waits),
            (object("Delete", false, &json!({"pending": {"token": "t"}})), false, End::Waits),
            (object("Delete", true, &registered), false, End::LeavesAnOrphan("suspended")),
            (object("Delete", false, &registered), true, End::LeavesAnOrphan("namespace")),
        ] {
            assert_eq!(end(&object, terminating), expected, "{object}");
        }
    }
}
