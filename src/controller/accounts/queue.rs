//! The queue of `WoodpeckerAccount`s: from watch and calls to guarded passes.

use std::sync::Arc;

use kube::runtime::watcher::Event;
use kube::{Api, Resource, ResourceExt};

use super::pass::{self, owner};
use crate::controller::context::Context;
use crate::controller::guard::Guard;
use crate::controller::index::{self, Due, Effects, Named};
use crate::controller::queue::{Ended, Priority, Queue};
use crate::controller::scope::{GuardedAccount, Scope};
use crate::controller::triggers::Trigger;
use crate::resources::WoodpeckerAccount;

/// The kind of the objects in the queue.
pub const KIND: &str = "WoodpeckerAccount";

/// The name of the queue, and of its controller, in metrics.
const QUEUE: &str = "woodpeckeraccount";

/// What a change of an account triggers.
pub const TRIGGER: Trigger<GuardedAccount> =
    Trigger { kind: KIND, read: index::read_pruned::<WoodpeckerAccount>, note, wake, wake_new: wake };

/// Runs the queue of accounts until the controller stops and the passes under way have ended.
pub async fn run(context: Arc<Context>) {
    // What an account's counts say rests on all credentials: with some of them not heard of yet, each start
    // would write wrong ones and then right ones. Where a namespace cannot be listed, the accounts go on all
    // the same, without counts.
    let listed = tokio::time::timeout(context.rules.timing.kube_headers, context.index.credentials_listed());
    match context.stop.run_until_cancelled(listed).await {
        None => return,
        Some(Ok(())) => {}
        Some(Err(_elapsed)) => {
            tracing::warn!("not all credentials could be listed yet: the accounts' counts stay as they are");
        }
    }
    let most = context.max_concurrent_passes;
    let guard = Arc::new(Guard::new(QUEUE, &context.rules.timing, most, context.metrics.clone()));
    let queue = Queue {
        name: QUEUE,
        wakes: context.calls.accounts.clone(),
        most: most.into(),
        verifications: None,
        stop: &context.stop,
        metrics: &context.metrics.queues,
    };
    let reconcile = |own: Arc<Named>| reconcile(context.clone(), guard.clone(), own);
    queue.run(|own| priority(&context, own), reconcile).await;
}

async fn reconcile(context: Arc<Context>, guard: Arc<Guard>, own: Arc<Named>) -> Ended {
    let Some(object) = context.index.account(&own) else {
        guard.forget(&own);
        return Ended::Gone;
    };
    let guarded = match &object.0 {
        Ok(_) => guard.watch_over(&own, pass::run(&context, &own)).await,
        Err(problem) => guard.watch_over(&own, pass::broken(&context, &own, &object, &problem.error)).await,
    };
    if let Some(note) = &guarded.note {
        context.events.emit(&object.object_ref(&()), note).await;
    }
    guarded.ended(&context.rules.timing, &own)
}

fn priority(context: &Context, own: &Named) -> Priority {
    let object = context.index.account(own);
    let is_deleted = object.is_some_and(|object| object.meta().deletion_timestamp.is_some());
    if is_deleted { Priority::Deletion } else { Priority::Ordinary }
}

fn wake(context: &Context, own: Named) {
    context.calls.accounts.now(own);
}

/// Takes in what the watch brings. Returns the accounts of which a pass is due.
fn note(context: &Context, scope: &Scope, event: Event<GuardedAccount>) -> Vec<Due> {
    let own = match &event {
        Event::InitApply(guarded) | Event::Apply(guarded) => Some(Named::of(guarded)),
        Event::Init | Event::InitDone | Event::Delete(_) => None,
    };
    follow(context, own.as_ref(), context.index.note_account(scope, context.relist.round(), event))
}

/// Takes in the object with which the API server has answered our own write.
pub(super) fn note_written(context: &Context, object: &WoodpeckerAccount) {
    follow(context, Some(&Named::of(object)), context.index.note_written_account(object));
}

/// Reads an account of which a write has shown that what is known is outdated.
pub(super) async fn read(context: &Context, own: &Named) -> Result<(), kube::Error> {
    let api: Api<WoodpeckerAccount> = Api::namespaced(context.client.clone(), &own.namespace);
    let asked = context.index.moment_of_accounts();
    let found = api.get_opt(&own.name).await?;
    follow(context, Some(own), context.index.note_read_account(own, asked, found.as_ref()));
    Ok(())
}

/// Does what follows from news of that account, and wakes the credentials of accounts that went. Returns the accounts that
/// are due.
fn follow(context: &Context, own: Option<&Named>, effects: Effects) -> Vec<Due> {
    for own in effects.gone {
        wake(context, own.clone());
        context.accounts.leave_lanes(&owner(&own), None);
        let confused = {
            let mut registry = context.accounts.lock();
            registry.forget(&own);
            registry.confused_by(&own)
        };
        for other in confused {
            context.calls.account(&other);
        }
        context.call_credentials_at(&own);
    }
    // One of another uid may have the name of one that went.
    if let Some((own, known)) = own.and_then(|own| Some((own, context.index.account(own)?))) {
        context.accounts.lock().note_existence(own, &known.uid().unwrap_or_default());
    }
    if effects.relist {
        context.relist.raise(KIND);
    }
    effects.due
}
