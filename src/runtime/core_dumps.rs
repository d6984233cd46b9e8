//! Protection of the process's memory: no core files, and other processes of the user cannot read it.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Logs that core dumps are allowed.
pub fn warn_allowed() {
    tracing::warn!(
        "core dumps are allowed (--allow-core-dumps): a core file contains API keys and possibly client secrets"
    );
}

/// Disables core dumps. A failure is only logged, because there are other lines of defense.
pub fn disable() {
    let limit = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    if let Err(error) = &limit {
        tracing::warn!(%error, "failed to disable core files (RLIMIT_CORE)");
    }
    let dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = &dumpable {
        tracing::warn!(%error, "failed to protect the process's memory from other processes (PR_SET_DUMPABLE)");
    }
    if limit.is_ok() && dumpable.is_ok() {
        tracing::info!("core dumps are off");
    }
}
