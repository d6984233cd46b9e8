//! Timestamps in the CRDs and the Secrets. The operator can read everything that the schema accepts.
//!
//! The schema has a rule instead of `format: date-time`, with which the API server also accepts `[]` and offsets of 99
//! hours. An object that cannot be read could never be finalized.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::fmt::temporal::Pieces;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// The latest timestamp, 9999-01-01T00:00:00Z, which replaces every later one: people write `9999-12-31` for "never",
/// which jiff cannot represent. The remaining eleven months prevent an overflow when a wait is added.
pub const LATEST: Timestamp = Timestamp::constant(253_370_764_800, 0);

/// CEL for RFC 3339 with offset, in upper case and without leap seconds; `timestamp` refuses days that do not exist.
const RULE: &str = "self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?\
    (Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$') && timestamp(self) > timestamp('0001-01-01T00:00:00Z')";

const MESSAGE: &str = "must be a date with time and offset from the years 1 to 9999, such as 2027-11-28T23:59:59Z or \
    2027-11-29T00:59:59+01:00";

/// Parses a date with time and offset.
pub fn parse(text: &str) -> Option<Timestamp> {
    // jiff also accepts signed years, which RFC 3339 does not have.
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.min(LATEST));
    }
    let pieces = Pieces::parse(text).ok()?;
    let is_whole = pieces.time().is_some() && pieces.offset().is_some();
    (is_whole && pieces.date().year() >= LATEST_YEAR).then_some(LATEST)
}

/// The same, and a date without time as its last second in UTC: Entra issues tokens until the day is over.
pub fn parse_or_date(text: &str) -> Option<Timestamp> {
    parse(text).or_else(|| {
        let is_plain_date = text.len() == 10 && text.parse::<Date>().is_ok();
        is_plain_date.then(|| parse(&format!("{text}T23:59:59Z")))?
    })
}

const LATEST_YEAR: i16 = 9999;

/// The schema of a required timestamp.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string", "maxLength": 64, "x-kubernetes-validations": [{"rule": RULE, "message": MESSAGE}]
    })
}

/// The schema of an optional timestamp.
pub(super) fn optional_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = schema(generator);
    schema.insert("nullable".into(), true.into());
    schema
}

/// Deserializes a required timestamp.
pub(super) fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map(Time).ok_or_else(|| D::Error::custom(format_args!("{text:?} {MESSAGE}")))
}

/// Deserializes an optional timestamp.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
    #[derive(Deserialize)]
    struct Given(#[serde(deserialize_with = "required")] Time);
    Ok(Option::<Given>::deserialize(deserializer)?.map(|given| given.0))
}

/// `2027-11-28T23:59:59Z`, as in Woodpecker's samples: UTC, no fraction. Other forms are not documented.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_timestamp_is_the_latest_one() {
        assert_eq!(LATEST.to_string(), "9999-01-01T00:00:00Z");
        for text in [
            "9999-01-01T00:00:01Z",
            "9999-12-30T22:00:00Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59.999999999-23:59",
            "9999-12-31T00:00:00+23:59",
        ] {
            assert_eq!(parse(text), Some(LATEST), "{text}");
        }
        assert_eq!(parse("9998-12-31T23:59:59Z").map(|at| at < LATEST), Some(true));
    }

    #[test]
    fn a_plain_date_is_the_end_of_its_day() {
        assert_eq!(parse_or_date("2027-01-31"), parse("2027-01-31T23:59:59Z"));
        assert_eq!(parse_or_date("2027-01-31T08:00:00+01:00"), parse("2027-01-31T07:00:00Z"));
        for text in ["2027-02-29", "2027-1-31", "31.01.2027", ""] {
            assert_eq!(parse_or_date(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_text_without_date_time_and_offset_is_rejected() {
        for text in [
            "",
            "never",
            "2027-11-28",
            "2027-11-28T23:59:59",
            "2027-02-29T00:00:00Z",
            "9999-12-31",
            "9999-12-31T23:59:59",
            "9999-13-31T23:59:59Z",
            "10000-01-01T00:00:00Z",
            "-009999-01-02T01:59:59Z",
            "+009999-12-31T23:59:59Z",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
