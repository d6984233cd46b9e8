//! An error with all its causes, for a line that tells of it.

use std::error::Error;

/// An error and its causes on one line, for a log line's `error` field: the JSON form of a line would keep
/// the first alone.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
