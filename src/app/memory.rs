//! Keeps the process's memory to itself: no core files, and no other process of the user may read it.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Turns core dumps off, or says that they are on. What the system refuses is told, the other half is done
/// all the same, and it is no reason to stop: this is one line of defence of several.
pub fn close(allow_core_dumps: bool) {
    if allow_core_dumps {
        tracing::warn!(
            "core dumps are allowed (--allow-core-dumps): a core file holds API keys and perhaps client secrets"
        );
        return;
    }
    let limit = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    if let Err(error) = &limit {
        tracing::warn!(%error, "the system refuses to turn core files off (RLIMIT_CORE)");
    }
    let dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = &dumpable {
        tracing::warn!(%error, "the system refuses to close the process's memory to others (PR_SET_DUMPABLE)");
    }
    if limit.is_ok() && dumpable.is_ok() {
        tracing::info!("core dumps are off");
    }
}
