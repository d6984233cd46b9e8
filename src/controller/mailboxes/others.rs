//! Other `WoodpeckerMailboxes` that keep one from submitting mailboxes with a credential that is not proven.

use crate::api::WoodpeckerMailboxes;
use crate::api::conditions::Reason;
use crate::controller::mailboxes::reconcile::Session;
use crate::controller::mailboxes::target::Connection;
use crate::core::mailbox_connection::{Intent, Obstacle, obstacle};
use crate::core::status::mailboxes::Standing;

/// Why these mailboxes have to wait; `None` if nothing keeps them. It looks at all objects, but only before a request with
/// a credential that is not proven.
pub(super) fn waits_for_another(
    session: &Session<'_>,
    target: &Connection,
    emails: &[String],
) -> Option<Standing> {
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
        is_requested: session.may_repeat,
    };
    let all = session.context.index.all::<WoodpeckerMailboxes>();
    let (name, found) = all.iter().filter_map(|parsed| parsed.0.as_ref().ok()).find_map(|other| {
        let (namespace, uid) = (other.metadata.namespace.as_deref()?, other.metadata.uid.as_deref()?);
        // A credential and its objects are in one namespace.
        let is_another = uid != own && namespace == session.own.namespace;
        let status = other.status.as_ref().filter(|_| is_another)?;
        Some((other.metadata.name.as_deref()?, obstacle(&intent, status, uid)?))
    })?;
    let problem = match found {
        Obstacle::Pending => format!(
            "WoodpeckerMailboxes {name} has submitted a mailbox with the same credential, and no listing has shown it yet: \
             look at its condition Ready. The operator continues here once a listing shows that mailbox, or once a person has \
             looked in Woodpecker and requested a reconcile there"
        ),
        Obstacle::Submitted => format!(
            "WoodpeckerMailboxes {name} has submitted a mailbox that is next here, and no listing has shown it: it may be \
             connected. Look in Woodpecker, and request a reconcile of this object to submit it all the same, or remove it \
             from the spec"
        ),
    };
    Some(Standing::Blocked(Reason::ConnectionPending, problem, found == Obstacle::Pending))
}
