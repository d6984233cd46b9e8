//! The name of a Kubernetes object.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest name, in characters.
const LONGEST: usize = 253;

/// The name of a Kubernetes object: a DNS subdomain. Source: RFC 1123 as Kubernetes reads it, "Object Names
/// and IDs".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName(String);

/// A text that can name no object.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "no object can have that name: use lower case letters, digits, '-' and '.', with a letter or digit at both \
     ends and beside each dot, and at most {LONGEST} characters"
)]
pub struct ObjectNameError;

// === impl ObjectName ===

impl ObjectName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectName {
    type Err = ObjectNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_fine = text.len() <= LONGEST && text.split('.').all(is_label);
        if is_fine { Ok(Self(text.to_owned())) } else { Err(ObjectNameError) }
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
    fn what_kubernetes_takes_is_taken() {
        for name in ["a", "graph-credential-operator", "a.b-c.1", "0", &"a".repeat(253)] {
            assert_eq!(name.parse::<ObjectName>().map(|name| name.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn what_kubernetes_refuses_is_refused() {
        for name in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "a/b", "\u{e4}", "a b", &"a".repeat(254)]
        {
            assert_eq!(name.parse::<ObjectName>(), Err(ObjectNameError), "{name}");
        }
    }
}
