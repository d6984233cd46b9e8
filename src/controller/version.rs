//! By what one version of an object is told from another: as a digest, because the texts would take several times the memory.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

/// A version of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64);

// === impl Version ===

impl Version {
    /// Of the object of that uid: another one means that it was made anew. `changes` is its generation, or its resource
    /// version.
    pub fn of(uid: &str, changes: impl Hash) -> Self {
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one((uid, changes)))
    }
}
