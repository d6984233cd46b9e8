//! Durations in the notation of Kubernetes (`720h`, `1h30m`), for the CRDs and the command line.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The units, in their order.
const UNITS: [char; 3] = ['h', 'm', 's'];

/// Maximum digits of a number before and after its point.
const MAX_DIGITS: (usize, usize) = (8, 3);

/// The same as a regular expression, which also matches the empty text.
const PATTERN: &str =
    "^([0-9]{1,8}([.][0-9]{1,3})?h)?([0-9]{1,8}([.][0-9]{1,3})?m)?([0-9]{1,8}([.][0-9]{1,3})?s)?$";

/// A duration in Go's notation: hours, minutes and seconds, each at most once and in this order, such as `1h30m` or
/// `1.5h`. A number has at most eight digits before its point and three after it.
///
/// Days are not a unit, as in Kubernetes: write `720h` for thirty days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct KubeDuration {
    text: String,
    value: Duration,
}

/// A text that is not a duration.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a duration such as 720h, 90m or 1h30m (the units are h, m and s, in this order)")]
pub struct ParseDurationError(String);

/// CEL rule that a field is unset or a duration within bounds.
///
/// [`KubeDuration`] can parse everything that it accepts: an object that cannot be read could never be finalized.
pub(super) fn rule(field: &str, least: &str, most: &str) -> String {
    format!(
        "!has({field}) || ({field} != '' && {field}.matches('{PATTERN}') && duration({field}) >= duration('{least}') \
         && duration({field}) <= duration('{most}'))"
    )
}

/// The sum of its parts, each a number with its unit.
fn read(text: &str) -> Option<Duration> {
    let mut units = UNITS.into_iter();
    let mut sum = Duration::ZERO;
    for part in text.split_inclusive(UNITS) {
        let unit = part.chars().last()?;
        units.find(|next| *next == unit)?;
        let number = part.strip_suffix(unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_within = |digits: &str, most| {
            (1..=most).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
        };
        if !is_within(whole, MAX_DIGITS.0) || !is_within(fraction, MAX_DIGITS.1) {
            return None;
        }
        sum = sum.checked_add(Duration::try_from(part.parse::<SignedDuration>().ok()?).ok()?)?;
    }
    (!text.is_empty()).then_some(sum)
}

// === impl KubeDuration ===

impl KubeDuration {
    /// The duration's value.
    pub fn get(&self) -> Duration {
        self.value
    }
}

impl TryFrom<String> for KubeDuration {
    type Error = ParseDurationError;

    fn try_from(text: String) -> Result<Self, ParseDurationError> {
        match read(&text) {
            Some(value) => Ok(Self { text, value }),
            None => Err(ParseDurationError(text)),
        }
    }
}

impl std::str::FromStr for KubeDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, ParseDurationError> {
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
    use proptest::string::string_regex;
    use proptest::{prop_assert, proptest};

    use super::*;

    #[test]
    fn go_notation_is_parsed() {
        for (text, seconds) in [
            ("720h", 2_592_000),
            ("1h30m", 5400),
            ("90s", 90),
            ("1.5h", 5400),
            ("1.5h30m", 7200),
            ("1h0.5m90s", 3720),
            ("0024h", 86_400),
            ("0s", 0),
        ] {
            assert_eq!(text.parse::<KubeDuration>().map(|d| d.get().as_secs()), Ok(seconds), "{text}");
        }
        assert_eq!("0.001s".parse::<KubeDuration>().map(|d| d.get()), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn an_invalid_duration_is_rejected() {
        for text in [
            "",
            "30d",
            "1 day",
            "-1h",
            "+1h",
            "24",
            "h",
            "P1D",
            "1h 30m",
            "30m1h",
            "1h1h",
            ".5h",
            "1.h",
            "1.5.5h",
            "1.0001h",
            "100000000h",
            "1H",
            "1h\n",
            "1h30",
            "٣h",
            "5ms",
            "1e2h",
        ] {
            assert!(text.parse::<KubeDuration>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn everything_that_the_rule_accepts_is_parsed(text in string_regex(PATTERN.trim_matches(['^', '$'])).unwrap()) {
            prop_assert!(text.is_empty() || text.parse::<KubeDuration>().is_ok(), "{text:?}");
        }
    }
}
