//! Asks for the metadata of each referenced Secret, with the right `get` alone.

use tokio::time::Instant;

use super::{Pace, Seen, State, referenced};
use crate::controller::context::Context;
use crate::controller::index::Named;
use crate::controller::scope::Scope;
use crate::secrets::{self, ReadError};
use crate::telemetry::logs::chain;

/// Looks once at every referenced Secret and waits until the next round is due.
pub(super) async fn round(context: &Context, scope: &Scope, pace: &Pace, seen: &mut Seen) {
    let next = Instant::now() + context.rules.timing.secret_poll;
    let secrets = referenced(context, scope);
    seen.keep(&secrets);
    for secret in secrets {
        let looked = async {
            pace.wait().await;
            look(context, secret, seen).await;
        };
        if context.stop.run_until_cancelled(looked).await.is_none() {
            return;
        }
    }
    // At the end of the program there is nothing to wait for.
    let _stopped = context.stop.run_until_cancelled(tokio::time::sleep_until(next)).await;
}

async fn look(context: &Context, secret: Named, seen: &mut Seen) {
    let now = match secrets::version(&context.client, &secret.namespace, &secret.name).await {
        Ok(version) => State::There(version),
        Err(ReadError::NotFound) => State::Missing,
        Err(ReadError::Forbidden) => State::Forbidden,
        Err(error @ ReadError::Kube(_)) => {
            tracing::warn!(%secret, error = chain(&error), "failed to look at a Secret");
            return;
        }
    };
    seen.note(context, secret, now);
}
