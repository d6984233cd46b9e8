use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::store::keyring::*;

const WEEK: Duration = Duration::from_hours(7 * 24);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-07-01T12:00:00Z")
}

fn id(text: &str) -> KeyId {
    text.parse().unwrap()
}

fn written(keyring: &Keyring) -> Value {
    serde_json::from_slice(keyring.to_json().unwrap().expose()).unwrap()
}

fn read(json: &Value) -> Result<Keyring, KeyringFormatError> {
    Keyring::from_json(json.to_string().as_bytes())
}

/// A key with all bytes equal to `byte`.
fn key(id: &str, created: &str, byte: u8) -> Value {
    json!({"id": id, "created": created, "bytes": STANDARD.encode([byte; KEY_LENGTH])})
}

fn stored() -> Value {
    json!({
        "primary": "0000000b",
        "keys": [
            key("0000000c", "2026-03-01T00:00:00Z", 3),
            key("0000000b", "2026-02-01T00:00:00Z", 2),
            key("0000000a", "2026-01-01T00:00:00Z", 1),
        ],
        "fingerprintKeys": [
            key("0000000f", "2026-02-01T00:00:00Z", 15),
            key("0000000e", "2026-01-01T00:00:00Z", 14),
        ],
    })
}

fn state(keyring: &Keyring, id: KeyId) -> Option<KeyState> {
    keyring.keys().find(|key| key.id == id).map(|key| key.state)
}

#[test]
fn a_new_keyring_has_one_key_for_each_purpose() {
    let keyring = Keyring::random(now()).unwrap();
    let keys: Vec<KeyInfo> = keyring.keys().collect();
    assert_eq!(keys, [KeyInfo { id: keyring.primary(), created: now(), state: KeyState::Primary }]);
    let json = written(&keyring);
    assert_eq!(json["primary"], json["keys"][0]["id"]);
    assert_eq!(json["fingerprintKeys"].as_array().unwrap().len(), 1);
    assert_ne!(json["keys"][0]["bytes"], json["fingerprintKeys"][0]["bytes"]);
    assert_ne!(written(&Keyring::random(now()).unwrap()), json);
}

#[test]
fn an_exported_keyring_can_be_imported() {
    let exported = written(&read(&stored()).unwrap());
    assert_eq!(exported, stored());
    let mut retired = stored();
    retired["keys"][2]["retiredAt"] = json!("2026-04-01T00:00:00Z");
    assert_eq!(written(&read(&retired).unwrap()), retired);
}

#[test]
fn a_rotation_adds_the_primary_key_and_earlier_ones_only_decrypt() {
    let mut keyring = read(&stored()).unwrap();
    let added = keyring.rotate(now()).unwrap();
    assert_eq!((keyring.primary(), keyring.primary_key().id), (added, added));
    assert_eq!(written(&keyring)["keys"][0]["id"], added.to_string(), "the newest comes first");
    assert_eq!(state(&keyring, id("0000000b")), Some(KeyState::DecryptOnly));
    assert_eq!(keyring.keys().count(), 4);
    let json = written(&keyring);
    assert_eq!(json["keys"].as_array().unwrap()[1..], stored()["keys"].as_array().unwrap()[..]);
    assert_eq!(json["fingerprintKeys"], stored()["fingerprintKeys"], "rotation does not touch fingerprints");
}

#[test]
fn the_next_key_of_an_earlier_version_only_decrypts() {
    let mut begun = stored();
    begun["next"] = json!("0000000c");
    let keyring = read(&begun).unwrap();
    assert_eq!(state(&keyring, id("0000000c")), Some(KeyState::DecryptOnly));
    assert_eq!(written(&keyring), stored());
}

#[test]
fn a_key_in_use_cannot_be_retired_or_deleted() {
    let mut keyring = read(&stored()).unwrap();
    let (old, primary, unknown) = (id("0000000a"), id("0000000b"), id("00000001"));
    assert_eq!(keyring.retire(old, 2, now()), Err(KeyChangeError::InUse { key: old, records: 2 }));
    assert_eq!(keyring.retire(primary, 0, now()), Err(KeyChangeError::Primary(primary)));
    assert_eq!(keyring.delete(primary, 0, now(), WEEK), Err(KeyChangeError::Primary(primary)));
    assert_eq!(keyring.retire(unknown, 0, now()), Err(KeyChangeError::Unknown(unknown)));
    assert_eq!(keyring.delete(unknown, 0, now(), WEEK), Err(KeyChangeError::Unknown(unknown)));
    assert_eq!(keyring.delete(old, 0, now(), WEEK), Err(KeyChangeError::NotRetired(old)));
    assert_eq!(written(&keyring), stored());
}

