//! The records of custom resources in the store: whose they are, and what wakes whose was changed.

pub mod watch;

use kube::ResourceExt;

use crate::resources::SealedGraphCredential;

pub use crate::store::repository::{read, remove};

/// Annotation on a record: uid of the object that it was sealed for last. A deleted object removes what its status does
/// not know of only where this says that it made it.
const SEALED_FOR: &str = "graph-credentials.io/sealed-for";

/// The object that the record was sealed for last, by its uid.
pub fn sealed_for(record: &SealedGraphCredential) -> Option<&str> {
    record.annotations().get(SEALED_FOR).map(String::as_str)
}

/// Notes on a record the object that it is sealed for.
pub fn seal_for(record: &mut SealedGraphCredential, uid: &str) {
    record.annotations_mut().insert(SEALED_FOR.to_owned(), uid.to_owned());
}
