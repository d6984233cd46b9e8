//! What is wrong with a value that comes from a Secret, a file or a request, in the same words for every kind. Nothing
//! shows more of a value than one character that cannot be part of it.

use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use super::characters::{describe, is_invisible};
use super::model::ConditionFailure;
use super::secret_form;
use crate::api::reasons::Reason;

/// What the output of a command looks like that people copy as a whole.
const JSON: &str = ", and looks like JSON, such as the output of az ad sp create-for-rbac";

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    ClientSecret,
    /// A header can hold only ASCII characters.
    ApiKey,
    /// May have white space at its ends.
    Expiry,
}

/// Why a value cannot be used; completes a sentence that begins with the value.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ValueProblem {
    #[error("is empty")]
    Empty,
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    #[error("is UTF-16 text instead of UTF-8")]
    Utf16,
    /// With the position of the first character that cannot be read, counted from 1.
    #[error("is not UTF-8 text from character {0} on")]
    NotUtf8(usize),
    /// With the position of the character, counted from 1, and whether the value is JSON on several lines.
    #[error("has {} as character {position}{}", describe(*character), if *is_json { JSON } else { "" })]
    Character { position: usize, character: char, is_json: bool },
}

/// A value in a Secret, and the fields of the object that point to it.
#[derive(Clone, Copy, Debug)]
pub struct SecretValue<'a> {
    pub kind: ValueKind,
    /// Name of the Secret.
    pub secret: &'a str,
    /// Field that names the Secret.
    pub name_field: &'static str,
    /// Key of the value.
    pub key: &'a str,
    /// Field that names the key.
    pub key_field: &'static str,
}

/// How much longer a value that is missing may still arrive, because the object or its Secret is that new: another
/// program, such as External Secrets, may be filling the Secret. `None` if a person must act.
pub fn arrival_time_left(
    reason: Reason,
    since: impl IntoIterator<Item = Timestamp>,
    window: Duration,
    now: Timestamp,
) -> Option<Duration> {
    if !matches!(
        reason,
        Reason::SecretNotFound | Reason::KeyMissing | Reason::EmptyValue | Reason::ExpiryMissing
    ) {
        return None;
    }
    // A time further ahead comes from a clock that was wrong.
    let since = since.into_iter().filter(|at| *at <= now + window).max()?;
    Duration::try_from((since + window).duration_since(now)).ok().filter(|left| !left.is_zero())
}

// === impl ValueKind ===

impl ValueKind {
    /// The text of a value, or the first problem with it. Editors and copied pages leave characters behind that
    /// Microsoft and Woodpecker reject without naming the cause.
    pub fn check(self, bytes: &[u8]) -> Result<&str, ValueProblem> {
        if bytes.is_empty() {
            return Err(ValueProblem::Empty);
        }
        if bytes.len() > self.max_length() {
            return Err(ValueProblem::TooLong(self.max_length()));
        }
        if is_utf16(bytes) {
            return Err(ValueProblem::Utf16);
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            ValueProblem::NotUtf8(String::from_utf8_lossy(valid).chars().count() + 1)
        })?;
        let inner = text.len() - text.trim_start().len()..text.trim_end().len();
        let forbidden = text.char_indices().enumerate().find(|(_, (at, character))| {
            if inner.contains(at) { !self.may_contain(*character) } else { self != Self::Expiry }
        });
        match forbidden {
            Some((index, (_, character))) => {
                let is_json = self == Self::ClientSecret && secret_form::is_json(text);
                Err(ValueProblem::Character { position: index + 1, character, is_json })
            }
            None => Ok(text),
        }
    }

    /// Longest value, in bytes.
    pub const fn max_length(self) -> usize {
        match self {
            Self::ClientSecret => 8192,
            Self::ApiKey | Self::Expiry => 1024,
        }
    }

    fn may_contain(self, character: char) -> bool {
        !character.is_control() && !is_invisible(character) && (self != Self::ApiKey || character.is_ascii())
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecret => "client secret's Value",
            Self::ApiKey => "API key",
            Self::Expiry => "expiry",
        }
    }
}

/// Windows PowerShell writes UTF-16 by default, with or without a byte order mark: then every second byte is null.
fn is_utf16(bytes: &[u8]) -> bool {
    let is_null = |first: usize| bytes.iter().skip(first).step_by(2).all(|byte| *byte == 0);
    matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..])
        || bytes.len() >= 2 && bytes.len().is_multiple_of(2) && (is_null(0) || is_null(1))
}

