//! The queue of `MicrosoftGraphCredential`s: from watch and calls to guarded passes.

use std::convert::Infallible;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::controller::{self, Action, Config, applier};
use kube::{Resource, ResourceExt};

use super::context::Context;
use super::guard::{Guard, Guarded};
use super::index::{Named, Referrer};
use super::observe::owner;
use super::scope::GuardedCredential;
use super::triggers::{News, Prepared, prepare};
use super::watches::Watch;
use super::{invalid, pass};
use crate::resources::{FINALIZER, MicrosoftGraphCredential};
use crate::telemetry::logs::chain;

/// The kind of the objects in the queue.
pub const KIND: &str = "MicrosoftGraphCredential";

/// The name of the queue, and of its controller, in metrics.
const QUEUE: &str = "microsoftgraphcredential";

/// Runs the queue of one scope until the controller stops and the passes under way have ended.
pub async fn run(context: Arc<Context>, watch: Watch<GuardedCredential>) {
    let Prepared { store, requests, end } = prepare(&context, (KIND, QUEUE), watch, keep_books);
    let guard =
        Guard::new(QUEUE, &context.rules.timing, context.max_concurrent_passes, context.metrics.clone());
    let guard = Arc::new(guard);
    let books = guard.clone();
    let config = Config::default().concurrency(context.max_concurrent_passes);
    let reconcile = move |object: Arc<GuardedCredential>, context: Arc<Context>| {
        let guard = guard.clone();
        Box::pin(async move {
            let own = Named::of(&*object);
            let Guarded { action, note } = match &object.0 {
                Ok(_) => guard.watch_over(&own, Box::pin(pass::run(&context, &own))).await,
                Err(problem) => {
                    guard
                        .watch_over(
                            &own,
                            invalid::report::<MicrosoftGraphCredential>(&context, &own, &problem.error),
                        )
                        .await
                }
            };
            if let Some(note) = &note {
                context.events.emit(&object.object_ref(&()), note).await;
            }
            Ok::<Action, Infallible>(action)
        })
    };
    let never = |_: Arc<GuardedCredential>, error: &Infallible, _: Arc<Context>| match *error {};
    let queue = applier(reconcile, never, context.clone(), store, requests, config).for_each(move |ended| {
        match ended {
            Ok(_) => {}
            // Deleted between its call and its pass.
            Err(controller::Error::ObjectNotFound(object)) => {
                books.forget(Named::of_reference(&object));
            }
            Err(error) => tracing::error!(error = chain(&error), "the queue of credentials failed"),
        }
        std::future::ready(())
    });
    end.of(queue).await;
}

/// Keeps the index true, and wakes who waits for what an object had.
fn keep_books(context: &Context, news: &News<'_, GuardedCredential>) {
    match news {
        News::Known(guarded) => {
            context.own_writes.arrived(&Named::of(*guarded), guarded);
            let Ok(object) = &guarded.0 else { return };
            if is_let_go(object) {
                context.forget_holdings(&guarded.uid().unwrap_or_default());
            } else {
                context.note_holdings(object, &object.status_or_default());
            }
            if context.index.put_credential(object) {
                context.call_rivals(object);
            }
        }
        News::Gone(guarded) => {
            let uid = guarded.uid().unwrap_or_default();
            context.claims.release(&uid);
            context.accounts.leave_lanes(&owner(&Named::of(*guarded)), None);
            context.bury_holdings(&uid);
            context.sightings.forget(&uid);
            context.makings.forget(&uid);
            context.queued.forget(&uid);
            context.own_writes.forget(&Named::of(*guarded));
            context.metrics.queues.forget(QUEUE, &Named::of(*guarded).to_string());
            context.accounts.take_news(&Named::of(*guarded));
            context.index.remove(&Referrer::Credential(Named::of(*guarded)));
            let Ok(object) = &guarded.0 else { return };
            context.call_rivals(object);
        }
    }
}

/// Whether another finalizer alone still keeps a deleted object, of which we have let go.
fn is_let_go(object: &MicrosoftGraphCredential) -> bool {
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    is_deleted && !object.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}
