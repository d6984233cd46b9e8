//! Identifiers that can only be built valid: tenant and client ids of Entra, lower-case as they are
//! compared and sent. And the rules of the schemas for those of others.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// CEL for a GUID in any case, shared by every field that holds one.
pub(super) const GUID_RULE: &str =
    "self.matches('^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$')";

/// CEL for the name of a Secret or another object of Kubernetes, shared by every field that holds one.
pub(super) const SUBDOMAIN_RULE: &str = "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')";

/// CEL for an id of Woodpecker's: a number that JSON carries exactly.
pub(super) const REMOTE_ID_RULE: &str = "self >= 1 && self <= 9007199254740991";

/// A text that is not a GUID of 32 hexadecimal digits in groups of 8-4-4-4-12.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a GUID such as bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32")]
pub struct NotAGuid(String);

macro_rules! guid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name(String);

        impl $name {
            /// The id, 36 characters, lower case.
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
            type Error = NotAGuid;

            fn try_from(text: String) -> Result<Self, NotAGuid> {
                if is_guid(&text) { Ok(Self(text.to_ascii_lowercase())) } else { Err(NotAGuid(text)) }
            }
        }

        impl std::str::FromStr for $name {
            type Err = NotAGuid;

            fn from_str(text: &str) -> Result<Self, NotAGuid> {
                text.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

guid! {
    /// The id of an Entra tenant: a GUID, kept in lower case.
    TenantId
}

guid! {
    /// The client (application) id of an Entra app registration: a GUID, kept in lower case.
    ClientId
}

/// Whether the text is 32 hexadecimal digits in groups of 8-4-4-4-12, in any case.
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
    fn ids_are_kept_in_lower_case() {
        let id: TenantId = "BBFB2DB7-aaf4-4F7C-9dc2-2c9160d1cb32".parse().unwrap();
        assert_eq!(id.as_str(), "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32");
    }

    #[test]
    fn what_is_no_guid_is_refused() {
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
}