// === impl ValueProblem ===

impl ValueProblem {
    /// The reason of the condition.
    pub fn reason(self) -> Reason {
        match self {
            Self::Empty => Reason::EmptyValue,
            Self::TooLong(_) => Reason::ValueTooLong,
            Self::Utf16 | Self::NotUtf8(_) | Self::Character { .. } => Reason::InvalidCharacters,
        }
    }

    /// What to do about a value of that kind.
    pub fn remedy(self, kind: ValueKind) -> String {
        let what = kind.as_str();
        match self {
            Self::Empty => format!("put the {what} into it"),
            Self::TooLong(_) => format!("put the {what} and nothing else into it"),
            Self::Utf16 | Self::NotUtf8(_) => "save it as UTF-8 without a byte order mark".to_owned(),
            Self::Character { is_json: true, .. } => "use only the value of its password".to_owned(),
            Self::Character { character, .. }
                if character.is_whitespace() || !ValueKind::ClientSecret.may_contain(character) =>
            {
                "write the bare value (stringData, or echo -n)".to_owned()
            }
            Self::Character { .. } => format!("an {what} has only ASCII characters, so copy it again"),
        }
    }
}

// === impl SecretValue ===

impl SecretValue<'_> {
    /// With another key that the Secret must have as well.
    pub fn not_found(&self, other: Option<&str>) -> ConditionFailure {
        let Self { secret, name_field, key, .. } = self;
        let keys = match other {
            Some(other) => format!("the keys {key} and {other}"),
            None => format!("the key {key}"),
        };
        let message = format!(
            "Secret {secret} does not exist in this namespace: create it with {keys}, or fix {name_field}"
        );
        ConditionFailure { reason: Reason::SecretNotFound, message }
    }

    pub fn access_denied(&self) -> ConditionFailure {
        let message = format!(
            "the operator is not allowed to read Secret {}: grant its ServiceAccount get on Secrets in this namespace",
            self.secret
        );
        ConditionFailure { reason: Reason::AccessDenied, message }
    }

    pub fn key_missing(&self) -> ConditionFailure {
        let Self { secret, key, key_field, .. } = self;
        let message = format!(
            "Secret {secret} does not have the key {key}: add it, or set {key_field} to the right key"
        );
        ConditionFailure { reason: Reason::KeyMissing, message }
    }

    pub fn unusable(&self, problem: ValueProblem) -> ConditionFailure {
        let Self { kind, secret, key, .. } = self;
        let message = format!("key {key} of Secret {secret} {problem}: {}", problem.remedy(*kind));
        ConditionFailure { reason: problem.reason(), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn character(position: usize, character: char) -> Result<&'static str, ValueProblem> {
        Err(ValueProblem::Character { position, character, is_json: false })
    }

    #[test]
    fn the_first_character_that_does_not_belong_there_is_named_with_its_position() {
        for (value, position, found) in [
            ("\u{feff}s3cret", 1, '\u{feff}'),
            ("s3\u{200b}cr\u{2060}et", 3, '\u{200b}'),
            ("s3cret\u{ad}", 7, '\u{ad}'),
            ("s3cret\u{2028}", 7, '\u{2028}'),
            ("s3cret \n", 7, ' '),
            (" s3cret", 1, ' '),
            ("s3cret\u{a0}", 7, '\u{a0}'),
            ("s3\0cret", 3, '\0'),
            ("s\u{fc}\u{fc}\tcret", 4, '\t'),
            ("  ", 1, ' '),
        ] {
            for kind in [ValueKind::ClientSecret, ValueKind::ApiKey] {
                let expected = match kind {
                    ValueKind::ApiKey if value.contains('\u{fc}') => character(2, '\u{fc}'),
                    _ => character(position, found),
                };
                assert_eq!(kind.check(value.as_bytes()), expected, "{value:?}");
            }
        }
    }

    #[test]
    fn inner_spaces_and_letters_outside_ascii_are_part_of_a_client_secret() {
        for value in ["a", "a b", "6gyXA5S20@MN+WRXAJ]I-TO7g1:h2P8", "\u{fc}", "a\u{a0}b"] {
            assert_eq!(ValueKind::ClientSecret.check(value.as_bytes()), Ok(value));
        }
        assert_eq!(ValueKind::ApiKey.check(b"12 34"), Ok("12 34"));
        assert_eq!(ValueKind::ApiKey.check("1234.schl\u{fc}ssel".as_bytes()), character(10, '\u{fc}'));
    }

    #[test]
    fn an_expiry_may_have_white_space_at_its_ends() {
        let check = |value: &'static str| ValueKind::Expiry.check(value.as_bytes());
        assert_eq!(check(" 2027-11-28\r\n"), Ok(" 2027-11-28\r\n"));
        assert_eq!(check("\u{feff}2027-11-28\n"), character(1, '\u{feff}'));
        assert_eq!(check(" 2027\u{200b}-11-28"), character(6, '\u{200b}'));
    }

    #[test]
    fn json_on_several_lines_is_named_as_such() {
        let output = b"{\n  \"appId\": \"e1c6ac69\",\n  \"password\": \"Abc8Q~x\"\n}\n";
        let problem = ValueKind::ClientSecret.check(output).unwrap_err();
        assert_eq!(
            format!("it {problem}: {}", problem.remedy(ValueKind::ClientSecret)),
            "it has U+000A line feed as character 2, and looks like JSON, such as the output of az ad sp \
             create-for-rbac: use only the value of its password"
        );
        let of_a_key = ValueKind::ApiKey.check(output).unwrap_err();
        assert!(!of_a_key.to_string().contains("JSON"), "{of_a_key}");
    }

    #[test]
    fn utf_16_is_named_as_such() {
        let utf_16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let big_endian = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
        for value in
            [utf_16("s3cret"), big_endian("s3cret"), utf_16("\u{feff}s3cret"), big_endian("\u{feff}\u{fc}")]
        {
            assert_eq!(ValueKind::ClientSecret.check(&value), Err(ValueProblem::Utf16), "{value:?}");
        }
        assert_eq!(ValueKind::ClientSecret.check(b"s3crets\0"), character(8, '\0'));
        assert_eq!(ValueKind::ClientSecret.check(b"\xc3\xbcs3\xffcret"), Err(ValueProblem::NotUtf8(4)));
    }

    #[test]
    fn a_value_has_a_longest_length() {
        for (kind, longest) in [(ValueKind::ClientSecret, 8192), (ValueKind::ApiKey, 1024)] {
            let value = "x".repeat(longest + 1);
            assert!(kind.check(&value.as_bytes()[1..]).is_ok());
            assert_eq!(kind.check(value.as_bytes()), Err(ValueProblem::TooLong(longest)));
        }
    }

    #[test]
    fn a_missing_value_may_arrive_for_some_minutes() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let window = Duration::from_mins(3);
        let left = |reason, ages: &[i64]| {
            let since = ages.iter().map(|age| now - jiff::SignedDuration::from_secs(*age));
            arrival_time_left(reason, since, window, now).map(|left| left.as_secs())
        };
        for reason in [Reason::SecretNotFound, Reason::KeyMissing, Reason::EmptyValue, Reason::ExpiryMissing]
        {
            assert_eq!(left(reason, &[600, 60]), Some(120), "the later time counts");
            assert_eq!(left(reason, &[180]), None);
            assert_eq!(left(reason, &[]), None);
            assert_eq!(left(reason, &[-2, 600]), Some(182), "clocks differ by seconds");
            assert_eq!(left(reason, &[-600]), None, "such a time is wrong");
        }
        for reason in [Reason::InvalidCharacters, Reason::ExpiryInvalid, Reason::AccessDenied] {
            assert_eq!(left(reason, &[0]), None, "{reason}");
        }
    }

    #[test]
    fn a_message_shows_no_more_of_the_value_than_one_character() {
        let value = SecretValue {
            kind: ValueKind::ClientSecret,
            secret: "sales-eu-graph",
            name_field: "spec.secretRef.name",
            key: "client_secret",
            key_field: "spec.secretRef.clientSecretKey",
        };
        let problem = value.kind.check("canary\u{200b}canary".as_bytes()).unwrap_err();
        assert_eq!(
            value.unusable(problem).message,
            "key client_secret of Secret sales-eu-graph has U+200B zero width space as character 7: write the bare \
             value (stringData, or echo -n)"
        );
    }
}
