//! The processes that hold the keyring, each with a Lease of its own on which it acknowledges what it knows. A key seals
//! only once all of them can open what it seals, and ends only once all of them have stopped sealing under it.

mod acknowledgement;
mod presence;
mod roll;

pub use acknowledgement::{Acknowledgement, NotAnAcknowledgement};
pub use presence::{Presence, PresenceParts};
pub use roll::{Replica, RollCall, RollError, roll};

/// Label of such a Lease.
const REPLICA: &str = "graph-credentials.io/keyring-replica";

/// Annotation: the keyring's Secret.
const KEYRING: &str = "graph-credentials.io/keyring";

/// Annotation: what the process knows of the keyring's keys.
const ACKNOWLEDGED: &str = "graph-credentials.io/keyring-acknowledged";

/// Annotation: the number of the process on its host, for one process may have several Leases.
const PROCESS: &str = "graph-credentials.io/process";
