//! The expiry of a secret: when the warning begins, and which notices are due.

use std::time::Duration;

use jiff::Timestamp;

use super::Note;
use crate::woodpecker::rfc3339;

/// Days before the expiry on which a notice is given, once each; 0 is the expiry itself.
const NOTICES: [i32; 5] = [0, 1, 7, 14, 30];

/// The smallest notice that is due, in days.
pub(super) fn notice_days(expires_at: Timestamp, now: Timestamp) -> Option<i32> {
    NOTICES.into_iter().find(|days| now >= expires_at - days_long(*days))
}

/// Every time at which something about the expiry changes.
pub(super) fn boundaries(expires_at: Timestamp, warning: Duration) -> impl Iterator<Item = Timestamp> {
    NOTICES.into_iter().map(move |days| expires_at - days_long(days)).chain([expires_at - warning])
}

/// The notice in words.
pub(super) fn note(days: i32, expires_at: Timestamp) -> Note {
    let date = rfc3339(expires_at);
    let (reason, text) = match days {
        0 => (
            "Expired",
            format!(
                "the client secret expired at {date}: make a new one in Entra and put it with its expiry into the Secret"
            ),
        ),
        1 => (
            "ExpiresSoon",
            format!(
                "the client secret expires within a day, at {date}: make a new one in Entra and put it with its expiry into the Secret"
            ),
        ),
        days => (
            "ExpiresSoon",
            format!(
                "the client secret expires within {days} days, at {date}: make a new one in Entra and put it with its expiry into the Secret"
            ),
        ),
    };
    Note { is_warning: true, reason, action: "CheckExpiry", text, ids: String::new() }
}

fn days_long(days: i32) -> Duration {
    Duration::from_hours(24 * u64::from(days.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_notice_that_is_due_is_given() {
        let expires_at: Timestamp = "2027-11-28T23:59:59Z".parse().unwrap();
        for (days_left, due) in [
            (31, None),
            (30, Some(30)),
            (15, Some(30)),
            (14, Some(14)),
            (7, Some(7)),
            (2, Some(7)),
            (1, Some(1)),
            (0, Some(0)),
        ] {
            assert_eq!(
                notice_days(expires_at, expires_at - days_long(days_left)),
                due,
                "{days_left} days left"
            );
        }
        assert_eq!(notice_days(expires_at, expires_at + days_long(5)), Some(0));
    }
}
