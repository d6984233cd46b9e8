//! Reports registrations that are left at their destination because the operator could not delete them.

use k8s_openapi::api::core::v1::ObjectReference;

use crate::controller::context::Context;
use crate::core::event::EventBody;
use crate::core::orphan::OrphanCause;

/// Logs it. This comes before the finalizer is removed, because nothing else may be left of the object afterwards.
pub fn log(regarding: &ObjectReference, cause: OrphanCause, text: &str) {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let object = format!("{}/{}", part(&regarding.namespace), part(&regarding.name));
    tracing::error!(object, cause = cause.as_str(), text, "a credential is orphaned");
}

/// Counts it and publishes the event.
pub async fn publish(context: &Context, regarding: &ObjectReference, cause: OrphanCause, text: String) {
    context.metrics.credentials.orphaned(cause);
    let event = EventBody {
        is_warning: true,
        reason: "Orphaned",
        action: "Delete",
        text,
        request_ids: String::new(),
    };
    context.events.publish_orphan(regarding, &event).await;
}
