//! The generic controller of one kind: keeps the index up to date, enqueues objects whose changes matter (our own
//! status writes do not), and reconciles what is enqueued.

use std::sync::Arc;

use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

use crate::api::NamespacedName;
use crate::controller::context::Context;
use crate::controller::error::ReconcileError;
use crate::controller::index::{Due, read_pruned};
use crate::controller::instrument::{Completed, ReconcileRunner};
use crate::controller::invalid;
use crate::controller::kind::{Kind, readiness_check};
use crate::controller::queue::{Priority, Queue, QueueResult};
use crate::k8s::scope::Scope;
use crate::k8s::watch::WatchTarget;
use crate::woodpecker::RequesterKind;

/// Watches the objects of one scope until the controller stops.
pub async fn watch<K: Kind>(context: Arc<Context>, scope: Scope) {
    let watched = WatchTarget::objects(K::KIND, scope.namespace(), read_pruned::<K>);
    let (watching, readiness_check) = (context.watching(), readiness_check::<K>(&scope));
    let follow = watching.follow(&watched, |event| {
        let is_complete = matches!(event, Event::InitDone);
        let effects = context.index.on_watch_event::<K>(&scope, context.relist.round(), event);
        for Due { object, is_new } in context.requeuer.apply::<K>(effects) {
            if is_new {
                K::enqueue_new(&context, object);
            } else {
                context.requeuer.of::<K>().enqueue(object);
            }
        }
        if is_complete {
            K::on_listed(&context);
            context.readiness.done(&readiness_check);
        }
    });
    let _stopped = context.stop.run_until_cancelled(follow).await;
}

/// Runs the work queue until the controller stops and in-flight reconciles have ended.
pub async fn run<K: Kind>(context: Arc<Context>) {
    let max_concurrent = context.max_concurrent_reconciles;
    let runner = Arc::new(ReconcileRunner::new(
        K::QUEUE,
        &context.policy.timing,
        max_concurrent,
        context.metrics.clone(),
    ));
    let queue = Queue {
        name: K::QUEUE,
        sender: context.requeuer.of::<K>().clone(),
        max_concurrent: max_concurrent.into(),
        verification_slots: matches!(K::REQUESTER, Some(RequesterKind::Credential))
            .then(|| context.verification_slots.clone()),
        stop: &context.stop,
        metrics: &context.metrics.queues,
    };
    let priority = |own: &NamespacedName| {
        let known = context.index.get::<K>(own);
        known.map_or(Priority::Ordinary, |known| match &known.0 {
            _ if known.meta().deletion_timestamp.is_some() => Priority::Deletion,
            Ok(object) => object.priority(),
            Err(_invalid) => Priority::Ordinary,
        })
    };
    queue.run(priority, |own: Arc<NamespacedName>| run_one::<K>(context.clone(), runner.clone(), own)).await;
}

async fn run_one<K: Kind>(
    context: Arc<Context>,
    runner: Arc<ReconcileRunner>,
    own: Arc<NamespacedName>,
) -> QueueResult {
    let Some(object) = context.index.get::<K>(&own) else {
        runner.forget(&own);
        return QueueResult::Forget;
    };
    let (ended, event) = runner.execute(&own, Box::pin(reconcile_object(&context, &own, &object))).await;
    if let Some(event) = event {
        context.events.emit(&object.object_ref(&()), &event).await;
    }
    ended
}

async fn reconcile_object<K: Kind>(
    context: &Context,
    own: &NamespacedName,
    object: &DeserializeGuard<K>,
) -> Result<Completed, ReconcileError> {
    match &object.0 {
        Ok(_) => K::reconcile(context, own).await,
        Err(problem) => {
            K::on_invalid(context, own, &object.uid().unwrap_or_default());
            invalid::report::<K>(context, own, &problem.error).await
        }
    }
}
