//! The name of a Kubernetes object.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest name, in characters.
const MAX_LENGTH: usize = 253;

/// The name of a Kubernetes object: a DNS subdomain. Source: RFC 1123 and the Kubernetes documentation, "Object Names and
/// IDs".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName(String);

/// The text is not a valid name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "it is not a valid object name: use lowercase letters, digits, '-' and '.', with a letter or digit at both ends \
     and next to each dot, and at most {MAX_LENGTH} characters"
)]
pub struct ObjectNameError;

// === impl ObjectName ===

impl ObjectName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectName {
    type Err = ObjectNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_valid = text.len() <= MAX_LENGTH && text.split('.').all(is_label);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(ObjectNameError) }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = label.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(is_alphanumeric))
        && bytes.iter().all(|byte| is_alphanumeric(byte) || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kubernetes_accepts_are_accepted() {
        for name in ["a", "graph-credential-operator", "a.b-c.1", "0", &"a".repeat(253)] {
            assert_eq!(name.parse::<ObjectName>().map(|name| name.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn names_that_kubernetes_rejects_are_rejected() {
        for name in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "a/b", "\u{e4}", "a b", &"a".repeat(254)]
        {
            assert_eq!(name.parse::<ObjectName>(), Err(ObjectNameError), "{name}");
        }
    }
}
