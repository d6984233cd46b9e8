//! Tests against the vectors of `tests/vectors/envelope.json`, in both directions; `make vectors` checks them with
//! another implementation.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;

use crate::store::envelope::layout::{parse, to_bytes};
use crate::store::envelope::*;

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
    refused: Vec<Rejected>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    key_id: String,
    key: Hex,
    namespace: String,
    record_id: RecordId,
    tenant_id: TenantId,
    client_id: ClientId,
    cloud: Cloud,
    credential_id: i64,
    secret_expires_at: Timestamp,
    credential_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    name: String,
    format: u8,
    #[serde(flatten)]
    context: Context,
    secret: SecretText,
    data_key: Hex,
    data_key_nonce: Hex,
    secret_nonce: Hex,
    key_encryption_key: Hex,
    data_key_associated_data: Hex,
    secret_associated_data: Hex,
    #[serde(flatten)]
    pending: Option<Pending>,
    envelope: Hex,
}

#[derive(Deserialize)]
struct Pending {
    #[serde(rename = "pendingSecret")]
    secret: SecretText,
    #[serde(rename = "pendingNonce")]
    nonce: Hex,
    #[serde(rename = "pendingAssociatedData")]
    associated_data: Hex,
}

#[derive(Deserialize)]
struct Rejected {
    name: String,
    #[serde(flatten)]
    context: Context,
    envelope: Hex,
    error: String,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Hex(Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = |at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(digits).collect();
        bytes.map(Self).ok_or_else(|| format!("{text} is not hexadecimal"))
    }
}

impl Context {
    /// A keyring with that key as its only encryption key.
    fn keyring(&self) -> Keyring {
        let base64 = KeyBytes::copy_of(&self.key.0).unwrap().to_base64();
        let key = json!({"id": self.key_id, "created": "2026-01-01T00:00:00Z", "bytes": base64.expose()});
        let json = json!({"primary": self.key_id, "keys": [key], "fingerprintKeys": [key]});
        Keyring::from_json(json.to_string().as_bytes()).unwrap()
    }

    fn binding(&self) -> AssociatedData<'_> {
        AssociatedData {
            namespace: &self.namespace,
            record_id: &self.record_id,
            tenant: &self.tenant_id,
            client: &self.client_id,
            cloud: self.cloud,
            credential_id: self.credential_id,
            expires_at: self.secret_expires_at,
            name: &self.credential_name,
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn vectors() -> Vectors {
    let text = fs::read_to_string(root().join("tests/vectors/envelope.json")).unwrap();
    let vectors: Vectors = serde_json::from_str(&text).unwrap();
    assert!(!vectors.vectors.is_empty() && !vectors.refused.is_empty());
    vectors
}

#[test]
fn every_vector_is_encrypted_and_decrypted() {
    for vector in vectors().vectors {
        let (name, keyring, binding) = (&vector.name, vector.context.keyring(), vector.context.binding());
        let key = keyring.primary_key();
        let kek = cipher::key_encryption_key(key).unwrap();
        assert_eq!(kek.expose(), &*vector.key_encryption_key.0, "{name}");
        let envelope = parse(&vector.envelope.0).unwrap();
        let pending = vector.pending.as_ref();
        for (layer, expected) in [
            (cipher::DATA_KEY, Some(&vector.data_key_associated_data)),
            (cipher::SECRET, Some(&vector.secret_associated_data)),
            (cipher::PENDING_SECRET, pending.map(|pending| &pending.associated_data)),
        ] {
            let Some(expected) = expected else { continue };
            let data = cipher::associated_data(layer, envelope.format, key.id, binding);
            assert_eq!(data, expected.0, "{name}: {layer:?}");
        }
        let nonce = |hex: &Hex| hex.0.as_slice().try_into().unwrap();
        let material = KeyMaterial {
            data_key: KeyBytes::copy_of(&vector.data_key.0).unwrap(),
            data_key_nonce: nonce(&vector.data_key_nonce),
            secret_nonce: nonce(&vector.secret_nonce),
            pending_nonce: pending.map_or([0; NONCE_LENGTH], |pending| nonce(&pending.nonce)),
        };
        let secrets = Secrets { current: &vector.secret, pending: pending.map(|pending| &pending.secret) };
        // Format 1 is only read.
        if vector.format == 2 {
            let sealed = Envelope::seal_with(key, &material, binding, secrets).unwrap();
            assert_eq!(to_bytes(&sealed), vector.envelope.0, "{name}");
        }
        assert_eq!(envelope.format.number(), vector.format, "{name}");
        let (current, opened) = envelope.open_all(&keyring, binding).unwrap();
        assert!(current == vector.secret && opened.as_ref() == secrets.pending, "{name}");
    }
}

#[test]
fn every_rejected_vector_has_its_error() {
    for refused in vectors().refused {
        let error = match parse(&refused.envelope.0) {
            Err(malformed) => format!("{malformed:?}"),
            Ok(envelope) => match envelope.open(&refused.context.keyring(), refused.context.binding()) {
                Err(error) => format!("{error:?}"),
                Ok(_) => "none".to_owned(),
            },
        };
        let variant = error.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        assert_eq!(variant, refused.error, "{}: {error}", refused.name);
    }
}

#[test]
fn the_page_on_the_format_shows_every_vector() {
    let page = fs::read_to_string(root().join("docs/reference/envelope.md")).unwrap();
    let page: String = page.split_whitespace().collect();
    for vector in vectors().vectors {
        let digits: Vec<String> = vector.envelope.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let hex = digits.concat();
        assert!(page.contains(&hex), "{}: {hex}", vector.name);
        assert!(page.contains(&vector.name.split_whitespace().collect::<String>()), "{}", vector.name);
    }
}
