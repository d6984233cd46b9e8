//! Watches the metadata of all Secrets of a scope, where the operator may: it asks the API server, which answers that to
//! everybody. No Secret is stored.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{PartialObjectMeta, PostParams};
use kube::runtime::watcher::Event;
use kube::{Api, Client};

use super::{SecretState, note, referenced};
use crate::controller::context::Context;
use crate::controller::index::Named;
use crate::controller::scope::Scope;
use crate::controller::version::Version;
use crate::k8s::watch::Watched;

/// How changes of Secrets can be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// By a stream of all of them.
    Watch,
    /// By asking for each.
    Get,
}

type SecretMeta = PartialObjectMeta<Secret>;

/// Asks whether Secrets of that scope may be listed and watched.
pub(super) async fn ask_access(client: &Client, scope: &Scope) -> Result<Access, kube::Error> {
    for verb in ["list", "watch"] {
        if !is_allowed(client, scope, verb).await? {
            return Ok(Access::Get);
        }
    }
    Ok(Access::Watch)
}

async fn is_allowed(client: &Client, scope: &Scope, verb: &str) -> Result<bool, kube::Error> {
    let attributes = ResourceAttributes {
        namespace: scope.namespace().map(str::to_owned),
        verb: Some(verb.to_owned()),
        resource: Some("secrets".to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Follows the stream until the right to it is gone.
pub(super) async fn watch(context: &Context, scope: &Scope) {
    let watched = Watched::<SecretMeta>::metadata("Secret", scope.namespace());
    let (watching, mut listing) = (context.watching(), HashSet::new());
    let follow = watching.follow(&watched, |event| note_event(context, scope, &mut listing, event));
    tokio::select! {
        never = follow => match never {},
        () = is_lost(context, scope) => {}
    }
}

/// Returns once the right to watch is gone.
async fn is_lost(context: &Context, scope: &Scope) {
    let is_ours = |secret: &Named| scope.covers(&secret.namespace);
    loop {
        tokio::time::sleep(context.rules.timing.secret_poll).await;
        if matches!(ask_access(&context.client, scope).await, Ok(Access::Get)) {
            return;
        }
        context.secrets.keep(is_ours, &referenced(context, is_ours));
    }
}

fn note_event(context: &Context, scope: &Scope, listing: &mut HashSet<u64>, event: Event<SecretMeta>) {
    let see = |secret: &SecretMeta, now: SecretState| {
        let name = Named::of(secret);
        if !context.index.referrers(&name).is_empty() {
            note(context, &name, now);
        }
        name
    };
    match event {
        Event::Init => listing.clear(),
        Event::InitApply(secret) => {
            // Also of those that nothing points to yet.
            listing.insert(digest(&see(&secret, there(&secret))));
        }
        Event::Apply(secret) => {
            see(&secret, there(&secret));
        }
        Event::Delete(secret) => {
            see(&secret, SecretState::Missing);
        }
        Event::InitDone => {
            for name in referenced(context, |secret| scope.covers(&secret.namespace)) {
                if !listing.contains(&digest(&name)) {
                    note(context, &name, SecretState::Missing);
                }
            }
            *listing = HashSet::new();
        }
    }
}

fn digest(name: &Named) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
}

fn there(secret: &SecretMeta) -> SecretState {
    let meta = &secret.metadata;
    let (uid, version) = (meta.uid.as_deref(), meta.resource_version.as_deref());
    SecretState::There(Version::of_secret(uid.unwrap_or_default(), version.unwrap_or_default()))
}
