//! Keeps the process's memory to itself: no core files, and no other process of the user may read it.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Turns core dumps off, or says that they are on. What the system refuses is told and no reason to stop:
/// it is one line of defence of several.
pub fn close(allow_core_dumps: bool) {
    if allow_core_dumps {
        tracing::warn!(
            "core dumps are allowed (--allow-core-dumps): a core file holds API keys and perhaps client secrets"
        );
        return;
    }
    let no_core = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    match no_core.and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable)) {
        Ok(()) => tracing::info!("core dumps are off"),
        Err(error) => tracing::warn!(%error, "core dumps could not be turned off"),
    }
}
