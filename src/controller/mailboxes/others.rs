//! Other `WoodpeckerMailboxes` that keep one from submitting mailboxes with a credential that is not proven.

use crate::api::WoodpeckerMailboxes;
use crate::controller::mailboxes::reconcile::Session;
use crate::controller::mailboxes::target::Connection;
use crate::core::mailbox_connection::{Intent, is_kept_from};

/// Why these mailboxes have to wait; `None` if nothing keeps them. It looks at all objects, but only before a request with
/// a credential that is not proven.
pub(super) fn waits_for_another(
    session: &Session<'_>,
    target: &Connection,
    emails: &[String],
) -> Option<String> {
    let credential_id = target.registration.credential_id;
    if session.status.proven_credential_id == Some(credential_id) {
        return None;
    }
    let own = session.object.metadata.uid.as_deref().unwrap_or_default();
    let submission_target = target.account.as_submission_target();
    let intent = Intent {
        credential_id,
        base_url: &submission_target.base_url,
        emails,
        own: session.status.pending.as_ref().map(|pending| (pending, own)),
    };
    let all = session.context.index.all::<WoodpeckerMailboxes>();
    let found = all.iter().filter_map(|parsed| parsed.0.as_ref().ok()).find(|other| {
        let uid = other.metadata.uid.as_deref().unwrap_or_default();
        uid != own && other.status.as_ref().is_some_and(|status| is_kept_from(&intent, status, uid))
    })?;
    // Of another namespace, the user does not learn the name.
    let is_near = found.metadata.namespace.as_deref() == Some(session.own.namespace.as_str());
    let name = found.metadata.name.as_deref().filter(|_| is_near).unwrap_or("of another namespace");
    Some(format!(
        "WoodpeckerMailboxes {name} has submitted a mailbox with the same credential, and no listing has shown it yet: the \
         operator continues once one does. A mailbox belongs in one WoodpeckerMailboxes only"
    ))
}
