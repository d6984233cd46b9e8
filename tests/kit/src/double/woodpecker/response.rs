//! The bodies of Woodpecker's responses. Source:
//! <https://developers.woodpecker.co/docs/mailboxes/microsoft/overview/> and the page of each operation.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::state::Credential;
use crate::double::http::HttpResponse;

/// The vendor's `{title, status, detail, timestamp}`.
pub(crate) fn problem(status: u16) -> HttpResponse {
    let (title, detail) = match status {
        401 => ("Unauthorized", "Invalid api key"),
        404 => ("Not Found", "Requested resource does not exist"),
        429 => ("Too Many Requests", "Too many requests"),
        _ => ("Internal server error", "An unexpected error has occurred. Please try again later."),
    };
    let timestamp = Timestamp::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
    let body = json!({ "title": title, "status": status, "detail": detail, "timestamp": timestamp });
    HttpResponse::json(status, &body)
}

/// The vendor's 422, with a single key.
pub(crate) fn unprocessable(message: &str) -> HttpResponse {
    HttpResponse::json(422, &json!({ "message": message }))
}

/// The response if a credential to delete is in use by mailboxes. Neither status nor body is documented. The
/// format is that of other v2 responses.
pub(crate) fn in_use(status: u16) -> HttpResponse {
    let body = json!({
        "code": "CREDENTIAL_IN_USE",
        "message": "The credential is used by an active mailbox",
        "details": [],
    });
    HttpResponse::json(status, &body)
}

/// A credential in the API's responses: never with its secret.
pub(crate) fn shown(credential: &Credential, echo: ExpiryEcho) -> Value {
    json!({
        "credential_id": credential.credential_id,
        "tenant_id": credential.tenant_id,
        "client_id": credential.client_id,
        "secret_expires_at": echo.of(&credential.secret_expires_at),
        "name": credential.name,
    })
}

/// How `secret_expires_at` is returned, which the vendor does not document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiryEcho {
    /// Byte for byte as sent.
    #[default]
    Verbatim,
    /// The same instant with milliseconds and an offset: `2027-11-29T01:59:59.000+02:00`.
    Offset,
}

impl ExpiryEcho {
    fn of(self, sent: &str) -> String {
        let instant = sent.parse::<Timestamp>();
        match (self, instant) {
            (Self::Offset, Ok(instant)) => {
                let there = jiff::tz::Offset::constant(2).to_datetime(instant);
                there.strftime("%Y-%m-%dT%H:%M:%S.000+02:00").to_string()
            }
            _ => sent.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_with_offset_is_the_same_instant_in_another_format() {
        let sent = "2027-11-28T23:59:59Z";
        let echoed = ExpiryEcho::Offset.of(sent);
        assert_eq!(echoed, "2027-11-29T01:59:59.000+02:00");
        assert_eq!(echoed.parse::<Timestamp>().ok(), sent.parse::<Timestamp>().ok());
        assert_eq!(ExpiryEcho::Verbatim.of(sent), sent);
    }
}
