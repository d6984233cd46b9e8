//! Validated identifiers: tenant and client IDs of Entra in lower case, and IDs of records; and the CEL rules for IDs
//! and names.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// CEL rule for a GUID in upper or lower case.
pub(super) const GUID_RULE: &str =
    "self.matches('^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$')";

/// CEL rule for the name of a Secret or another Kubernetes object.
pub(super) const SUBDOMAIN_RULE: &str = "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')";

/// CEL rule for an ID at Woodpecker: a number that JSON represents exactly.
pub(super) const REMOTE_ID_RULE: &str = "self >= 1 && self <= 9007199254740991";

/// CEL rule for the ID of a record.
pub(super) const RECORD_ID_RULE: &str = "self.matches('^[0-9a-f]{32}$')";

/// A text that is not a GUID of 32 hexadecimal digits in groups of 8-4-4-4-12.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a GUID such as bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32")]
pub struct ParseGuidError(String);

/// A text that is not the ID of a record.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not 32 lower-case hexadecimal digits")]
pub struct ParseRecordIdError(String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $error:ident, $is_valid:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String")]
        #[schemars(with = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The ID in lower case.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                if $is_valid(&text) { Ok(Self(text.to_ascii_lowercase().into())) } else { Err($error(text)) }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                text.to_owned().try_into()
            }
        }
    };
}

id! {
    /// The ID of an Entra tenant: a GUID, stored in lower case.
    TenantId, ParseGuidError, is_guid
}

id! {
    /// The application (client) ID of an Entra app registration: a GUID, stored in lower case.
    ClientId, ParseGuidError, is_guid
}

id! {
    /// The ID of a record: 128 random bits as 32 lower-case hexadecimal digits.
    RecordId, ParseRecordIdError, is_record_id
}

impl From<u128> for RecordId {
    fn from(bits: u128) -> Self {
        Self(format!("{bits:032x}").into())
    }
}

fn is_record_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether the text is 32 hexadecimal digits in groups of 8-4-4-4-12, in upper or lower case.
pub fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stored_in_lower_case() {
        let id: TenantId = "BBFB2DB7-aaf4-4F7C-9dc2-2c9160d1cb32".parse().unwrap();
        assert_eq!(id.as_str(), "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32");
    }

    #[test]
    fn an_invalid_guid_is_rejected() {
        for text in [
            "",
            "contoso.onmicrosoft.com",
            "common",
            "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb3",
            "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32\n",
            "bbfb2db7aaf4-4f7c--9dc2-2c9160d1cb32",
            "../oauth2-aaf4-4f7c-9dc2-2c9160d1cb3",
        ] {
            assert!(text.parse::<ClientId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_id_of_a_record_has_one_spelling() {
        assert_eq!(RecordId::from(0xab).as_str(), "000000000000000000000000000000ab");
        assert_eq!("f".repeat(32).parse(), Ok(RecordId::from(u128::MAX)));
        for text in ["", "ab", &"F".repeat(32), &"0".repeat(31), &"0".repeat(33), &"g".repeat(32)] {
            assert!(text.parse::<RecordId>().is_err(), "{text:?}");
        }
    }
}
