//! Durations as Kubernetes writes them (`720h`, `1h30m`), as in the CRDs and on the command line.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A positive duration in Go's notation: numbers with the units `h`, `m`, `s` (and `ms`, `us`, `ns`), such as `1h30m`.
///
/// Days are not a unit, as in Kubernetes: write `720h` for thirty days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct KubeDuration {
    text: String,
    value: Duration,
}

/// A text that is no duration.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a duration such as 720h, 90m or 1h30m (the units are h, m and s)")]
pub struct NotADuration(String);

// === impl KubeDuration ===

impl KubeDuration {
    /// The duration's value.
    pub fn get(&self) -> Duration {
        self.value
    }
}

impl TryFrom<String> for KubeDuration {
    type Error = NotADuration;

    fn try_from(text: String) -> Result<Self, NotADuration> {
        let go_units_only = !text.is_empty()
            && text.chars().all(|c| c.is_ascii_digit() || matches!(c, 'h' | 'm' | 's' | 'u' | 'n' | '.'));
        let parsed = if go_units_only { text.parse::<SignedDuration>().ok() } else { None };
        match parsed.and_then(|value| Duration::try_from(value).ok()) {
            Some(value) => Ok(Self { text, value }),
            None => Err(NotADuration(text)),
        }
    }
}

impl std::str::FromStr for KubeDuration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        text.to_owned().try_into()
    }
}

impl From<KubeDuration> for String {
    fn from(duration: KubeDuration) -> String {
        duration.text
    }
}

impl fmt::Display for KubeDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_notation_is_read() {
        for (text, seconds) in [("720h", 2_592_000), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400), ("0s", 0)]
        {
            assert_eq!(text.parse::<KubeDuration>().map(|d| d.get().as_secs()), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn what_kubernetes_refuses_is_refused() {
        for text in ["", "30d", "1 day", "-1h", "24", "h", "P1D", "1h 30m"] {
            assert!(text.parse::<KubeDuration>().is_err(), "{text:?}");
        }
    }
}