#[test]
fn a_retired_key_is_kept_for_a_week_and_counted_again() {
    let mut keyring = read(&stored()).unwrap();
    let old = id("0000000a");
    keyring.retire(old, 0, now()).unwrap();
    keyring.retire(old, 0, now() + Duration::from_hours(1)).unwrap();
    assert_eq!(state(&keyring, old), Some(KeyState::Retired(now())), "its date does not change");
    assert!(keyring.key(old).is_some(), "it still decrypts");
    let until = now() + WEEK;
    let early = until - Duration::from_secs(1);
    assert_eq!(keyring.delete(old, 0, early, WEEK), Err(KeyChangeError::TooEarly { key: old, until }));
    assert_eq!(keyring.delete(old, 1, until, WEEK), Err(KeyChangeError::InUse { key: old, records: 1 }));
    assert!(keyring.delete(old, 0, at("-000001-01-01T00:00:00Z"), Duration::MAX).is_err());
    assert!(keyring.key(old).is_some());
    keyring.delete(old, 0, until, WEEK).unwrap();
    assert!(keyring.key(old).is_none());
    let mut left = stored();
    left["keys"].as_array_mut().unwrap().pop();
    assert_eq!(written(&keyring), left);
}

#[test]
fn an_invalid_keyring_is_reported_with_its_problem() {
    use KeyringFormatError as Wrong;
    let wrong = |list, index, problem| Wrong::Key { list, index, problem };
    let (bytes, duplicate) = ("bytes is not 32 bytes in base64", "id is that of a key before it");
    let no_end = "retiredAt is set, and neither the primary key nor one of fingerprints can be retired";
    let syntax = "it is not JSON at line ";
    let short = STANDARD.encode([1; 31]);
    let retired = "2026-04-01T00:00:00Z";
    let cases: [(&str, Value, KeyringFormatError); 11] = [
        ("/primary", json!("0000000d"), Wrong::Primary),
        ("/primary", json!("0000000B"), Wrong::Primary),
        ("/keys", json!([]), Wrong::Empty("keys")),
        ("/fingerprintKeys", json!([]), Wrong::Empty("fingerprintKeys")),
        ("/keys/1/id", json!("b"), wrong("keys", 1, "id is not 8 lower-case hexadecimal digits")),
        ("/keys/2/id", json!("0000000c"), wrong("keys", 2, duplicate)),
        ("/keys/0/bytes", json!(short), wrong("keys", 0, bytes)),
        ("/fingerprintKeys/1/bytes", json!("?"), wrong("fingerprintKeys", 1, bytes)),
        ("/fingerprintKeys/1/id", json!("0000000f"), wrong("fingerprintKeys", 1, duplicate)),
        ("/keys/1/retiredAt", json!(retired), wrong("keys", 1, no_end)),
        ("/fingerprintKeys/0/retiredAt", json!(retired), wrong("fingerprintKeys", 0, no_end)),
    ];
    for (path, value, expected) in cases {
        let mut json = stored();
        let (parent, field) = path.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[field] = value;
        assert_eq!(read(&json).unwrap_err(), expected, "{path}");
    }
    for (text, is_syntax) in
        [("", true), ("{", true), ("[]", false), ("{}", false), (r#"{"primary":1}"#, false)]
    {
        let wrong = Keyring::from_json(text.as_bytes()).unwrap_err();
        assert_eq!(wrong.to_string().starts_with(syntax), is_syntax, "{text:?} {wrong}");
    }
    let trailing = format!("{} x", stored());
    assert!(Keyring::from_json(trailing.as_bytes()).unwrap_err().to_string().starts_with(syntax));
    let mut unknown = stored();
    unknown["keys"][0]["purpose"] = json!("x");
    let shape = "a field is missing, unknown or not of its type at line 1, column ";
    assert!(read(&unknown).unwrap_err().to_string().starts_with(shape));
}

#[test]
fn no_output_shows_a_key() {
    let canary = STANDARD.encode(*b"canary-canary-canary-canary-0123");
    let mut json = stored();
    json["keys"][0]["bytes"] = json!(canary);
    json["fingerprintKeys"][0]["bytes"] = json!(canary);
    let keyring = read(&json).unwrap();
    let (mut as_id, mut as_field) = (json.clone(), json);
    as_id["keys"][0]["id"] = json!(canary);
    as_field[&canary] = json!(1);
    let (as_id, as_field) = (read(&as_id).unwrap_err(), read(&as_field).unwrap_err());
    let shown = format!(
        "{keyring:?} {:?} {:?} {:?} {as_id} {as_id:?} {as_field} {as_field:?}",
        keyring.fingerprint_keys(),
        keyring.to_json().unwrap(),
        keyring.primary_key(),
    );
    let bytes = format!("{:?}", b"canary-canary-canary-canary-0123");
    for part in ["canary", &canary[..8], &bytes[1..12]] {
        assert!(!shown.contains(part), "{shown}");
    }
    assert!(shown.contains("[redacted]") && shown.contains("KeyId(0000000c)"), "{shown}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        prop_assert!(Keyring::from_json(&bytes).is_err());
    }

    #[test]
    fn a_keyring_with_one_byte_changed_is_read_without_a_panic(at: prop::sample::Index, byte: u8) {
        let mut json = stored().to_string().into_bytes();
        let at = at.index(json.len());
        json[at] = byte;
        if let Ok(keyring) = Keyring::from_json(&json) {
            let again = Keyring::from_json(keyring.to_json().unwrap().expose()).unwrap();
            prop_assert_eq!(written(&again), written(&keyring));
        }
    }
}
