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

/// Application roles of the token, sorted; nothing where it cannot be read.
pub(super) fn roles(token: &str) -> Option<Vec<String>> {
    let payload = token.split('.').nth(1)?;
    let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    let mut roles = serde_json::from_slice::<Claims>(&json).ok()?.roles;
    roles.sort_unstable();
    roles.dedup();
    Some(roles)
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
    fn a_token_without_roles_has_none_and_an_opaque_one_tells_nothing() {
        assert_eq!(roles(&token("{}")), Some(vec![]));
        for opaque in ["", "opaque", "a.b.c", "e30.!!.x"] {
            assert_eq!(roles(opaque), None, "{opaque:?}");
        }
    }
}
