//! Notices changes of the Secrets that objects point to, by the best way that the operator's rights allow.
//!
//! Where it may watch Secrets, it follows the metadata of all of them, and keeps what tells versions apart of those that
//! something points to. Where it may only `get`, it asks for the metadata of each. Rights may come and go while it runs.

mod poll;
mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::{join, join_all};
use parking_lot::Mutex;

use self::watch::Access;
use super::context::Context;
use super::index::{Named, Referrer};
use super::scope::Scope;
use super::version::Version;
use crate::k8s::streak::Streak;
use crate::resources::ObservedSecret;
use crate::telemetry::logs::chain;

/// What was last seen of each Secret that something points to.
#[derive(Debug, Default)]
pub struct KnownSecrets(Mutex<HashMap<Named, SecretState>>);

/// A Secret as it was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretState {
    There(Version),
    Missing,
    Forbidden,
}

/// The scopes whose Secrets are asked for one by one.
type Polled = Mutex<HashSet<Scope>>;

/// Notices changes in all scopes until the controller stops.
pub async fn run(context: Arc<Context>, scopes: Vec<Scope>) {
    let polled = Polled::default();
    let watches = join_all(scopes.into_iter().map(|scope| follow(&context, scope, &polled)));
    let both = async {
        // A look at a Secret wakes only who is known to point to it by then.
        context.index.credentials_listed().await;
        join(watches, poll::run(&context, &polled)).await
    };
    let _stopped = context.stop.run_until_cancelled(both).await;
}

/// Watches a scope as long as that is allowed, and has it polled otherwise. The right is asked for again every minute.
async fn follow(context: &Context, scope: Scope, polled: &Polled) {
    let (mut known, mut streak) = (None, Streak::default());
    loop {
        let access = match watch::ask_access(&context.client, &scope).await {
            Ok(access) => {
                streak.works();
                access
            }
            Err(error) => {
                if streak.fails(&error.to_string(), &context.rules.timing).1 {
                    tracing::warn!(
                        ?scope,
                        error = chain(&error),
                        "failed to ask which Secrets may be watched"
                    );
                }
                known.unwrap_or(Access::Get)
            }
        };
        if known.replace(access) != Some(access) {
            tracing::info!(?scope, ?access, "this is how changes of Secrets are noticed");
        }
        match access {
            Access::Watch => {
                polled.lock().remove(&scope);
                watch::watch(context, &scope).await;
            }
            Access::Get => {
                polled.lock().insert(scope.clone());
                tokio::time::sleep(context.rules.timing.secret_poll).await;
            }
        }
    }
}

// === impl SecretState ===

impl SecretState {
    pub fn is(self, recorded: &ObservedSecret) -> bool {
        self == Self::There(Version::of_observed_secret(recorded))
    }
}

// === impl KnownSecrets ===

impl KnownSecrets {
    /// How a Secret was when it was last looked at, as far as is known.
    pub fn known_version(&self, secret: &Named) -> Option<SecretState> {
        self.0.lock().get(secret).copied()
    }

    /// Notes how a referenced Secret is now. Returns how it was last.
    fn note(&self, secret: &Named, now: SecretState) -> Option<SecretState> {
        self.0.lock().insert(secret.clone(), now)
    }

    /// Forgets the Secrets of a scope that nothing points to any more. `referenced` is in order.
    fn keep(&self, is_about: impl Fn(&Named) -> bool, referenced: &[Named]) {
        self.0.lock().retain(|secret, _| !is_about(secret) || referenced.binary_search(secret).is_ok());
    }
}

/// Notes how a referenced Secret is now, and wakes who points to it and has judged another version of it last: a first look
/// after a start that agrees with a status wakes nobody.
fn note(context: &Context, secret: &Named, now: SecretState) {
    let before = context.secrets.note(secret, now);
    if before == Some(now) {
        return;
    }
    tracing::debug!(%secret, "a Secret changed");
    let was_there = matches!(before, None | Some(SecretState::There(_)));
    for referrer in context.index.referrers(secret) {
        if !was_there || !is_as_judged(context, &referrer, now) {
            context.call(&referrer);
        }
    }
}

/// Whether the status says that this very version was judged.
fn is_as_judged(context: &Context, referrer: &Referrer, now: SecretState) -> bool {
    let Referrer::Credential(own) = referrer else { return false };
    let known = context.latest(own);
    let status = known.as_ref().and_then(|known| known.0.as_ref().ok()?.status.as_ref());
    status.and_then(|status| status.observed_secret.as_ref()).is_some_and(|judged| now.is(judged))
}

/// The Secrets that something points to, of the scopes that are meant, in order.
fn referenced(context: &Context, is_about: impl Fn(&Named) -> bool) -> Vec<Named> {
    let mut secrets = context.index.secrets();
    secrets.retain(is_about);
    secrets
}
