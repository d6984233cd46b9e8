//! Protection of the process's memory: no core files, and on Linux other processes of the user cannot read it.

use crate::platform;

/// Logs that core dumps are allowed.
pub fn warn_allowed() {
    tracing::warn!(
        "core dumps are allowed (--allow-core-dumps): a core file contains API keys and possibly client secrets"
    );
}

/// Disables core dumps. A failure is only logged, because there are other lines of defense.
pub fn disable() {
    let settings = platform::disable_core_dumps();
    for (setting, result) in &settings {
        if let Err(error) = result {
            tracing::warn!(%error, setting, "failed to disable core dumps");
        }
    }
    if settings.is_empty() {
        tracing::info!("this system has no setting that disables core dumps of a process");
    } else if settings.iter().all(|(_, result)| result.is_ok()) {
        tracing::info!("core dumps are off");
    }
}
