//! The controller of `EntraIdentity` objects, which works in the operator's namespace alone.

pub mod finalizer;
mod reconcile;
mod state;

use kube::Api;
use kube::core::DynamicObject;

use crate::api::{EntraIdentity, NamespacedName};
use crate::controller::context::Context;
use crate::controller::error::ReconcileError;
use crate::controller::instrument::Completed;
use crate::controller::kind::Kind;
use crate::controller::queue::QueueSender;
use crate::controller::requeue::QueueSenders;
use crate::woodpecker::RequesterKind;

pub use self::state::IdentityState;

impl Kind for EntraIdentity {
    const KIND: &'static str = "EntraIdentity";
    const QUEUE: &'static str = "entraidentity";
    const REQUESTER: Option<RequesterKind> = None;

    fn sender(senders: &QueueSenders) -> &QueueSender {
        &senders.identities
    }

    fn on_listed(context: &Context) {
        context.identities.on_listed(context);
    }

    async fn reconcile(context: &Context, own: &NamespacedName) -> Result<Completed, ReconcileError> {
        let ended = reconcile::run(context, own).await;
        if matches!(ended, Err(ReconcileError::Conflict)) {
            // The index is outdated.
            context.read::<Self>(own).await.map_err(ReconcileError::ReadObject)?;
        }
        ended
    }

    fn invalid_message(_live: &DynamicObject, problem: &str) -> String {
        format!("the object is invalid, and the operator does not sign in with it: fix the field ({problem})")
    }

    async fn update_finalizer_of_invalid(
        context: &Context,
        _own: &NamespacedName,
        api: &Api<DynamicObject>,
        live: DynamicObject,
    ) -> Result<Option<DynamicObject>, ReconcileError> {
        let is_deleted = live.metadata.deletion_timestamp.is_some();
        let wait = finalizer::release(context, api, &live).await?;
        Ok(Some(live).filter(|_| !is_deleted || wait.is_some()))
    }
}
