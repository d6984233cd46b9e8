//! Reads JSON from other programs field by field: a value of another type must not hide the rest.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// A value of the expected type, or anything else.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Lenient<T> {
    Readable(T),
    Other(IgnoredAny),
}

/// The value, or the default if it is of another type.
pub(crate) fn readable<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Lenient::deserialize(from)?.value().unwrap_or_default())
}

// === impl Lenient ===

impl<T> Lenient<T> {
    /// The value, if it is of the expected type.
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::Readable(value) => Some(value),
            Self::Other(_) => None,
        }
    }
}
