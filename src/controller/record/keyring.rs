//! Requeues every object whose record may decrypt, or whose fingerprint may match, after the keyring got more keys.

use std::sync::Arc;

use crate::controller::context::Context;

pub async fn run(context: Arc<Context>) {
    let mut changes = context.keyring.changes();
    while let Some(Ok(())) = context.stop.run_until_cancelled(changes.changed()).await {
        for referrer in context.index.all_referrers() {
            context.requeuer.referrer(&referrer);
        }
    }
}
