//! PURE: what a leader does, and how the one that does everything gets the lease from one that does less.

use k8s_openapi::api::coordination::v1::Lease;

/// Annotation by a holder that looks after the records alone: its identity, so that it says nothing of another holder.
const RECORDS_ONLY: &str = "graph-credentials.io/records-only";

/// Annotation by a process that stands by and would do everything: its identity. The holder gives way to it.
const WANTED_BY: &str = "graph-credentials.io/wanted-by";

/// What a process does while it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It is the controller, and looks after the records of the REST API too.
    Everything,
    /// It looks after the records of the REST API, and gives way to a controller.
    Records,
}

// === impl Duty ===

impl Duty {
    /// What the holder of the lease does.
    pub(super) fn of_holder(lease: &Lease) -> Self {
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        match annotation(lease, RECORDS_ONLY) {
            Some(identity) if holder == Some(identity) => Self::Records,
            _ => Self::Everything,
        }
    }

    /// Says on the lease that its holder, of that identity, does this. Whoever wanted it has it, or asks again.
    pub(super) fn mark(self, lease: &mut Lease, identity: &str) {
        let annotations = lease.metadata.annotations.get_or_insert_default();
        annotations.remove(WANTED_BY);
        match self {
            Self::Everything => annotations.remove(RECORDS_ONLY),
            Self::Records => annotations.insert(RECORDS_ONLY.to_owned(), identity.to_owned()),
        };
        if annotations.is_empty() {
            lease.metadata.annotations = None;
        }
    }
}

/// Who stands by for the lease and would do everything.
pub(super) fn wanted_by(lease: &Lease) -> Option<&str> {
    annotation(lease, WANTED_BY)
}

/// Asks the holder to give way.
pub(super) fn want(lease: &mut Lease, identity: &str) {
    lease.metadata.annotations.get_or_insert_default().insert(WANTED_BY.to_owned(), identity.to_owned());
}

fn annotation<'a>(lease: &'a Lease, key: &str) -> Option<&'a str> {
    lease.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}
