//! Secret text in the books of a double: comparable, but never printed, so that a test that searches for its canary does
//! not find its own output.

use std::fmt;

/// Secret text: can be compared with [`SecretText::is`], prints as `[secret]`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Takes any text, the empty one included: what clients send is not the double's to judge here.
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
