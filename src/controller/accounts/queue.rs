//! The queue of `WoodpeckerAccount`s: from watch and calls to guarded passes.

use std::convert::Infallible;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::controller::{self, Action, Config, applier};
use kube::{Resource, ResourceExt};

use super::pass::{self, owner};
use crate::controller::context::Context;
use crate::controller::guard::{Guard, Guarded};
use crate::controller::index::{Named, Referrer};
use crate::controller::scope::GuardedAccount;
use crate::controller::triggers::{News, Prepared, prepare};
use crate::controller::watches::Watch;
use crate::resources::AccountName;
use crate::telemetry::logs::chain;

/// The kind of the objects in the queue.
pub const KIND: &str = "WoodpeckerAccount";

/// The name of the queue, and of its controller, in metrics.
const QUEUE: &str = "woodpeckeraccount";

/// Runs the queue of accounts of one scope until the controller stops.
pub async fn run(context: Arc<Context>, watch: Watch<GuardedAccount>) {
    let Prepared { store, requests, end } = prepare(&context, (KIND, QUEUE), watch, keep_books);
    // What an account's counts say rests on all credentials: with some of them not heard of yet, each start
    // would write wrong ones and then right ones. Where a namespace cannot be listed, the accounts go on all
    // the same, without counts.
    let listed = tokio::time::timeout(context.rules.timing.kube_headers, context.scopes.credentials_listed());
    match context.stop.run_until_cancelled(listed).await {
        None => return,
        Some(Ok(())) => {}
        Some(Err(_elapsed)) => {
            tracing::warn!("not all credentials could be listed yet: the accounts' counts stay as they are");
        }
    }
    let guard =
        Guard::new(QUEUE, &context.rules.timing, context.max_concurrent_passes, context.metrics.clone());
    let guard = Arc::new(guard);
    let books = guard.clone();
    let config = Config::default().concurrency(context.max_concurrent_passes);
    let reconcile = move |object: Arc<GuardedAccount>, context: Arc<Context>| {
        let guard = guard.clone();
        Box::pin(async move {
            let own = Named::of(&*object);
            let Guarded { action, note } = match &object.0 {
                Ok(_) => guard.watch_over(&own, pass::run(&context, &own)).await,
                Err(problem) => {
                    guard.watch_over(&own, pass::broken(&context, &own, &object, &problem.error)).await
                }
            };
            if let Some(note) = &note {
                context.events.emit(&object.object_ref(&()), note).await;
            }
            Ok::<Action, Infallible>(action)
        })
    };
    let never = |_: Arc<GuardedAccount>, error: &Infallible, _: Arc<Context>| match *error {};
    let queue = applier(reconcile, never, context.clone(), store, requests, config).for_each(move |ended| {
        match ended {
            Ok(_) => {}
            Err(controller::Error::ObjectNotFound(object)) => {
                books.forget(Named::of_reference(&object));
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "the queue of accounts failed");
            }
        }
        std::future::ready(())
    });
    end.of(queue).await;
}

/// Keeps the index true, and wakes the credentials of an account that went.
fn keep_books(context: &Context, news: &News<'_, GuardedAccount>) {
    match news {
        News::Known(guarded) => {
            let own = Named::of(*guarded);
            let name = AccountName { namespace: own.namespace, name: own.name };
            context.accounts.note_existence(&name, &guarded.uid().unwrap_or_default());
            if let Ok(object) = &guarded.0 {
                context.index.put_account(object);
            }
        }
        News::Gone(guarded) => {
            let own = Named::of(*guarded);
            context.index.remove(&Referrer::Account(own.clone()));
            context.metrics.queues.forget(QUEUE, &own.to_string());
            let name = AccountName { namespace: own.namespace, name: own.name };
            context.accounts.leave_lanes(&owner(&name), None);
            context.accounts.forget(&name);
            for other in context.accounts.confused_by(&name) {
                context.calls.account(&other.namespace, &other.name);
            }
            context.call_credentials_at(&name);
        }
    }
}
