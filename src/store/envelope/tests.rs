use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use crate::store::envelope::layout::{FIXED_LENGTH, FIXED_SECRET_LENGTH, parse, to_bytes};
use crate::store::envelope::*;

/// Owned values that an `AssociatedData` borrows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub namespace: String,
    pub id: RecordId,
    pub tenant: TenantId,
    pub client: ClientId,
    pub cloud: Cloud,
    pub credential_id: i64,
    pub expires_at: Timestamp,
    pub name: String,
}

impl Record {
    pub fn binding(&self) -> AssociatedData<'_> {
        let Self { namespace, id, tenant, client, cloud, credential_id, expires_at, name } = self;
        AssociatedData {
            namespace,
            record_id: id,
            tenant,
            client,
            cloud: *cloud,
            credential_id: *credential_id,
            expires_at: *expires_at,
            name,
        }
    }
}

pub(super) fn guid(bits: u128) -> String {
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

pub(super) fn record() -> Record {
    Record {
        namespace: "mail".into(),
        id: RecordId::from(0x0123_4567_89ab_cdef),
        tenant: guid(1).parse().unwrap(),
        client: guid(2).parse().unwrap(),
        cloud: Cloud::Global,
        credential_id: 7,
        expires_at: Timestamp::UNIX_EPOCH,
        name: "sales".into(),
    }
}

pub(super) fn keyring() -> Keyring {
    Keyring::random(Timestamp::UNIX_EPOCH).unwrap()
}

pub(super) fn seal(keyring: &Keyring, record: &Record, secret: &str) -> Envelope {
    Envelope::seal(keyring, record.binding(), &SecretText::new(secret.into())).unwrap()
}

pub(super) fn seal_both(keyring: &Keyring, record: &Record, current: &str, pending: &str) -> Envelope {
    let [current, pending] = [current, pending].map(|text| SecretText::new(text.into()));
    let secrets = Secrets { current: &current, pending: Some(&pending) };
    Envelope::seal(keyring, record.binding(), secrets).unwrap()
}

/// An envelope with these layers, as no version or only an earlier one writes it.
fn seal_as(keyring: &Keyring, record: &Record, format: Format, secret: &[u8]) -> Envelope {
    let (key, material) = (keyring.primary_key(), KeyMaterial::random().unwrap());
    let seal = |key_encrypting, nonce, text: &[u8], layer| {
        let bound = cipher::associated_data(layer, format, key.id, record.binding());
        cipher::seal(key_encrypting, nonce, text, &bound).unwrap()
    };
    let kek = cipher::key_encryption_key(key).unwrap();
    Envelope {
        format,
        key_id: key.id,
        data_key: seal(&kek, material.data_key_nonce, material.data_key.expose(), cipher::DATA_KEY),
        secret: seal(&material.data_key, material.secret_nonce, secret, cipher::SECRET),
        pending: None,
    }
}

pub(super) fn opens(keyring: &Keyring, record: &Record, bytes: &[u8]) -> bool {
    parse(bytes).is_ok_and(|envelope| envelope.open(keyring, record.binding()).is_ok())
}

#[test]
fn no_two_envelopes_are_alike() {
    let keyring = keyring();
    let (one, other) = (seal(&keyring, &record(), "secret"), seal(&keyring, &record(), "secret"));
    assert_ne!(one.data_key.nonce, other.data_key.nonce);
    assert_ne!(one.data_key.ciphertext, other.data_key.ciphertext);
    assert_ne!(one.secret.nonce, other.secret.nonce);
    assert_ne!(one.secret.ciphertext, other.secret.ciphertext);
    assert_ne!(generate_record_id().unwrap(), generate_record_id().unwrap());
}

#[test]
fn an_envelope_with_any_bit_flipped_does_not_open() {
    let keyring = keyring();
    for envelope in [
        seal(&keyring, &record(), "6gyXA5S20@MN+WRXAJ]I-TO7g1:h2P8"),
        seal_both(&keyring, &record(), "6gyXA5S20", "WRXAJ]I-TO7g1"),
        seal_as(&keyring, &record(), Format::One, b"6gyXA5S20"),
    ] {
        let bytes = to_bytes(&envelope);
        assert!(opens(&keyring, &record(), &bytes));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(!opens(&keyring, &record(), &flipped), "byte {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn an_envelope_of_format_1_opens_and_is_written_again_in_format_2() {
    let keyring = keyring();
    let earlier = seal_as(&keyring, &record(), Format::One, b"secret");
    let read = Envelope::from_base64(&earlier.to_base64()).unwrap();
    assert!(read == earlier && read.has_earlier_format());
    // It does not bind these.
    let renamed = Record { name: "other".into(), cloud: Cloud::China, credential_id: 8, ..record() };
    for record in [record(), renamed] {
        let secret = read.open(&keyring, record.binding()).unwrap();
        let written = seal(&keyring, &record, secret.expose());
        assert!(!written.has_earlier_format());
        assert_eq!(to_bytes(&written)[3], 2);
    }
    let moved = Record { namespace: "other".into(), ..record() };
    assert_eq!(read.open(&keyring, moved.binding()), Err(OpenError::DataKey(keyring.primary())));
}

#[test]
fn an_envelope_opens_in_no_other_format() {
    let keyring = keyring();
    let one = Format::One;
    let (alone, both) = (Format::Two { has_pending: false }, Format::Two { has_pending: true });
    for format in [one, alone, both] {
        for other in [one, alone, both] {
            let mut envelope = seal_as(&keyring, &record(), format, b"secret");
            envelope.format = other;
            assert_eq!(envelope.open(&keyring, record().binding()).is_ok(), format == other, "{other:?}");
        }
    }
}

#[test]
fn a_pending_secret_is_kept_beside_the_current_one() {
    let keyring = keyring();
    let text = seal_both(&keyring, &record(), "current", "pending").to_base64();
    let envelope = Envelope::from_base64(&text).unwrap();
    assert_eq!(envelope.to_base64(), text);
    let (current, pending) = envelope.open_all(&keyring, record().binding()).unwrap();
    assert_eq!((current.expose(), pending.unwrap().expose()), ("current", "pending"));
    assert_eq!(envelope.open(&keyring, record().binding()).unwrap().expose(), "current");
}

#[test]
fn a_pending_secret_opens_only_as_pending_and_is_not_removed_unnoticed() {
    let keyring = keyring();
    let envelope = seal_both(&keyring, &record(), "current", "pending");
    let alone = Format::Two { has_pending: false };
    let (secret, pending) = (envelope.secret.clone(), envelope.pending.clone().unwrap());
    let swapped = Envelope { secret: pending.clone(), pending: Some(secret.clone()), ..envelope.clone() };
    let doubled = Envelope { pending: Some(secret), ..envelope.clone() };
    let promoted = Envelope { format: alone, secret: pending, pending: None, ..envelope.clone() };
    let removed = Envelope { format: alone, pending: None, ..envelope.clone() };
    let refused = OpenError::DataKey(keyring.primary());
    for (changed, error) in [
        (swapped, OpenError::Secret),
        (doubled, OpenError::Secret),
        (promoted, refused.clone()),
        (removed, refused),
    ] {
        let read = parse(&to_bytes(&changed)).unwrap();
        assert_eq!(read.open(&keyring, record().binding()), Err(error));
    }
}

#[test]
fn a_shorter_or_longer_envelope_is_rejected() {
    let bytes = to_bytes(&seal_both(&keyring(), &record(), "secret", "pending"));
    for found in 0..bytes.len() {
        assert_eq!(parse(&bytes[..found]), Err(MalformedEnvelope::Truncated { found }));
    }
    for trailing in 1..200 {
        let longer = [&bytes[..], &vec![0; trailing]].concat();
        assert_eq!(parse(&longer), Err(MalformedEnvelope::TrailingBytes(trailing)));
    }
}

#[test]
fn an_invalid_envelope_is_reported_with_its_problem() {
    let good = to_bytes(&seal(&keyring(), &record(), "secret"));
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        parse(&changed).unwrap_err()
    };
    assert_eq!(with(0, b"sgc"), MalformedEnvelope::NotAnEnvelope);
    assert_eq!(with(3, &[0]), MalformedEnvelope::UnknownVersion(0));
    assert_eq!(with(3, &[3]), MalformedEnvelope::UnknownVersion(3));
    assert_eq!(with(80, &[0]), MalformedEnvelope::SecretCount(0));
    assert_eq!(with(80, &[2]), MalformedEnvelope::Truncated { found: good.len() });
    assert_eq!(with(80, &[3]), MalformedEnvelope::SecretCount(3));
    assert_eq!(with(105, &[0, 0]), MalformedEnvelope::SecretLength(0));
    assert_eq!(with(105, &[0x20, 1]), MalformedEnvelope::SecretLength(MAX_SECRET_LENGTH + 1));
    assert_eq!(with(105, &[0, 7]), MalformedEnvelope::Truncated { found: good.len() });
    assert_eq!(with(105, &[0, 5]), MalformedEnvelope::TrailingBytes(1));
}

#[test]
fn base64_has_one_spelling() {
    // Two characters of padding.
    let envelope = seal(&keyring(), &record(), "four");
    let text = envelope.to_base64();
    assert!(text.ends_with("=="), "{text}");
    assert_eq!(Envelope::from_base64(&text).as_ref(), Ok(&envelope));
    let unpadded = text.trim_end_matches('=');
    let stray_bits = format!("{}{}==", &unpadded[..unpadded.len() - 1], '/');
    for odd in
        [unpadded, &stray_bits, &format!("{text}\n"), &format!(" {text}"), "%", &text.replace('U', "-")]
    {
        assert_eq!(Envelope::from_base64(odd), Err(MalformedEnvelope::NotBase64), "{odd:?}");
    }
    assert_eq!(Envelope::from_base64(""), Err(MalformedEnvelope::Truncated { found: 0 }));
    let long = "A".repeat(16_384);
    assert_eq!(Envelope::from_base64(&long), Err(MalformedEnvelope::TooLong(16_384)));
}

#[test]
fn secrets_from_one_byte_to_the_maximum_are_encrypted() {
    let keyring = keyring();
    let sealed =
        |length: usize| Envelope::seal(&keyring, record().binding(), &SecretText::new("s".repeat(length)));
    assert!(matches!(sealed(0), Err(SealError::Empty)));
    assert!(matches!(sealed(MAX_SECRET_LENGTH + 1), Err(SealError::TooLong(8193))));
    for length in [1, MAX_SECRET_LENGTH] {
        let envelope = sealed(length).unwrap();
        assert_eq!(to_bytes(&envelope).len(), FIXED_LENGTH + FIXED_SECRET_LENGTH + length);
        let text = envelope.to_base64();
        assert!(text.len() <= 16_384, "it fits into spec.envelope");
        let opened = Envelope::from_base64(&text).unwrap().open(&keyring, record().binding()).unwrap();
        assert_eq!(opened.expose(), "s".repeat(length));
    }
}

#[test]
fn both_secrets_together_are_as_long_as_one_may_be() {
    let (keyring, longest) = (keyring(), "s".repeat(MAX_SECRET_LENGTH - 1));
    let envelope = seal_both(&keyring, &record(), &longest, "p");
    let text = envelope.to_base64();
    assert!(text.len() <= 16_384, "it fits into spec.envelope");
    assert!(opens(&keyring, &record(), &STANDARD.decode(text).unwrap()));
    let [current, pending, empty] = [longest.as_str(), "pp", ""].map(|text| SecretText::new(text.into()));
    let seal = |pending| {
        Envelope::seal(&keyring, record().binding(), Secrets { current: &current, pending: Some(pending) })
    };
    assert!(matches!(seal(&pending), Err(SealError::TooLong(8193))));
    assert!(matches!(seal(&empty), Err(SealError::Empty)));
    let mut longer = envelope.clone();
    longer.pending.as_mut().unwrap().ciphertext.push(0);
    assert_eq!(parse(&to_bytes(&longer)), Err(MalformedEnvelope::SecretLength(2)));
}

#[test]
fn an_envelope_is_reencrypted_with_the_primary_key() {
    let mut keyring = keyring();
    let envelope = seal(&keyring, &record(), "secret");
    let before = keyring.clone();
    let added = keyring.rotate(Timestamp::UNIX_EPOCH).unwrap();
    let secret = envelope.open(&keyring, record().binding()).unwrap();
    let reencrypted = seal(&keyring, &record(), secret.expose());
    assert_eq!(reencrypted.key_id(), added);
    assert_ne!(reencrypted.secret.ciphertext, envelope.secret.ciphertext);
    for envelope in [&envelope, &reencrypted] {
        assert_eq!(envelope.open(&keyring, record().binding()).unwrap().expose(), "secret");
    }
    assert_eq!(reencrypted.open(&before, record().binding()), Err(OpenError::UnknownKey(added)));
    let moved = Record { namespace: "other".into(), ..record() };
    assert!(matches!(envelope.open(&keyring, moved.binding()), Err(OpenError::DataKey(_))));
}

#[test]
fn an_envelope_opens_only_with_its_own_key() {
    let mut keyring = keyring();
    let earlier = keyring.primary();
    keyring.rotate(Timestamp::UNIX_EPOCH).unwrap();
    let mut envelope = seal(&keyring, &record(), "secret");
    envelope.key_id = earlier;
    assert_eq!(envelope.open(&keyring, record().binding()), Err(OpenError::DataKey(earlier)));
    // The same id in a keyring of other bytes.
    let mut json: serde_json::Value = serde_json::from_slice(keyring.to_json().unwrap().expose()).unwrap();
    for key in json["keys"].as_array_mut().unwrap() {
        key["bytes"] = STANDARD.encode([7; 32]).into();
    }
    let other = Keyring::from_json(json.to_string().as_bytes()).unwrap();
    let envelope = seal(&keyring, &record(), "secret");
    assert_eq!(envelope.open(&other, record().binding()), Err(OpenError::DataKey(keyring.primary())));
}

#[test]
fn the_layers_of_two_envelopes_cannot_be_mixed() {
    let keyring = keyring();
    let (mut one, other) = (seal(&keyring, &record(), "one"), seal(&keyring, &record(), "two"));
    one.secret = other.secret;
    assert_eq!(one.open(&keyring, record().binding()), Err(OpenError::Secret));
}

#[test]
fn a_secret_that_is_not_text_is_reported() {
    let (keyring, record) = (keyring(), record());
    let envelope = seal_as(&keyring, &record, Format::Two { has_pending: false }, &[0xff]);
    assert_eq!(envelope.open(&keyring, record.binding()), Err(OpenError::NotText));
}

#[test]
fn no_output_shows_a_secret() {
    let (keyring, record) = (keyring(), record());
    let envelope = seal(&keyring, &record, "canary");
    let data_key = KeyBytes::copy_of(b"canary-canary-canary-canary-0123").unwrap();
    let moved = Record { namespace: "other".into(), ..record.clone() };
    let refused = envelope.open(&keyring, moved.binding()).unwrap_err();
    let too_long = SecretText::new("canary".repeat(2000));
    let unsealed = Envelope::seal(&keyring, record.binding(), &too_long).unwrap_err();
    let malformed = Envelope::from_base64("canary").unwrap_err();
    let opened = envelope.open(&keyring, record.binding()).unwrap();
    let shown = format!(
        "{envelope:?} {:?} {:?} {refused:?} {refused} {unsealed:?} {unsealed} {malformed:?} {malformed} {opened:?}",
        record.binding(),
        data_key,
    );
    let bytes = format!("{:?}", b"canary");
    assert!(!shown.contains("canary") && !shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
    let shown_envelope = format!("Envelope {{ key_id: KeyId({}), .. }}", keyring.primary());
    assert!(shown.starts_with(&shown_envelope), "{shown}");
}
