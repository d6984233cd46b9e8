//! Watches the metadata of all Secrets of a scope, where the operator may. No Secret is stored.

use std::collections::HashSet;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use tokio::time::Instant;

use super::rights::{self, Access};
use super::{Seen, State, referenced};
use crate::controller::context::Context;
use crate::controller::index::Named;
use crate::controller::scope::Scope;
use crate::secrets::SecretVersion;
use crate::telemetry::logs::chain;

type SecretMeta = PartialObjectMeta<Secret>;

/// Follows the stream until the right to it is gone or the controller stops. The right is asked for again
/// every minute, and at once after an error.
pub(super) async fn watch(context: &Context, scope: &Scope, seen: &mut Seen) {
    let mut stream = std::pin::pin!(stream(context, scope));
    let mut listing = HashSet::new();
    let mut ask_at = Instant::now() + context.rules.timing.secret_poll;
    loop {
        let event = tokio::select! {
            () = context.stop.cancelled() => return,
            () = tokio::time::sleep_until(ask_at) => None,
            event = stream.next() => Some(event),
        };
        match event {
            Some(None) => return,
            Some(Some(Ok(event))) => note(context, scope, seen, &mut listing, event),
            Some(Some(Err(error))) => {
                context.metrics.kubernetes.watch_failed("Secret");
                tracing::warn!(
                    kind = "Secret",
                    ?scope,
                    error = chain(&error),
                    "a watch failed and is tried again"
                );
                if is_over(context, scope).await {
                    return;
                }
            }
            None => {
                if is_over(context, scope).await {
                    return;
                }
                ask_at = Instant::now() + context.rules.timing.secret_poll;
                seen.keep(&referenced(context, scope));
            }
        }
    }
}

/// Whether the right to watch is gone, or the controller stops.
async fn is_over(context: &Context, scope: &Scope) -> bool {
    context.stop.run_until_cancelled(has_lost_the_right(context, scope)).await.unwrap_or(true)
}

fn note(
    context: &Context,
    scope: &Scope,
    seen: &mut Seen,
    listing: &mut HashSet<Named>,
    event: Event<SecretMeta>,
) {
    match event {
        Event::Init => listing.clear(),
        Event::InitApply(secret) => {
            let name = Named::of(&secret);
            if is_referenced(context, &name) {
                listing.insert(name.clone());
                seen.note(context, name, there(&secret));
            }
        }
        Event::Apply(secret) => {
            let name = Named::of(&secret);
            if is_referenced(context, &name) {
                seen.note(context, name, there(&secret));
            }
        }
        Event::Delete(secret) => {
            let name = Named::of(&secret);
            if is_referenced(context, &name) {
                seen.note(context, name, State::Missing);
            }
        }
        Event::InitDone => {
            for name in referenced(context, scope) {
                if !listing.contains(&name) {
                    seen.note(context, name, State::Missing);
                }
            }
            listing.clear();
        }
    }
}

fn is_referenced(context: &Context, secret: &Named) -> bool {
    !context.index.referrers(secret).is_empty()
}

fn there(secret: &SecretMeta) -> State {
    let meta = &secret.metadata;
    State::There(SecretVersion {
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
    })
}

async fn has_lost_the_right(context: &Context, scope: &Scope) -> bool {
    matches!(rights::ask(&context.client, scope).await, Ok(Access::Get))
}

fn stream(
    context: &Context,
    scope: &Scope,
) -> impl Stream<Item = watcher::Result<Event<SecretMeta>>> + use<> {
    let idle = u32::try_from(context.rules.timing.watch_idle.as_secs()).unwrap_or(u32::MAX).clamp(1, 290);
    let config = watcher::Config::default().timeout(idle).page_size(500);
    watch_objects(scope.api::<SecretMeta>(&context.client), config).default_backoff()
}
