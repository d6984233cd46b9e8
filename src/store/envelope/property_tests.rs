//! Property tests: what holds for every record, secret and change of an envelope.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use crate::store::envelope::layout::{parse, to_bytes};
use crate::store::envelope::tests::{Record, guid, keyring, opens, record, seal, seal_both};
use crate::store::envelope::*;

fn records() -> impl Strategy<Value = Record> {
    let namespaces = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?";
    let ids = (any::<u128>(), any::<u128>(), any::<u128>(), 1..1_i64 << 53);
    let clouds =
        prop::sample::select(vec![Cloud::Global, Cloud::USGovernment, Cloud::USGovernmentDoD, Cloud::China]);
    (namespaces, ids, clouds, 0..253_370_764_800_i64, ".{1,60}").prop_map(
        |(namespace, (id, tenant, client, credential_id), cloud, expires_at, name)| Record {
            namespace,
            id: id.into(),
            tenant: guid(tenant).parse().unwrap(),
            client: guid(client).parse().unwrap(),
            cloud,
            credential_id,
            expires_at: Timestamp::from_second(expires_at).unwrap(),
            name,
        },
    )
}

fn secrets() -> impl Strategy<Value = String> {
    prop_oneof![4 => ".{1,60}", 1 => "[ -~]{1,4000}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn an_encrypted_secret_can_be_decrypted(record in records(), secret in secrets()) {
        let keyring = keyring();
        let text = seal(&keyring, &record, &secret).to_base64();
        let opened = Envelope::from_base64(&text).unwrap().open(&keyring, record.binding()).unwrap();
        prop_assert_eq!(opened.expose(), secret);
    }

    #[test]
    fn a_changed_envelope_does_not_open(
        record in records(), secret in secrets(), pending in ".{1,60}", at: prop::sample::Index, bit in 0..8_u8,
        more in prop::collection::vec(any::<u8>(), 1..50),
    ) {
        let keyring = keyring();
        let bytes = to_bytes(&seal_both(&keyring, &record, &secret, &pending));
        let at = at.index(bytes.len());
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        prop_assert!(!opens(&keyring, &record, &flipped));
        prop_assert!(!opens(&keyring, &record, &bytes[..at]));
        prop_assert!(!opens(&keyring, &record, &[&bytes[..], &more].concat()));
        prop_assert!(opens(&keyring, &record, &bytes));
    }

    #[test]
    fn an_envelope_opens_only_for_its_own_record(record in records(), other in records()) {
        let keyring = keyring();
        let envelope = seal(&keyring, &record, "secret");
        let swapped = Record {
            tenant: record.client.as_str().parse().unwrap(),
            client: record.tenant.as_str().parse().unwrap(),
            ..record.clone()
        };
        for changed in [
            Record { namespace: other.namespace.clone(), ..record.clone() },
            Record { namespace: format!("{}a", record.namespace), ..record.clone() },
            Record { id: other.id.clone(), ..record.clone() },
            Record { tenant: other.tenant.clone(), ..record.clone() },
            Record { client: other.client.clone(), ..record.clone() },
            Record { cloud: other.cloud, ..record.clone() },
            Record { credential_id: other.credential_id, ..record.clone() },
            Record { expires_at: other.expires_at, ..record.clone() },
            Record { name: other.name.clone(), ..record.clone() },
            swapped,
            other,
        ] {
            let is_the_same = changed == record;
            prop_assert_eq!(envelope.open(&keyring, changed.binding()).is_ok(), is_the_same, "{:?}", changed);
        }
    }

    #[test]
    fn any_bytes_and_texts_are_read_without_a_panic(bytes: Vec<u8>, text: String) {
        prop_assert!(parse(&bytes).is_err());
        prop_assert!(Envelope::from_base64(&text).is_err());
        prop_assert!(Envelope::from_base64(&STANDARD.encode(&bytes)).is_err());
    }

    #[test]
    fn any_bytes_after_a_proper_beginning_are_read_without_a_panic(
        rest in prop::collection::vec(any::<u8>(), 0..400), length in 0..400_u16, format in 1..3_u8,
    ) {
        let mut bytes = [&b"SGC"[..], &[format], &rest].concat();
        if format == 2 && let Some(count) = bytes.get_mut(80) {
            *count = 1 + *count % 2;
        }
        let at = 103 + usize::from(format);
        if let Some(field) = bytes.get_mut(at..at + 2) {
            field.copy_from_slice(&length.to_be_bytes());
        }
        if let Ok(envelope) = parse(&bytes) {
            prop_assert_eq!(to_bytes(&envelope), bytes);
            prop_assert!(envelope.open(&keyring(), record().binding()).is_err());
        }
    }
}
