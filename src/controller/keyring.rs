//! Wakes everything whose record may open, or whose fingerprint may match, now that the keyring holds more than before.

use std::sync::Arc;

use super::context::Context;

/// Waits for news of the keyring until the controller stops.
pub async fn run(context: Arc<Context>) {
    let mut news = context.keyring.news();
    while let Some(Ok(())) = context.stop.run_until_cancelled(news.changed()).await {
        for referrer in context.index.all_referrers() {
            context.call(&referrer);
        }
    }
}
