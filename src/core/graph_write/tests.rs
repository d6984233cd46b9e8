//! The table of responses, as documented and as seen.

use serde_json::{Value, json};

use super::*;
use WriteFailure::{NotApplied, Unknown};

fn classified(status: u16, body: Value) -> WriteFailure {
    let body: ErrorBody = serde_json::from_value(body).unwrap();
    classify(status, Some(&body))
}

fn error(code: &str, message: &str) -> Value {
    json!({"error": {"code": code, "message": message, "innerError": {"date": "2026-11-24T08:00:00"}}})
}

const CONCURRENT_TEXT: &str =
    "Error due to concurrent requests being made to the tenant. Please wait briefly and retry.";

#[test]
fn documented_rejections_say_that_nothing_was_written() {
    let insufficient = "Insufficient privileges to complete the operation.";
    let lifetime = "Credential lifetime exceeds the max value allowed as per assigned policy 'x'.";
    let two = "Not allowed to add 3 passwords. You can only add a maximum of 2 passwords.";
    let encrypted = "You can only add a maximum of 2 encrypted credentials.";
    let size = "The size of the object has exceeded its limit. Please reduce the number of values and retry.";
    let absent = "No password credential found with keyId 'f0b0b335-1d71-4883-8f98-567911bfdca6'.";
    for (status, code, message, expected) in [
        (400, "CredentialInvalidLifetimeAsPerAppPolicy", lifetime, WriteRejection::LifetimeNotAllowed),
        (400, "CredentialTypeNotAllowedAsPerAppPolicy", "", WriteRejection::SecretsNotAllowed),
        (400, "KeyCredentialsInvalidEndDate", "", WriteRejection::InvalidDates),
        (400, "KeyCredentialsInvalidStartDate", "", WriteRejection::InvalidDates),
        (400, "Request_BadRequest", two, WriteRejection::TooManySecrets),
        (400, "Request_BadRequest", encrypted, WriteRejection::TooManySecrets),
        (400, "Request_BadRequest", absent, WriteRejection::KeyNotFound),
        (404, "Request_ResourceNotFound", absent, WriteRejection::KeyNotFound),
        (400, "Request_BadRequest", "Invalid value.", WriteRejection::Other(400)),
        (403, "Directory_ResourceSizeExceeded", size, WriteRejection::AppTooLarge),
        (403, "Authorization_RequestDenied", insufficient, WriteRejection::Forbidden),
        (401, "InvalidAuthenticationToken", "Access token is empty.", WriteRejection::InvalidToken),
        (404, "Request_ResourceNotFound", "Resource 'x' does not exist", WriteRejection::AppNotFound),
        (429, "TooManyRequests", "Please retry again later.", WriteRejection::Throttled),
        (429, "UnknownError", "This request is throttled.", WriteRejection::Throttled),
        (415, "", "", WriteRejection::Other(415)),
    ] {
        assert_eq!(classified(status, error(code, message)), NotApplied(expected), "{status} {code}");
    }
}

#[test]
fn writes_close_together_are_recognized_by_status_code_or_message() {
    for (status, code, message) in [
        (409, "Directory_ConcurrencyViolation", ""),
        (409, "", ""),
        (400, "Request_BadRequest", CONCURRENT_TEXT),
        (400, "Directory_ConcurrencyViolation", ""),
        (403, "", CONCURRENT_TEXT),
    ] {
        let expected = NotApplied(WriteRejection::Concurrent);
        assert_eq!(classified(status, error(code, message)), expected, "{status} {code}");
    }
}

#[test]
fn other_failures_do_not_tell_whether_it_was_written() {
    for (status, code) in [
        (200, ""),
        (204, ""),
        (307, ""),
        (408, ""),
        (499, ""),
        (500, "InternalServerError"),
        (500, "Request_BadRequest"),
        (503, "TooManyRequests"),
        (503, "Authorization_RequestDenied"),
        (503, "serviceNotAvailable"),
        (504, "UnknownError"),
        (599, ""),
    ] {
        assert_eq!(classified(status, error(code, "")), Unknown, "{status} {code}");
        assert_eq!(classify(status, None), Unknown, "{status} without a body");
    }
    // Seen after a client secret was added.
    assert_eq!(classified(500, error("", CONCURRENT_TEXT)), Unknown);
    assert_eq!(classified(503, error("Directory_ConcurrencyViolation", "")), Unknown);
}

#[test]
fn a_page_of_a_proxy_says_nothing_about_the_app() {
    assert_eq!(classify(404, None), NotApplied(WriteRejection::Other(404)));
    assert_eq!(classify(400, None), NotApplied(WriteRejection::Other(400)));
    assert_eq!(classify(407, None), NotApplied(WriteRejection::Other(407)));
}

#[test]
fn bodies_in_other_forms_are_read_as_far_as_possible() {
    let localized = json!({"odata.error": {
        "code": "Request_BadRequest", "message": {"lang": "en", "value": CONCURRENT_TEXT}
    }});
    assert_eq!(classified(400, localized), NotApplied(WriteRejection::Concurrent));
    for odd in [
        json!({}),
        json!({"error": "invalid_request"}),
        json!({"error": {"code": 7, "message": 7, "details": {}}}),
        json!({"error": {"message": {"lang": "en"}}}),
    ] {
        assert_eq!(classified(400, odd.clone()), NotApplied(WriteRejection::Other(400)), "{odd}");
        assert_eq!(classified(502, odd), Unknown);
    }
}
