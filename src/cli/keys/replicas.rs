//! Waiting until every process that holds the keyring has acknowledged something.

use tokio::time::Instant;

use super::{KeysError, Target};
use crate::cli::output;
use crate::leadership::since_boot;
use crate::store::replicas::{Acknowledgement, Replica, RollCall, roll};

/// Returns once all that live have acknowledged it. Who does not renew its Lease any more is waited for no longer than
/// that lasts. `what` they are waited for to do.
pub(super) async fn wait(
    target: &Target,
    what: &str,
    has_acknowledged: impl Fn(&Acknowledgement) -> bool,
) -> Result<(), KeysError> {
    let mut call = RollCall::default();
    let mut told = Vec::new();
    let began = Instant::now();
    loop {
        // Before the list, or a sleep of this machine in between would make all look silent.
        let clock = since_boot();
        let roll = roll(&target.cluster.client, &target.place).await?;
        let missing = call.missing(roll, clock, &has_acknowledged);
        let mut names: Vec<String> = missing.into_iter().map(|replica: Replica| replica.holder).collect();
        if names.is_empty() {
            return Ok(());
        }
        names.sort();
        let shown = output::shown(&names.join(", "));
        if began.elapsed() > target.timing.acknowledgement {
            return Err(KeysError::NotAcknowledged { replicas: shown, what: what.to_owned() });
        }
        if names != told {
            output::note(&format!("waiting for {shown} to {what}"));
            told = names;
        }
        tokio::time::sleep(target.timing.reseal_look).await;
    }
}
