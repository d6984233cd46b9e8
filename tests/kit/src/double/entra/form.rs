//! Parses the form of a token request as strictly as Microsoft does or has announced: ordinary form encoding,
//! no duplicate parameters, no trimming. Source:
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.

use super::assertion::Assertion;
use super::rejection::Cause;
use crate::double::SecretText;
use crate::double::http::Request;

/// The type of an assertion. Source: RFC 7523 §2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// The fields of a token request as far as they can be read, and the first error.
pub(crate) struct Form {
    pub(crate) client: String,
    pub(crate) scope: String,
    pub(crate) secret: SecretText,
    /// `client_assertion`, if it is a JWT.
    pub(crate) assertion: Option<Assertion>,
    pub(crate) error: Option<Cause>,
}

impl Form {
    pub(crate) fn read(request: &Request, accepted_scope: &str) -> Self {
        let mut parameters: Vec<(String, String)> = Vec::new();
        let mut error = None;
        if !request.has_content_type(CONTENT_TYPE) {
            error = Some(Cause::MissingParameter("grant_type"));
        } else if !is_form(&request.body) {
            error = Some(Cause::Malformed);
        } else {
            for (name, value) in form_urlencoded::parse(&request.body) {
                if parameters.iter().any(|(known, _)| *known == name) {
                    error = Some(Cause::Malformed);
                }
                parameters.push((name.into_owned(), value.into_owned()));
            }
        }
        let value = |name: &str| {
            let mut found = parameters.iter().filter(|(key, _)| key == name);
            found.next().map_or("", |(_, value)| value.as_str())
        };
        let error = error.or_else(|| first_error(value, accepted_scope));
        Self {
            client: value("client_id").to_owned(),
            scope: value("scope").to_owned(),
            secret: SecretText::new(value("client_secret")),
            assertion: Assertion::read(value("client_assertion")),
            error,
        }
    }
}

fn first_error<'a>(value: impl Fn(&str) -> &'a str, accepted_scope: &str) -> Option<Cause> {
    for required in ["grant_type", "client_id", "scope"] {
        if value(required).is_empty() {
            return Some(Cause::MissingParameter(required));
        }
    }
    if value("grant_type") != "client_credentials" {
        return Some(Cause::WrongGrant);
    }
    if value("scope") != accepted_scope {
        return Some(Cause::WrongScope);
    }
    let (secret, assertion) = (value("client_secret"), value("client_assertion"));
    match (secret.is_empty(), assertion.is_empty()) {
        (false, true) => None,
        (true, false) if value("client_assertion_type") != ASSERTION_TYPE => {
            Some(Cause::MissingParameter("client_assertion_type"))
        }
        (true, false) => Assertion::read(assertion).is_none().then_some(Cause::InvalidAssertion),
        (true, true) => Some(Cause::MissingSecret),
        (false, false) => Some(Cause::Malformed),
    }
}

/// Visible ASCII with complete percent escapes, because `form_urlencoded` would guess the rest. An unencoded
/// `+` is a space, as everywhere, and makes a wrong secret.
fn is_form(body: &[u8]) -> bool {
    let mut rest = body.iter();
    while let Some(byte) = rest.next() {
        let good = match byte {
            b'%' => {
                let mut digit = || rest.next().is_some_and(u8::is_ascii_hexdigit);
                digit() && digit()
            }
            other => other.is_ascii_graphic(),
        };
        if !good {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAPH: &str = "https://graph.microsoft.com/.default";
    const GOOD: &str = "grant_type=client_credentials&client_id=c&client_secret=a%2Bb%20c%22%0A&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default";

    fn read_as(content_type: &str, body: &str) -> Form {
        let request = Request {
            method: "POST".to_owned(),
            path: "/t/oauth2/v2.0/token".to_owned(),
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.to_owned().into(),
        };
        Form::read(&request, GRAPH)
    }

    fn error(body: &str) -> Option<Cause> {
        read_as(CONTENT_TYPE, body).error
    }

    #[test]
    fn a_good_form_is_decoded_once_and_nothing_is_trimmed() {
        let form = read_as("application/x-www-form-urlencoded; charset=utf-8", GOOD);
        assert_eq!(form.error, None);
        assert_eq!((form.client.as_str(), form.scope.as_str()), ("c", GRAPH));
        assert!(form.secret.is("a+b c\"\n"));
    }

    #[test]
    fn other_content_types_are_not_parsed() {
        let form = read_as("application/json", GOOD);
        assert_eq!(form.error, Some(Cause::MissingParameter("grant_type")));
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        let without = |part: &str| error(&GOOD.replace(part, "x=y"));
        assert_eq!(without("client_id=c"), Some(Cause::MissingParameter("client_id")));
        assert_eq!(without("client_secret=a%2Bb%20c%22%0A"), Some(Cause::MissingSecret));
        assert_eq!(error(&GOOD.replace("=client_credentials", "=password")), Some(Cause::WrongGrant));
        assert_eq!(error(&GOOD.replace(".default", "Mail.Send")), Some(Cause::WrongScope));
        assert_eq!(error(&format!("{GOOD}&client_id=c")), Some(Cause::Malformed));
        assert_eq!(error(&GOOD.replace("%20", " ")), Some(Cause::Malformed));
        assert_eq!(error(&GOOD.replace("%0A", "%0")), Some(Cause::Malformed));
    }
}
