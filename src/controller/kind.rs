//! What the controller has to know of a kind that it reconciles.

use std::fmt::Debug;

use kube::core::{DynamicObject, NamespaceResourceScope};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::api::NamespacedName;
use crate::controller::context::Context;
use crate::controller::error::ReconcileError;
use crate::controller::index::Indexed;
use crate::controller::instrument::Completed;
use crate::controller::queue::{Priority, QueueSender};
use crate::controller::requeue::{QueueSenders, Requeuer};
use crate::k8s::scope::Scope;
use crate::woodpecker::{Requester, RequesterKind};

/// A kind that is reconciled.
pub trait Kind:
    Indexed + Resource<Scope = NamespaceResourceScope> + Debug + DeserializeOwned + Send + Sync + 'static
{
    const KIND: &'static str;
    /// The name of its work queue and its controller in metrics.
    const QUEUE: &'static str;
    /// As requester of permits in account queues; `None` if it sends nothing to Woodpecker.
    const REQUESTER: Option<RequesterKind>;

    /// The sender of its work queue.
    fn sender(senders: &QueueSenders) -> &QueueSender;

    /// Reconciles a valid object.
    fn reconcile(
        context: &Context,
        own: &NamespacedName,
    ) -> impl Future<Output = Result<Completed, ReconcileError>> + Send;

    /// The priority of the next reconcile.
    fn priority(&self) -> Priority {
        Priority::Ordinary
    }

    /// Called after each complete list of a scope, once the index has it.
    fn on_listed(_context: &Context) {}

    /// Enqueues an object that is new to this process.
    fn enqueue_new(context: &Context, own: NamespacedName) {
        context.requeuer.of::<Self>().enqueue(own);
    }

    /// The message about an invalid object: the consequence, and what to do.
    fn invalid_message(live: &DynamicObject, problem: &str) -> String;

    /// Adds or removes the finalizer of an invalid object, as far as its readable fields allow. Returns the resulting
    /// object, or `None` if its finalizer was removed and it is deleted.
    fn update_finalizer_of_invalid(
        context: &Context,
        own: &NamespacedName,
        api: &Api<DynamicObject>,
        live: DynamicObject,
    ) -> impl Future<Output = Result<Option<DynamicObject>, ReconcileError>> + Send;

    /// Called if an object is invalid.
    fn on_invalid(_context: &Context, _own: &NamespacedName, _uid: &str) {}

    /// Called when an object is deleted: requeues its dependents.
    fn on_deleted(_requeuer: &Requeuer, _own: &NamespacedName) {}

    /// The requester of an object's entries in account queues.
    fn requester(own: &NamespacedName) -> Option<Requester> {
        let (namespace, name) = (own.namespace.clone(), own.name.clone());
        Self::REQUESTER.map(|kind| Requester { kind, namespace, name })
    }
}

/// The readiness check that waits for the first list of a kind in a scope.
pub fn readiness_check<K: Kind>(scope: &Scope) -> String {
    match scope {
        Scope::All => format!("informer-sync/{}", K::plural(&())),
        Scope::Namespace(name) => format!("informer-sync/{}/{name}", K::plural(&())),
    }
}
