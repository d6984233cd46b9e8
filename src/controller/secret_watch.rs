//! Detects changes of referenced Secrets. If the operator may watch Secrets, it watches the metadata of all of them and
//! keeps the versions of those that are referenced. If it may only `get` them, it polls the metadata of each. Access
//! may be granted or revoked while the operator runs.

mod poll;
mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::{join, join_all};
use parking_lot::Mutex;

use self::watch::Access;
use crate::api::{NamespacedName, ObservedSecret};
use crate::controller::context::Context;
use crate::controller::index::Referrer;
use crate::controller::version::Version;
use crate::core::error_chain::chain;
use crate::k8s::scope::Scope;
use crate::k8s::streak::FailureStreak;

/// The last known state of each referenced Secret.
#[derive(Debug, Default)]
pub struct KnownSecrets(Mutex<HashMap<NamespacedName, SecretState>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretState {
    Present(Version),
    Missing,
    Forbidden,
}

/// The scopes whose Secrets are polled one by one.
type Polled = Mutex<HashSet<Scope>>;

/// Detects changes in all scopes until the controller stops.
pub async fn run(context: Arc<Context>, scopes: Vec<Scope>) {
    let polled = Polled::default();
    let watches = join_all(scopes.into_iter().map(|scope| watch_or_poll(&context, scope, &polled)));
    let both = async {
        // A change requeues only objects that are then known to reference the Secret.
        context.index.credentials_listed().await;
        join(watches, poll::run(&context, &polled)).await
    };
    let _stopped = context.stop.run_until_cancelled(both).await;
}

/// Watches a scope while that is allowed, and otherwise marks it for polling. Access is checked again every minute.
async fn watch_or_poll(context: &Context, scope: Scope, polled: &Polled) {
    let (mut known, mut streak) = (None, FailureStreak::default());
    loop {
        let access = match watch::check_access(&context.client, &scope).await {
            Ok(access) => {
                streak.record_success();
                access
            }
            Err(error) => {
                if streak.record_failure(&error.to_string(), &context.policy.timing).1 {
                    tracing::warn!(
                        ?scope,
                        error = chain(&error),
                        "failed to check whether Secrets may be watched"
                    );
                }
                known.unwrap_or(Access::Get)
            }
        };
        if known.replace(access) != Some(access) {
            tracing::info!(?scope, ?access, "detecting changes of Secrets");
        }
        match access {
            Access::Watch => {
                polled.lock().remove(&scope);
                watch::watch(context, &scope).await;
            }
            Access::Get => {
                polled.lock().insert(scope.clone());
                tokio::time::sleep(context.policy.timing.secret_poll).await;
            }
        }
    }
}

// === impl SecretState ===

impl SecretState {
    pub fn matches(self, recorded: &ObservedSecret) -> bool {
        self == Self::Present(Version::of_observed_secret(recorded))
    }
}

// === impl KnownSecrets ===

impl KnownSecrets {
    /// The last known state of a Secret.
    pub fn known_state(&self, secret: &NamespacedName) -> Option<SecretState> {
        self.0.lock().get(secret).copied()
    }

    /// Records the state of a referenced Secret. Returns the one before.
    fn update(&self, secret: &NamespacedName, now: SecretState) -> Option<SecretState> {
        self.0.lock().insert(secret.clone(), now)
    }

    /// Removes the Secrets of a scope that are no longer referenced. `referenced` is sorted.
    fn retain(&self, is_in_scope: impl Fn(&NamespacedName) -> bool, referenced: &[NamespacedName]) {
        self.0.lock().retain(|secret, _| !is_in_scope(secret) || referenced.binary_search(secret).is_ok());
    }
}

/// Records the state of a referenced Secret, and requeues the objects that reference it, unless their status already
/// reflects this version. So after a start only outdated objects are requeued.
fn on_observed(context: &Context, secret: &NamespacedName, now: SecretState) {
    let before = context.secrets.update(secret, now);
    if before == Some(now) {
        return;
    }
    tracing::debug!(%secret, "a Secret changed");
    let may_have_existed = matches!(before, None | Some(SecretState::Present(_)));
    for referrer in context.index.referrers(secret) {
        if !may_have_existed || !is_unchanged(context, &referrer, now) {
            context.requeuer.referrer(&referrer);
        }
    }
}

/// Whether the object's status reflects this version of the Secret.
fn is_unchanged(context: &Context, referrer: &Referrer, now: SecretState) -> bool {
    let Referrer::Credential(own) = referrer else { return false };
    let known = context.latest(own);
    let status = known.as_ref().and_then(|known| known.0.as_ref().ok()?.status.as_ref());
    status.and_then(|status| status.observed_secret.as_ref()).is_some_and(|observed| now.matches(observed))
}

/// The referenced Secrets within the scope, sorted.
fn referenced(context: &Context, is_in_scope: impl Fn(&NamespacedName) -> bool) -> Vec<NamespacedName> {
    let mut secrets = context.index.secrets();
    secrets.retain(is_in_scope);
    secrets
}
