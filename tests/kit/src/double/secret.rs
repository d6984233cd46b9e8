//! Secret text in the state of a double: comparable but never printed, so that a leak test does not find its
//! own output.

use std::fmt;

/// Secret text. It is compared with [`SecretText::is`] and prints as `[secret]`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Accepts any text, including the empty one, because the double does not validate here.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether this is exactly `text`.
    pub fn is(&self, text: &str) -> bool {
        self.0 == text
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_compares_but_does_not_print() {
        let secret = SecretText::new("can~ary");
        assert!(secret.is("can~ary"));
        assert!(!secret.is("can~ary\n"));
        assert_eq!(format!("{secret:?} {secret:#?}"), "[secret] [secret]");
    }
}
