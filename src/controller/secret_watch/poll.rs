//! Polls the metadata of each referenced Secret, which only needs the right to `get`. The whole process sends at most
//! 20 requests a second, a few concurrently, so each of n Secrets is polled every minute, or every n / 20 s if that is
//! longer.

use std::collections::HashMap;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};

use crate::api::NamespacedName;
use crate::controller::context::Context;
use crate::controller::secret_watch::{Polled, SecretState, on_observed, referenced};
use crate::controller::version::Version;
use crate::core::error_chain::chain;
use crate::k8s::secrets::{self, ReadError};
use crate::k8s::streak::FailureStreak;

const MAX_CONCURRENT: usize = 4;

/// Polls every referenced Secret of the polled scopes, again and again.
pub(super) async fn run(context: &Context, polled: &Polled) {
    let mut pace = tokio::time::interval(context.policy.timing.secret_poll_pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (pace, streak) = (tokio::sync::Mutex::new(pace), Mutex::new(FailureStreak::default()));
    loop {
        let next = Instant::now() + context.policy.timing.secret_poll;
        let is_polled =
            |secret: &NamespacedName| polled.lock().iter().any(|scope| scope.covers(&secret.namespace));
        let secrets = referenced(context, is_polled);
        context.secrets.retain(is_polled, &secrets);
        let polls =
            futures::stream::iter(round_robin(secrets)).for_each_concurrent(MAX_CONCURRENT, async |secret| {
                pace.lock().await.tick().await;
                poll_once(context, secret, &streak).await;
            });
        polls.await;
        tokio::time::sleep_until(next).await;
    }
}

async fn poll_once(context: &Context, secret: NamespacedName, streak: &Mutex<FailureStreak>) {
    let streak = || streak.lock();
    let now = match secrets::version(&context.client, &secret.namespace, &secret.name).await {
        Ok(version) => SecretState::Present(Version::of_secret(&version.uid, &version.resource_version)),
        Err(ReadError::NotFound) => SecretState::Missing,
        Err(ReadError::Forbidden) => SecretState::Forbidden,
        Err(error @ ReadError::Kube(_)) => {
            let (wait, should_log) = streak().record_failure(&error.to_string(), &context.policy.timing);
            if should_log {
                tracing::warn!(%secret, error = chain(&error), "failed to read the metadata of a Secret; trying again");
            }
            tokio::time::sleep(wait).await;
            return;
        }
    };
    streak().record_success();
    on_observed(context, &secret, now);
}

/// Interleaves namespaces: the first of each, then the second of each, and so on.
fn round_robin(secrets: Vec<NamespacedName>) -> Vec<NamespacedName> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut ordered: Vec<(usize, NamespacedName)> = secrets
        .into_iter()
        .map(|secret| {
            let rank = counts.entry(secret.namespace.clone()).or_default();
            *rank += 1;
            (*rank, secret)
        })
        .collect();
    ordered.sort_by_key(|(rank, _)| *rank);
    ordered.into_iter().map(|(_, secret)| secret).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_take_turns() {
        let secrets = ["a/1", "a/2", "a/3", "b/1", "c/1", "c/2"];
        let named = |text: &str| {
            let (namespace, name) = text.split_once('/').unwrap();
            NamespacedName { namespace: namespace.into(), name: name.into() }
        };
        let ordered = round_robin(secrets.map(named).into());
        assert_eq!(ordered, ["a/1", "b/1", "c/1", "a/2", "c/2", "a/3"].map(named));
    }
}
