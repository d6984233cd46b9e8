//! Records of the store: their names, their credential ids, and decryption.

use kube::ResourceExt;
use kube::api::ObjectMeta;
use sha2::{Digest, Sha256};

use crate::api::{
    ClientId, FIELD_MANAGER, MicrosoftGraphCredential, SealedGraphCredential, SealedGraphCredentialSpec,
    TenantId,
};
use crate::secret_text::SecretText;
use crate::store::envelope::{AssociatedData, Envelope, OpenError};
use crate::store::keyring::Keyring;

/// Bits of a credential id: JSON carries a number of 53 exactly, with its sign.
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

/// Decrypts the secret of a record.
pub fn open(record: &SealedGraphCredential, keyring: &Keyring) -> Result<SecretText, OpenError> {
    Envelope::from_base64(&record.spec.envelope)?.open(keyring, AssociatedData::of(record))
}

/// The name of an object's record.
pub fn record_name(object: &MicrosoftGraphCredential) -> String {
    name_for(&object.name_any(), &object.spec.tenant_id, &object.spec.client_id)
}

/// `c-` and 32 hexadecimal digits of SHA-256 over object name, tenant and client, each after its length in 8 bytes, big
/// endian. A later object of the same name and app has the same record.
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

/// The name of the record of a credential that was created through the REST API.
pub fn rest_record_name(credential_id: i64) -> String {
    format!("r-{credential_id}")
}

/// The credential id in the name of a record of the REST API.
pub fn credential_id_of(name: &str) -> Option<i64> {
    name.strip_prefix("r-")?.parse().ok()
}

/// Whether a record was created through the REST API: by its name, which is immutable.
pub fn is_of_rest(record: &SealedGraphCredential) -> bool {
    record.metadata.name.as_deref() == Some(&rest_record_name(record.spec.credential_id))
}

/// Whether a record of that name belongs to the REST API, as far as a name shows.
pub fn is_rest_record_name(name: &str) -> bool {
    name.starts_with("r-")
}

/// A random, positive credential id. It is not checked for duplicates: the name makes a record unique.
pub fn generate_credential_id() -> Result<i64, getrandom::Error> {
    loop {
        let id = getrandom::u64()?.cast_signed() & ((1 << ID_BITS) - 1);
        if id > 0 {
            return Ok(id);
        }
    }
}

/// The value of [`SAME_SECRET`](crate::api::SAME_SECRET) after the record's next generation, which only re-encrypts it.
pub fn same_secret_after_reencryption(record: &SealedGraphCredential) -> Option<String> {
    let generation = record.metadata.generation.filter(|_| is_of_rest(record))?;
    let first = record.same_secret().map_or(generation, |(first, _)| first);
    Some(format!("{first}-{}", generation.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::SAME_SECRET;

    const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
    const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";

    fn name(object: &str, tenant: &str, client: &str) -> String {
        name_for(object, &tenant.parse().unwrap(), &client.parse().unwrap())
    }

    #[test]
    fn the_name_of_a_record_never_changes() {
        assert_eq!(name("sales-eu", TENANT, CLIENT), "c-229653f6d611bbd2baab1e78704b248d");
        assert_eq!(name("sales-eu", &TENANT.to_uppercase(), CLIENT), name("sales-eu", TENANT, CLIENT));
    }

    /// The file is as the first version stored it, with all fields of a keyring and a record.
    #[test]
    fn what_the_first_version_stored_is_read_and_decrypted() {
        let text = include_str!("../../tests/vectors/stored.json");
        let stored: serde_json::Value = serde_json::from_str(text).unwrap();
        let keyring = Keyring::from_json(stored["keyring"].to_string().as_bytes()).unwrap();
        let record: SealedGraphCredential = serde_json::from_value(stored["record"].clone()).unwrap();
        assert_eq!(name("sales-eu", TENANT, CLIENT), record.name_any());
        assert_eq!(open(&record, &keyring).unwrap().expose(), stored["secret"].as_str().unwrap());
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
        let ids: BTreeSet<i64> = (0..1000).map(|_| generate_credential_id().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| (1..1_i64 << 52).contains(id)), "{ids:?}");
    }

    #[test]
    fn a_record_that_was_only_reencrypted_holds_the_same_secret() {
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
        assert_eq!(same_secret_after_reencryption(&record(4, None)).as_deref(), Some("4-5"));
        assert_eq!(same_secret_after_reencryption(&record(5, Some("4-5"))).as_deref(), Some("4-6"));
        assert_eq!(
            same_secret_after_reencryption(&record(7, Some("4-6"))).as_deref(),
            Some("7-8"),
            "changed since"
        );
        let holds =
            |record: &SealedGraphCredential| (1..9).filter(|at| record.holds_secret_of(*at)).collect();
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
