//! Binary layout of an envelope. Parsing checks every length and rejects trailing bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::store::envelope::cipher::{NONCE_LENGTH, Sealed, TAG_LENGTH};
use crate::store::envelope::{Envelope, Format, MAX_SECRET_LENGTH};
use crate::store::keyring::{KEY_LENGTH, KeyId};

/// The first bytes of every envelope.
const MAGIC: [u8; 3] = *b"SGC";

/// Length of an encrypted secret without its ciphertext.
pub(super) const FIXED_SECRET_LENGTH: usize = NONCE_LENGTH + 2 + TAG_LENGTH;

/// Length of what precedes the secrets.
pub(super) const FIXED_LENGTH: usize = MAGIC.len() + 1 + 4 + NONCE_LENGTH + KEY_LENGTH + TAG_LENGTH + 1;

/// Length of the longest envelope in base64.
const MAX_TEXT_LENGTH: usize = (FIXED_LENGTH + 2 * FIXED_SECRET_LENGTH + MAX_SECRET_LENGTH).div_ceil(3) * 4;

/// A text that is not an envelope.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MalformedEnvelope {
    /// It is longer than any envelope.
    #[error("the envelope is {0} characters long, more than allowed")]
    TooLong(usize),
    /// It is not base64, or has wrong padding or trailing bits.
    #[error("the envelope is not base64")]
    NotBase64,
    /// It does not begin with the magic bytes.
    #[error("the envelope does not begin with the magic bytes")]
    NotAnEnvelope,
    /// Its format is unknown to this version.
    #[error("the envelope has format {0}, and this version of the operator supports only formats 1 and 2")]
    UnknownVersion(u8),
    /// It states another number of secrets than one or two.
    #[error("the envelope states that it contains {0} secrets, and 1 or 2 are allowed")]
    SecretCount(u8),
    /// Its length field is out of range.
    #[error(
        "the envelope states a secret length of {0} bytes, and 1 to {MAX_SECRET_LENGTH} are allowed, both \
         secrets together"
    )]
    SecretLength(usize),
    /// It ends too early.
    #[error("the envelope ends after {found} bytes")]
    Truncated {
        /// Its length.
        found: usize,
    },
    /// Bytes follow its end.
    #[error("{0} bytes follow the envelope")]
    TrailingBytes(usize),
}

struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

/// Parses an envelope from base64.
pub(super) fn decode(text: &str) -> Result<Envelope, MalformedEnvelope> {
    if text.len() > MAX_TEXT_LENGTH {
        return Err(MalformedEnvelope::TooLong(text.len()));
    }
    parse(&STANDARD.decode(text).map_err(|_| MalformedEnvelope::NotBase64)?)
}

pub(super) fn encode(envelope: &Envelope) -> String {
    STANDARD.encode(to_bytes(envelope))
}

pub(super) fn parse(bytes: &[u8]) -> Result<Envelope, MalformedEnvelope> {
    let mut reader = Reader { rest: bytes, length: bytes.len() };
    if reader.array::<3>()? != MAGIC {
        return Err(MalformedEnvelope::NotAnEnvelope);
    }
    let [number] = reader.array()?;
    if !(1..=2).contains(&number) {
        return Err(MalformedEnvelope::UnknownVersion(number));
    }
    let key_id = KeyId::from_bytes(reader.array()?);
    let data_key = reader.sealed(|_| Ok(KEY_LENGTH))?;
    let format = if number == 1 { Format::One } else { reader.second_format()? };
    let secret = reader.secret(MAX_SECRET_LENGTH)?;
    let pending = match format {
        Format::Two { has_pending: true } => {
            Some(reader.secret(MAX_SECRET_LENGTH - secret.ciphertext.len())?)
        }
        Format::One | Format::Two { has_pending: false } => None,
    };
    match reader.rest.len() {
        0 => Ok(Envelope { format, key_id, data_key, secret, pending }),
        trailing => Err(MalformedEnvelope::TrailingBytes(trailing)),
    }
}

pub(super) fn to_bytes(envelope: &Envelope) -> Vec<u8> {
    let Envelope { format, key_id, data_key, secret, pending } = envelope;
    let number_of_secrets: &[u8] = match format {
        Format::One => &[],
        Format::Two { .. } => &[1 + u8::from(pending.is_some())],
    };
    let mut bytes = [
        &MAGIC[..],
        &[format.number()],
        &key_id.to_bytes(),
        &data_key.nonce,
        &data_key.ciphertext,
        &data_key.tag,
        number_of_secrets,
    ]
    .concat();
    for Sealed { nonce, ciphertext, tag } in std::iter::once(secret).chain(pending) {
        // A secret is at most 8192 bytes long; an envelope with a truncated length would not decrypt.
        let length = u16::try_from(ciphertext.len()).unwrap_or(u16::MAX);
        bytes.extend([&nonce[..], &length.to_be_bytes(), ciphertext, tag].concat());
    }
    bytes
}

// === impl Format ===

impl Format {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two { .. } => 2,
        }
    }
}

// === impl Reader ===

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedEnvelope> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.truncated())?;
        self.rest = rest;
        Ok(*array)
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, MalformedEnvelope> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.truncated())?;
        self.rest = rest;
        Ok(bytes.to_vec())
    }

    /// A nonce, a ciphertext whose length `length` returns or reads, and a tag.
    fn sealed(
        &mut self,
        length: impl FnOnce(&mut Self) -> Result<usize, MalformedEnvelope>,
    ) -> Result<Sealed, MalformedEnvelope> {
        let nonce = self.array()?;
        let length = length(self)?;
        Ok(Sealed { nonce, ciphertext: self.bytes(length)?, tag: self.array()? })
    }

    fn second_format(&mut self) -> Result<Format, MalformedEnvelope> {
        match self.array()? {
            [1] => Ok(Format::Two { has_pending: false }),
            [2] => Ok(Format::Two { has_pending: true }),
            [count] => Err(MalformedEnvelope::SecretCount(count)),
        }
    }

    /// A secret with its length, which is at most `longest`.
    fn secret(&mut self, longest: usize) -> Result<Sealed, MalformedEnvelope> {
        self.sealed(|reader| {
            let length = usize::from(u16::from_be_bytes(reader.array()?));
            let is_possible = (1..=longest).contains(&length);
            is_possible.then_some(length).ok_or(MalformedEnvelope::SecretLength(length))
        })
    }

    fn truncated(&self) -> MalformedEnvelope {
        MalformedEnvelope::Truncated { found: self.length }
    }
}
