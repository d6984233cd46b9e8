//! Notices changes of Secrets with the right `get` alone: asks for the metadata of each referenced Secret
//! every minute, at most ten a second, and wakes who points to one that changed.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior};

use super::context::Context;
use super::index::{Named, Referrer};
use crate::secrets::{self, ReadError, SecretVersion};

/// What was last seen of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    There(SecretVersion),
    Missing,
    Forbidden,
}

/// Looks at every referenced Secret in rounds until the controller stops.
pub async fn poll(context: Arc<Context>) {
    let timing = context.rules.timing;
    let mut seen: HashMap<Named, Seen> = HashMap::new();
    let mut pace = tokio::time::interval(timing.secret_poll_pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let round = Instant::now();
        let secrets = context.index.secrets();
        seen.retain(|secret, _| secrets.binary_search(secret).is_ok());
        for secret in secrets {
            if context.stop.run_until_cancelled(pace.tick()).await.is_none() {
                return;
            }
            look(&context, secret, &mut seen).await;
        }
        if context
            .stop
            .run_until_cancelled(tokio::time::sleep_until(round + timing.secret_poll))
            .await
            .is_none()
        {
            return;
        }
    }
}

async fn look(context: &Context, secret: Named, seen: &mut HashMap<Named, Seen>) {
    let now = match secrets::version(&context.client, &secret.namespace, &secret.name).await {
        Ok(version) => Seen::There(version),
        Err(ReadError::NotFound) => Seen::Missing,
        Err(ReadError::Forbidden) => Seen::Forbidden,
        Err(error @ ReadError::Kube(_)) => {
            tracing::warn!(%secret, error = &error as &dyn std::error::Error, "failed to look at a Secret");
            return;
        }
    };
    // The pass over a new object has read its Secret a moment ago, but perhaps an older version of it than
    // this first look sees: one pass too many is cheap, a missed change is not.
    if seen.get(&secret) != Some(&now) {
        let is_first = seen.insert(secret.clone(), now).is_none();
        tracing::debug!(%secret, is_first, "a Secret changed");
        for referrer in context.index.referrers(&secret) {
            match referrer {
                Referrer::Credential(own) => context.calls.credential(&own.namespace, &own.name),
                Referrer::Account(own) => context.calls.account(&own.namespace, &own.name),
            }
        }
    }
}
