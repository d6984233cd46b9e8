//! The roles in an access token, as far as it can be read.
//!
//! A token is opaque to its client by contract and is read here for advice only, without checking its
//! signature. Source: Microsoft, "Access tokens in the Microsoft identity platform".

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
const MOST_ROLES: usize = 1024;

/// Longest name of a role, as `spec.verification.requiredRoles` has it; Entra allows 120.
const LONGEST_ROLE: usize = 128;

/// Application roles of the token, sorted, as far as they can be names of roles: they are shown to people, and what
/// answers need not be Microsoft. Nothing where the token cannot be read.
pub(super) fn roles(token: &str) -> Option<Vec<String>> {
    let payload = token.split('.').nth(1)?;
    let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    let mut roles = serde_json::from_slice::<Claims>(&json).ok()?.roles;
    roles.retain(|role| is_role(role));
    roles.sort_unstable();
    roles.dedup();
    roles.truncate(MOST_ROLES);
    Some(roles)
}

/// Letters, digits and marks of ASCII. Source: Microsoft, "Add app roles to your application", field Value.
fn is_role(text: &str) -> bool {
    (1..=LONGEST_ROLE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
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
    fn what_is_no_name_of_a_role_is_left_out() {
        let long = "x".repeat(129);
        let odd = ["Mail.Send", "", "a\u{1b}[31m", "a\nb", "a\u{202e}b", "a\u{200b}b", &long, "Mail Send"];
        let payload = serde_json::json!({"roles": odd}).to_string();
        assert_eq!(roles(&token(&payload)), Some(vec!["Mail.Send".to_owned()]));
    }

    #[test]
    fn of_more_roles_than_a_status_should_hold_the_first_are_kept() {
        let many: Vec<String> = (0..2000).map(|number| format!("Role.{number:04}")).collect();
        let payload = serde_json::json!({"roles": many}).to_string();
        let kept = roles(&token(&payload)).unwrap();
        assert_eq!((kept.len(), kept.last().map(String::as_str)), (MOST_ROLES, Some("Role.1023")));
    }

    #[test]
    fn a_token_without_roles_has_none_and_an_opaque_one_tells_nothing() {
        assert_eq!(roles(&token("{}")), Some(vec![]));
        for opaque in ["", "opaque", "a.b.c", "e30.!!.x"] {
            assert_eq!(roles(opaque), None, "{opaque:?}");
        }
    }
}
