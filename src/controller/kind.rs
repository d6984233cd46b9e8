//! The controller of one kind: keeps the index true, wakes an object only for changes that a pass could answer, so that our
//! own status writes do not, and runs guarded passes over what was woken.

use std::fmt::Debug;
use std::sync::Arc;

use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::context::Context;
use super::error::PassError;
use super::guard::{Guard, Outcome};
use super::index::{Due, Kept, Named, read_pruned};
use super::invalid;
use super::queue::{Ended, Priority, Queue};
use super::scope::Scope;
use crate::k8s::watch::Watched;
use crate::woodpecker::{Owner, OwnerKind};

/// A kind of objects that passes are made over.
pub trait Kind:
    Kept + Resource<Scope = NamespaceResourceScope> + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// As the API names it.
    const KIND: &'static str;
    /// The name of its queue, and of its controller, in metrics.
    const QUEUE: &'static str;
    /// As lanes name it.
    const OWNER: OwnerKind;

    /// The pass over an object that can be read.
    fn pass(context: &Context, own: &Named) -> impl Future<Output = Result<Outcome, PassError>> + Send;

    /// What the pass is about, as far as the object tells.
    fn priority(&self) -> Priority {
        Priority::Ordinary
    }

    /// Wakes an object that is new to this process.
    fn wake_new(context: &Context, own: Named) {
        context.calls.of(Self::OWNER).now(own);
    }

    /// An object cannot be read.
    fn note_unreadable(_context: &Context, _own: &Named, _uid: &str) {}

    fn note_gone(_context: &Context, _own: &Named) {}

    /// The owner of an object's tickets.
    fn owner(own: &Named) -> Owner {
        Owner { kind: Self::OWNER, namespace: own.namespace.clone(), name: own.name.clone() }
    }
}

/// The name under which readiness waits for the first list of a kind in a scope.
pub fn gate<K: Kind>(scope: &Scope) -> String {
    match scope {
        Scope::All => format!("the first list of {}s", K::KIND),
        Scope::Namespace(name) => format!("the first list of {}s in namespace {name}", K::KIND),
    }
}

/// Follows the objects of one scope until the controller stops.
pub async fn follow<K: Kind>(context: Arc<Context>, scope: Scope) {
    let watched = Watched::objects(K::KIND, scope.namespace(), read_pruned::<K>);
    let (watching, gate) = (context.watching(), gate::<K>(&scope));
    let follow = watching.follow(&watched, |event| {
        let is_complete = matches!(event, Event::InitDone);
        let effects = context.index.note::<K>(&scope, context.relist.round(), event);
        for Due { object, is_new } in context.follow::<K>(effects) {
            if is_new { K::wake_new(&context, object) } else { context.calls.of(K::OWNER).now(object) }
        }
        if is_complete {
            context.readiness.arrived(&gate);
        }
    });
    let _stopped = context.stop.run_until_cancelled(follow).await;
}

/// Runs the queue until the controller stops and the passes under way have ended.
pub async fn run<K: Kind>(context: Arc<Context>) {
    let most = context.max_concurrent_passes;
    let guard = Arc::new(Guard::new(K::QUEUE, &context.rules.timing, most, context.metrics.clone()));
    let queue = Queue {
        name: K::QUEUE,
        wakes: context.calls.of(K::OWNER).clone(),
        most: most.into(),
        verifications: matches!(K::OWNER, OwnerKind::Credential).then(|| context.verifications.clone()),
        stop: &context.stop,
        metrics: &context.metrics.queues,
    };
    let priority = |own: &Named| {
        let known = context.index.get::<K>(own);
        known.map_or(Priority::Ordinary, |known| match &known.0 {
            _ if known.meta().deletion_timestamp.is_some() => Priority::Deletion,
            Ok(object) => object.priority(),
            Err(_unreadable) => Priority::Ordinary,
        })
    };
    queue.run(priority, |own: Arc<Named>| reconcile::<K>(context.clone(), guard.clone(), own)).await;
}

async fn reconcile<K: Kind>(context: Arc<Context>, guard: Arc<Guard>, own: Arc<Named>) -> Ended {
    let Some(object) = context.index.get::<K>(&own) else {
        guard.forget(&own);
        return Ended::Gone;
    };
    let (ended, note) = guard.watch_over(&own, Box::pin(pass(&context, &own, &object))).await;
    if let Some(note) = note {
        context.events.emit(&object.object_ref(&()), &note).await;
    }
    ended
}

async fn pass<K: Kind>(
    context: &Context,
    own: &Named,
    object: &DeserializeGuard<K>,
) -> Result<Outcome, PassError> {
    match &object.0 {
        Ok(_) => K::pass(context, own).await,
        Err(problem) => {
            K::note_unreadable(context, own, &object.uid().unwrap_or_default());
            invalid::report::<K>(context, own, &problem.error).await
        }
    }
}
