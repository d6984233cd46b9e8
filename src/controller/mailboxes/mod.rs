//! The controller of `WoodpeckerMailboxes` objects, which connect mailboxes at Woodpecker and never disconnect any.

mod listing;
mod others;
mod reconcile;
mod submissions;
mod submit;
mod target;
mod write;

use kube::Api;
use kube::core::DynamicObject;

use crate::api::{NamespacedName, WoodpeckerMailboxes};
use crate::controller::context::Context;
use crate::controller::error::ReconcileError;
use crate::controller::instrument::Completed;
use crate::controller::kind::Kind;
use crate::controller::queue::QueueSender;
use crate::controller::requeue::QueueSenders;
use crate::woodpecker::{Requester, RequesterKind};

pub use self::listing::SharedListing;
pub use self::submissions::Submissions;

impl Kind for WoodpeckerMailboxes {
    const KIND: &'static str = "WoodpeckerMailboxes";
    const QUEUE: &'static str = "woodpeckermailboxes";
    const REQUESTER: Option<RequesterKind> = Some(RequesterKind::Mailboxes);

    fn sender(senders: &QueueSenders) -> &QueueSender {
        &senders.mailboxes
    }

    async fn reconcile(context: &Context, own: &NamespacedName) -> Result<Completed, ReconcileError> {
        let mut queued_in = None;
        let ended = reconcile::run(context, own, &mut queued_in).await;
        context.accounts.leave_queues(&requester(own), queued_in.as_ref());
        if matches!(ended, Err(ReconcileError::Conflict)) {
            // The index is outdated.
            context.read::<Self>(own).await.map_err(ReconcileError::ReadObject)?;
        }
        ended
    }

    fn invalid_message(_live: &DynamicObject, problem: &str) -> String {
        format!("the object is invalid, and no mailbox is connected for it: fix the field ({problem})")
    }

    /// It has no finalizer, because its deletion changes nothing at Woodpecker.
    async fn update_finalizer_of_invalid(
        _context: &Context,
        _own: &NamespacedName,
        _api: &Api<DynamicObject>,
        live: DynamicObject,
    ) -> Result<Option<DynamicObject>, ReconcileError> {
        Ok(Some(live))
    }

    fn on_invalid(context: &Context, own: &NamespacedName, _uid: &str) {
        context.accounts.leave_queues(&requester(own), None);
    }
}

/// The requester of an object's queue entries.
fn requester(own: &NamespacedName) -> Requester {
    Requester { kind: RequesterKind::Mailboxes, namespace: own.namespace.clone(), name: own.name.clone() }
}
