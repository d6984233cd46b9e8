//! An access token in the format of Entra's: three base64url parts with the claims of an app-only token. The
//! signature is the same in all of them, so that a leak test can search for it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::rejection::new_id;

/// The signature part of every token of the double. A text that contains it contains a token.
pub const TOKEN_SIGNATURE: &str = "a2l0LXRva2VuLXNpZ25hdHVyZS1ub3QtYS1yZWFsLW9uZQ";

/// Seconds until a token expires, by default.
pub(crate) const LIFETIME: i64 = 3599;

/// The body of a 200 response. `roles` is absent if there are none, as at Microsoft.
pub(crate) fn response(tenant: &str, client: &str, scope: &str, roles: &[String], lifetime: i64) -> Value {
    json!({
        "token_type": "Bearer",
        "expires_in": lifetime,
        "ext_expires_in": lifetime,
        "access_token": token(tenant, client, scope, roles),
    })
}

fn token(tenant: &str, client: &str, scope: &str, roles: &[String]) -> String {
    let now = Timestamp::now().as_second();
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": "kit" });
    let mut claims = json!({
        "aud": scope.strip_suffix("/.default").unwrap_or(scope),
        "iss": format!("https://sts.windows.net/{tenant}/"),
        "iat": now,
        "nbf": now,
        "exp": now + LIFETIME,
        "appid": client,
        "appidacr": "1",
        "idtyp": "app",
        "tid": tenant,
        "uti": new_id(),
        "ver": "1.0",
    });
    if !roles.is_empty() {
        claims["roles"] = json!(roles);
    }
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{TOKEN_SIGNATURE}", part(header), part(claims))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(roles: &[&str]) -> Value {
        let roles: Vec<String> = roles.iter().copied().map(str::to_owned).collect();
        let token = token("t", "c", "https://graph.microsoft.com/.default", &roles);
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts[2], TOKEN_SIGNATURE);
        let decoded = URL_SAFE_NO_PAD.decode(parts[1]).expect("base64url");
        serde_json::from_slice(&decoded).expect("JSON")
    }

    #[test]
    fn a_token_names_tenant_app_audience_and_roles() {
        let claims = claims(&["Mail.Send"]);
        assert_eq!(claims["tid"], "t");
        assert_eq!(claims["appid"], "c");
        assert_eq!(claims["idtyp"], "app");
        assert_eq!(claims["aud"], "https://graph.microsoft.com");
        assert_eq!(claims["roles"], json!(["Mail.Send"]));
    }

    #[test]
    fn a_token_without_roles_has_no_roles_claim() {
        assert_eq!(claims(&[]).get("roles"), None);
    }
}
