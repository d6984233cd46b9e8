//! How a program ended.

use std::fmt;

/// How a program ended, as a shell sees it: 128 + n after signal n. A program that itself exits with such a code looks
/// the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(i32);

impl Exit {
    pub(super) const fn from_shell(code: i32) -> Self {
        Self(code)
    }

    /// Whether the program ended with 0.
    pub const fn success(self) -> bool {
        self.0 == 0
    }

    /// The exit code, 128 + n after signal n.
    pub const fn code(self) -> i32 {
        self.0
    }

    /// The number of the signal that ended the program.
    pub const fn signal(self) -> Option<i32> {
        if self.0 > 128 { Some(self.0 - 128) } else { None }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal() {
            Some(signal) => write!(f, "signal {signal}"),
            None => write!(f, "exit code {}", self.0),
        }
    }
}
