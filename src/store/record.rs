//! Records of the store: what they are called, the ids of their credentials, and opening one. PURE but for randomness.

use kube::ResourceExt;
use kube::api::ObjectMeta;
use sha2::{Digest, Sha256};

use super::envelope::{Binding, Envelope, OpenError};
use super::keyring::Keyring;
use crate::resources::{
    ClientId, FIELD_MANAGER, MicrosoftGraphCredential, SealedGraphCredential, SealedGraphCredentialSpec,
    TenantId,
};
use crate::secret::SecretText;

/// Bits of a credential's id: JSON carries a number of 53 exactly, with its sign.
const ID_BITS: u32 = 52;

/// A record that does not exist yet. It has no owner.
pub fn new(namespace: &str, name: String, spec: SealedGraphCredentialSpec) -> SealedGraphCredential {
    let managed_by = ("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned());
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        labels: Some([managed_by].into()),
        ..ObjectMeta::default()
    };
    SealedGraphCredential { metadata, spec, status: None }
}

/// The secret that a record holds.
pub fn open(record: &SealedGraphCredential, keyring: &Keyring) -> Result<SecretText, OpenError> {
    Envelope::from_base64(&record.spec.envelope)?.open(keyring, Binding::of(record))
}

/// The name of an object's record.
pub fn record_name(object: &MicrosoftGraphCredential) -> String {
    name_for(&object.name_any(), &object.spec.tenant_id, &object.spec.client_id)
}

/// `c-` and 32 hexadecimal digits of SHA-256 over its name, tenant and
/// client, each after its length in 8 bytes, big endian. A later object of the same name and app finds it again.
fn name_for(object: &str, tenant: &TenantId, client: &ClientId) -> String {
    let mut hash = Sha256::new();
    for part in [object, tenant.as_str(), client.as_str()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let first_half =
        hash.finalize().iter().take(16).fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
    format!("c-{first_half:032x}")
}

/// The name of the record of a credential that was made through the REST API.
pub fn rest_record_name(credential_id: i64) -> String {
    format!("r-{credential_id}")
}

/// The id of the credential in a record of that name, where it is one of the REST API's.
pub fn credential_id_of(name: &str) -> Option<i64> {
    name.strip_prefix("r-")?.parse().ok()
}

/// Whether a record was made through the REST API: by its name, which nothing changes.
pub fn is_of_rest(record: &SealedGraphCredential) -> bool {
    record.metadata.name.as_deref() == Some(&rest_record_name(record.spec.credential_id))
}

/// Whether a record of that name is one of the REST API's, as far as a name alone can tell.
pub fn is_rest_record_name(name: &str) -> bool {
    name.starts_with("r-")
}

/// A random id of a credential, positive. It is not looked up: what makes a record unique is its name.
pub fn fresh_credential_id() -> Result<i64, getrandom::Error> {
    loop {
        let id = getrandom::u64()?.cast_signed() & ((1 << ID_BITS) - 1);
        if id > 0 {
            return Ok(id);
        }
    }
}

/// Annotation on a record of the REST API: `A-B`, its secret is the same in the generations A to B, for it was only sealed
/// anew in between. Without it each rotation of the keyring would have every secret proved again, and all at once.
pub const SAME_SECRET: &str = "graph-credentials.io/same-secret";

/// What [`SAME_SECRET`] says after the record's next generation, which only seals it anew.
pub fn same_secret_after_resealing(record: &SealedGraphCredential) -> Option<String> {
    let generation = record.metadata.generation.filter(|_| is_of_rest(record))?;
    let first = same_secret(record).map_or(generation, |(first, _)| first);
    Some(format!("{first}-{}", generation.saturating_add(1)))
}

/// Whether the record holds the secret that it held in that generation.
pub fn holds_secret_of(record: &SealedGraphCredential, generation: i64) -> bool {
    record.metadata.generation == Some(generation)
        || same_secret(record).is_some_and(|(first, last)| (first..=last).contains(&generation))
}

/// The first and the last generation with the secret that it holds now, where they are noted.
fn same_secret(record: &SealedGraphCredential) -> Option<(i64, i64)> {
    let (first, last) = record.metadata.annotations.as_ref()?.get(SAME_SECRET)?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    // Written by whoever made this generation, not an earlier one.
    (record.metadata.generation == Some(last)).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
    const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";

    fn name(object: &str, tenant: &str, client: &str) -> String {
        name_for(object, &tenant.parse().unwrap(), &client.parse().unwrap())
    }

    #[test]
    fn the_name_of_a_record_is_fixed_for_ever() {
        assert_eq!(name("sales-eu", TENANT, CLIENT), "c-229653f6d611bbd2baab1e78704b248d");
        assert_eq!(name("sales-eu", &TENANT.to_uppercase(), CLIENT), name("sales-eu", TENANT, CLIENT));
    }

    #[test]
    fn another_object_tenant_or_client_has_another_record() {
        let names = [
            name("sales-eu", TENANT, CLIENT),
            name("sales-us", TENANT, CLIENT),
            name("sales-eu", CLIENT, CLIENT),
            name("sales-eu", TENANT, TENANT),
        ];
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn ids_are_random_positive_and_below_two_to_the_52() {
        let ids: BTreeSet<i64> = (0..1000).map(|_| fresh_credential_id().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| (1..1_i64 << 52).contains(id)), "{ids:?}");
    }

    #[test]
    fn a_record_that_was_only_sealed_anew_holds_the_same_secret() {
        let record = |generation: i64, noted: Option<&str>| -> SealedGraphCredential {
            let mut record: SealedGraphCredential = serde_json::from_value(serde_json::json!({
                "metadata": {"name": "r-1", "generation": generation},
                "spec": {
                    "recordId": "0123456789abcdef0123456789abcdef", "credentialId": 1, "tenantId": TENANT,
                    "clientId": CLIENT, "secretExpiresAt": "2027-11-28T23:59:59Z", "name": "x", "envelope": "e"
                }
            }))
            .unwrap();
            let noted = noted.map(|noted| [(SAME_SECRET.to_owned(), noted.to_owned())].into());
            record.metadata.annotations = noted;
            record
        };
        assert_eq!(same_secret_after_resealing(&record(4, None)).as_deref(), Some("4-5"));
        assert_eq!(same_secret_after_resealing(&record(5, Some("4-5"))).as_deref(), Some("4-6"));
        assert_eq!(
            same_secret_after_resealing(&record(7, Some("4-6"))).as_deref(),
            Some("7-8"),
            "changed since"
        );
        let holds =
            |record: &SealedGraphCredential| (1..9).filter(|at| holds_secret_of(record, *at)).collect();
        let holding: Vec<(i64, Option<&str>, Vec<i64>)> = vec![
            (5, None, vec![5]),
            (6, Some("4-6"), vec![4, 5, 6]),
            (7, Some("4-6"), vec![7]),
            (5, Some("4"), vec![5]),
            (5, Some("x-5"), vec![5]),
        ];
        for (generation, noted, expected) in holding {
            let found: Vec<i64> = holds(&record(generation, noted));
            assert_eq!(found, expected, "{generation} {noted:?}");
        }
    }
}
