//! Follows the labels of namespaces while an account selects namespaces by them, if the operator may. Access may be
//! granted or revoked while the operator runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{PartialObjectMeta, PostParams};
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource, ResourceExt};

use crate::api::{AccountName, Labels, NamespacedName};
use crate::controller::context::Context;
use crate::controller::index::NamespaceLabels;
use crate::core::error_chain::chain;
use crate::k8s::streak::FailureStreak;
use crate::k8s::watch::WatchTarget;

type NamespaceMeta = PartialObjectMeta<Namespace>;

/// Runs until the controller stops.
pub async fn run(context: Arc<Context>) {
    let _stopped = context.stop.run_until_cancelled(follow(&context)).await;
}

async fn follow(context: &Context) {
    let mut streak = FailureStreak::default();
    loop {
        if !context.index.has_namespace_selector() {
            requeue(context, context.index.replace_namespaces(NamespaceLabels::Unread));
            context.index.selector_added.notified().await;
            continue;
        }
        match may_watch(&context.client).await {
            Ok(true) => {
                streak.record_success();
                watch(context).await;
            }
            Ok(false) => {
                if !context.index.are_namespaces_forbidden() {
                    tracing::warn!(
                        "the operator may not list and watch namespaces, so spec.allowedNamespaces.selector of accounts lets nobody in: set the chart's rbac.namespaceSelectors"
                    );
                }
                requeue(context, context.index.replace_namespaces(NamespaceLabels::Forbidden));
                tokio::time::sleep(context.policy.timing.secret_poll).await;
            }
            Err(error) => {
                if streak.record_failure(&error.to_string(), &context.policy.timing).1 {
                    tracing::warn!(
                        error = chain(&error),
                        "failed to check whether namespaces may be watched"
                    );
                }
                tokio::time::sleep(context.policy.timing.secret_poll).await;
            }
        }
    }
}

/// Watches until the right to watch is revoked, or no account selects namespaces.
async fn watch(context: &Context) {
    let watched = WatchTarget::<NamespaceMeta>::metadata("Namespace", None);
    let (watching, mut listing) = (context.watching(), HashMap::new());
    let follow = watching.follow(&watched, |event| on_watch_event(context, &mut listing, event));
    tokio::select! {
        never = follow => match never {},
        () = is_over(context) => {}
    }
}

async fn is_over(context: &Context) {
    loop {
        tokio::time::sleep(context.policy.timing.secret_poll).await;
        if !context.index.has_namespace_selector() || matches!(may_watch(&context.client).await, Ok(false)) {
            return;
        }
    }
}

async fn may_watch(client: &Client) -> Result<bool, kube::Error> {
    for verb in ["list", "watch"] {
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            resource: Some("namespaces".to_owned()),
            ..ResourceAttributes::default()
        };
        let spec =
            SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        let response = reviews.create(&PostParams::default(), &review).await?;
        if !response.status.is_some_and(|status| status.allowed) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn on_watch_event(context: &Context, listing: &mut HashMap<String, Labels>, event: Event<NamespaceMeta>) {
    let changed = match event {
        Event::Init => {
            listing.clear();
            return;
        }
        Event::InitApply(namespace) => {
            listing.insert(namespace.name_any(), labels(&namespace));
            return;
        }
        Event::InitDone => context.index.replace_namespaces(NamespaceLabels::Read(std::mem::take(listing))),
        Event::Apply(namespace) => {
            context.index.replace_namespace(&namespace.name_any(), Some(labels(&namespace)))
        }
        Event::Delete(namespace) => context.index.replace_namespace(&namespace.name_any(), None),
    };
    requeue(context, changed);
}

fn labels(namespace: &NamespaceMeta) -> Labels {
    namespace.meta().labels.clone().unwrap_or_default()
}

/// Reconciles accounts, whose finalizer and condition may change, and the credentials that are let in or no longer are.
fn requeue(context: &Context, changed: BTreeMap<AccountName, Vec<NamespacedName>>) {
    for (account, credentials) in changed {
        context.requeuer.account(&account);
        for own in credentials {
            if let Some(uid) = context.latest(&own).and_then(|known| known.meta().uid.clone()) {
                context.index.with(&uid, |known| known.account_changed = true);
            }
            context.requeuer.credential(&own);
        }
    }
}
