//! Asks for the metadata of each referenced Secret, with the right `get` alone: at most 20 a second for the whole
//! process, some at a time, so that each of n Secrets is looked at every minute, or every n / 20 s where that is longer.

use std::collections::HashMap;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Polled, SecretState, note, referenced};
use crate::controller::context::Context;
use crate::controller::index::Named;
use crate::controller::version::Version;
use crate::k8s::streak::Streak;
use crate::secrets::{self, ReadError};
use crate::telemetry::logs::chain;

const AT_ONCE: usize = 4;

/// Looks at every referenced Secret of the polled scopes, round after round.
pub(super) async fn run(context: &Context, polled: &Polled) {
    let mut pace = tokio::time::interval(context.rules.timing.secret_poll_pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (pace, streak) = (tokio::sync::Mutex::new(pace), Mutex::new(Streak::default()));
    loop {
        let next = Instant::now() + context.rules.timing.secret_poll;
        let is_polled = |secret: &Named| polled.lock().iter().any(|scope| scope.covers(&secret.namespace));
        let secrets = referenced(context, is_polled);
        context.secrets.keep(is_polled, &secrets);
        let looks = futures::stream::iter(in_turns(secrets)).for_each_concurrent(AT_ONCE, async |secret| {
            pace.lock().await.tick().await;
            look(context, secret, &streak).await;
        });
        looks.await;
        tokio::time::sleep_until(next).await;
    }
}

async fn look(context: &Context, secret: Named, streak: &Mutex<Streak>) {
    let streak = || streak.lock();
    let now = match secrets::version(&context.client, &secret.namespace, &secret.name).await {
        Ok(version) => SecretState::There(Version::of_secret(&version.uid, &version.resource_version)),
        Err(ReadError::NotFound) => SecretState::Missing,
        Err(ReadError::Forbidden) => SecretState::Forbidden,
        Err(error @ ReadError::Kube(_)) => {
            let (wait, is_news) = streak().fails(&error.to_string(), &context.rules.timing);
            if is_news {
                tracing::warn!(%secret, error = chain(&error), "failed to look at Secrets, which is tried again");
            }
            tokio::time::sleep(wait).await;
            return;
        }
    };
    streak().works();
    note(context, &secret, now);
}

/// The first of each namespace, then the second of each, and so on.
fn in_turns(secrets: Vec<Named>) -> Vec<Named> {
    let mut so_far: HashMap<String, usize> = HashMap::new();
    let mut turns: Vec<(usize, Named)> = secrets
        .into_iter()
        .map(|secret| {
            let turn = so_far.entry(secret.namespace.clone()).or_default();
            *turn += 1;
            (*turn, secret)
        })
        .collect();
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, secret)| secret).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_take_turns() {
        let secrets = ["a/1", "a/2", "a/3", "b/1", "c/1", "c/2"];
        let named = |text: &str| {
            let (namespace, name) = text.split_once('/').unwrap();
            Named { namespace: namespace.into(), name: name.into() }
        };
        let turns = in_turns(secrets.map(named).into());
        assert_eq!(turns, ["a/1", "b/1", "c/1", "a/2", "c/2", "a/3"].map(named));
    }
}
