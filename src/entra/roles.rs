//! The roles in an access token, if it can be read.
//!
//! A token is opaque to its client by contract. The operator reads it for advice only, without checking its signature.
//! Source: Microsoft, "Access tokens in the Microsoft identity platform".

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    roles: Vec<String>,
}

/// Most roles that are kept. Graph has some hundreds.
const MAX_ROLES: usize = 1024;

/// Longest name of a role, as in `spec.verification.requiredRoles`; Entra allows 120.
const MAX_ROLE_LENGTH: usize = 128;

/// The application roles of a token, sorted; `None` if it cannot be read. Invalid names are left out, because roles are
/// shown to people, and the endpoint may not be Microsoft.
pub(super) fn roles(token: &str) -> Option<Vec<String>> {
    let payload = token.split('.').nth(1)?;
    let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    let mut roles = serde_json::from_slice::<Claims>(&json).ok()?.roles;
    roles.retain(|role| is_role(role));
    roles.sort_unstable();
    roles.dedup();
    roles.truncate(MAX_ROLES);
    Some(roles)
}

/// ASCII letters, digits and punctuation. Source: Microsoft, "Add app roles to your application", field Value.
fn is_role(text: &str) -> bool {
    (1..=MAX_ROLE_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn roles_are_sorted() {
        let read = roles(&token(r#"{"roles":["Mail.Send","Mail.Read","Mail.Send"],"tid":"x"}"#));
        assert_eq!(read, Some(vec!["Mail.Read".into(), "Mail.Send".into()]));
    }

    #[test]
    fn invalid_names_of_roles_are_left_out() {
        let long = "x".repeat(129);
        let odd = ["Mail.Send", "", "a\u{1b}[31m", "a\nb", "a\u{202e}b", "a\u{200b}b", &long, "Mail Send"];
        let payload = serde_json::json!({"roles": odd}).to_string();
        assert_eq!(roles(&token(&payload)), Some(vec!["Mail.Send".to_owned()]));
    }

    #[test]
    fn the_first_roles_are_kept_if_there_are_too_many() {
        let many: Vec<String> = (0..2000).map(|number| format!("Role.{number:04}")).collect();
        let payload = serde_json::json!({"roles": many}).to_string();
        let kept = roles(&token(&payload)).unwrap();
        assert_eq!((kept.len(), kept.last().map(String::as_str)), (MAX_ROLES, Some("Role.1023")));
    }

    #[test]
    fn a_token_without_roles_has_none_and_an_opaque_one_is_unreadable() {
        assert_eq!(roles(&token("{}")), Some(vec![]));
        for opaque in ["", "opaque", "a.b.c", "e30.!!.x"] {
            assert_eq!(roles(opaque), None, "{opaque:?}");
        }
    }
}
