//! Watches the metadata of all Secrets of a scope, if a `SelfSubjectAccessReview` allows it. No Secret is stored.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{PartialObjectMeta, PostParams};
use kube::runtime::watcher::Event;
use kube::{Api, Client};

use crate::api::NamespacedName;
use crate::controller::context::Context;
use crate::controller::secret_watch::{SecretState, on_observed, referenced};
use crate::controller::version::Version;
use crate::k8s::scope::Scope;
use crate::k8s::watch::WatchTarget;

/// How changes of Secrets are detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// By watching all of them.
    Watch,
    /// By polling each.
    Get,
}

type SecretMeta = PartialObjectMeta<Secret>;

/// Checks whether Secrets of that scope may be listed and watched.
pub(super) async fn check_access(client: &Client, scope: &Scope) -> Result<Access, kube::Error> {
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
    let response = reviews.create(&PostParams::default(), &review).await?;
    Ok(response.status.is_some_and(|status| status.allowed))
}

/// Watches until the right to watch is revoked.
pub(super) async fn watch(context: &Context, scope: &Scope) {
    let watched = WatchTarget::<SecretMeta>::metadata("Secret", scope.namespace());
    let (watching, mut listing) = (context.watching(), HashSet::new());
    let follow = watching.follow(&watched, |event| on_watch_event(context, scope, &mut listing, event));
    tokio::select! {
        never = follow => match never {},
        () = right_revoked(context, scope) => {}
    }
}

/// Returns once the right to watch is revoked.
async fn right_revoked(context: &Context, scope: &Scope) {
    let is_in_scope = |secret: &NamespacedName| scope.covers(&secret.namespace);
    loop {
        tokio::time::sleep(context.policy.timing.secret_poll).await;
        if matches!(check_access(&context.client, scope).await, Ok(Access::Get)) {
            return;
        }
        context.secrets.retain(is_in_scope, &referenced(context, is_in_scope));
    }
}

fn on_watch_event(context: &Context, scope: &Scope, listing: &mut HashSet<u64>, event: Event<SecretMeta>) {
    let see = |secret: &SecretMeta, now: SecretState| {
        let name = NamespacedName::of(secret);
        if !context.index.referrers(&name).is_empty() {
            on_observed(context, &name, now);
        }
        name
    };
    match event {
        Event::Init => listing.clear(),
        Event::InitApply(secret) => {
            // Includes Secrets that are not referenced yet.
            listing.insert(digest(&see(&secret, present(&secret))));
        }
        Event::Apply(secret) => {
            see(&secret, present(&secret));
        }
        Event::Delete(secret) => {
            see(&secret, SecretState::Missing);
        }
        Event::InitDone => {
            for name in referenced(context, |secret| scope.covers(&secret.namespace)) {
                if !listing.contains(&digest(&name)) {
                    on_observed(context, &name, SecretState::Missing);
                }
            }
            *listing = HashSet::new();
        }
    }
}

fn digest(name: &NamespacedName) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
}

fn present(secret: &SecretMeta) -> SecretState {
    let meta = &secret.metadata;
    let (uid, version) = (meta.uid.as_deref(), meta.resource_version.as_deref());
    SecretState::Present(Version::of_secret(uid.unwrap_or_default(), version.unwrap_or_default()))
}
