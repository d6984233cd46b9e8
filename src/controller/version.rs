//! Digests of the versions of objects that are not kept in memory.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use kube::api::ObjectMeta;

use crate::api::{ObservedRecord, ObservedSecret};

/// Identifies a version of an object, also across re-creation under its name. It is a digest, because uids and versions
/// take several times the memory as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64);

// === impl Version ===

impl Version {
    /// Of a record, by uid and generation: a write of its status does not change it.
    pub fn of_record(meta: &ObjectMeta) -> Self {
        let generation = meta.generation.unwrap_or_default();
        Self::digest(&(meta.uid.as_deref().unwrap_or_default(), generation))
    }

    /// Of a record, as recorded in a status.
    pub fn of_observed_record(record: &ObservedRecord) -> Self {
        Self::digest(&(record.uid.as_str(), record.generation))
    }

    /// Of a Secret.
    pub fn of_secret(uid: &str, resource_version: &str) -> Self {
        Self::digest(&(uid, resource_version))
    }

    /// Of a Secret, as recorded in a status.
    pub fn of_observed_secret(secret: &ObservedSecret) -> Self {
        Self::of_secret(&secret.uid, &secret.resource_version)
    }

    fn digest(version: &impl Hash) -> Self {
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::UnknownFields;

    #[test]
    fn versions_from_objects_and_statuses_are_equal() {
        let meta = |uid: &str, generation| ObjectMeta {
            uid: Some(uid.into()),
            generation: Some(generation),
            ..ObjectMeta::default()
        };
        let (uid, unknown) = ("a".to_owned(), UnknownFields::default());
        let record = ObservedRecord {
            uid: uid.clone(),
            generation: 2,
            record_id: "r".into(),
            unknown: unknown.clone(),
        };
        let observed = Version::of_observed_record(&record);
        assert_eq!(observed, Version::of_record(&meta("a", 2)));
        assert_ne!(observed, Version::of_record(&meta("a", 3)));
        assert_ne!(observed, Version::of_record(&meta("b", 2)), "it was re-created");
        let secret = ObservedSecret { uid, resource_version: "7".into(), unknown };
        assert_eq!(Version::of_observed_secret(&secret), Version::of_secret("a", "7"));
        assert_ne!(Version::of_observed_secret(&secret), Version::of_secret("a", "8"));
    }
}
