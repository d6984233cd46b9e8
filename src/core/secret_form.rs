//! What people put into a Secret in place of a client secret. Only Microsoft decides whether a secret is right, so the
//! form is no more than a hint after a rejection.

use std::fmt;

use crate::api::{ClientId, TenantId, is_guid};

/// What a rejected client secret looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretForm {
    TenantId,
    ClientId,
    /// A GUID: usually the secret's ID, copied instead of its Value.
    SecretId,
    Sops,
    Placeholder,
    Json,
    Quoted,
    UrlEncoded,
    Base64,
}

type Recognizer = fn(&str) -> bool;

/// How each form is recognized, except for the IDs of the app. The first match counts.
const FORMS: [(SecretForm, Recognizer); 7] = [
    (SecretForm::SecretId, is_guid),
    (SecretForm::Sops, |text| text.starts_with("ENC[")),
    (SecretForm::Placeholder, is_placeholder),
    (SecretForm::Json, is_json),
    (SecretForm::Quoted, |text| ["\"", "'", "`"].iter().any(|quote| is_enclosed(text, quote, quote))),
    (SecretForm::UrlEncoded, is_url_encoded),
    (SecretForm::Base64, |text| {
        base64(text).is_some_and(|decoded| is_entra_secret(decoded.trim_ascii_end()))
    }),
];

/// Beginning and end of what a template should have replaced.
const TEMPLATES: [(&str, &str); 5] = [("<", ">"), ("${", "}"), ("$(", ")"), ("{{", "}}"), ("[[", "]]")];

/// Words that stand for a secret, without regard to case and punctuation.
const WORDS: [&str; 10] = [
    "changeme",
    "replaceme",
    "placeholder",
    "redacted",
    "todo",
    "secret",
    "clientsecret",
    "yoursecret",
    "yourclientsecret",
    "password",
];

/// What the text looks like; `None` if it may be a client secret.
pub fn recognize(text: &str, tenant: &TenantId, client: &ClientId) -> Option<SecretForm> {
    if text.eq_ignore_ascii_case(tenant.as_str()) {
        return Some(SecretForm::TenantId);
    }
    if text.eq_ignore_ascii_case(client.as_str()) {
        return Some(SecretForm::ClientId);
    }
    FORMS.iter().find(|(_, matches)| matches(text)).map(|(form, _)| *form)
}

/// Whether it looks like a JSON object, on one line or on several.
pub fn is_json(text: &str) -> bool {
    is_enclosed(text.trim(), "{", "}") && text.contains('"')
}

fn is_enclosed(text: &str, start: &str, end: &str) -> bool {
    text.len() > start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
}

fn is_placeholder(text: &str) -> bool {
    let is_variable = |name: &str| {
        name.len() > 1 && name.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
    };
    let letters = || text.bytes().filter(u8::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase());
    TEMPLATES.iter().any(|(start, end)| is_enclosed(text, start, end))
        || text.strip_prefix('$').is_some_and(is_variable)
        || WORDS.iter().any(|word| word.bytes().eq(letters()))
        || text.len() > 2 && text.bytes().all(|byte| matches!(byte, b'x' | b'X' | b'*' | b'.' | b'-'))
}

/// Whether it has the code of a character that nearly every client secret has, or that base64 has.
fn is_url_encoded(text: &str) -> bool {
    let codes: [&[u8]; 4] = [b"%7E", b"%2B", b"%2F", b"%3D"];
    text.as_bytes().windows(3).any(|part| codes.iter().any(|code| part.eq_ignore_ascii_case(code)))
}

/// Whether it has the form of the client secrets that Entra creates today. Source: the rules of secret scanners. Older
/// secrets have other forms.
fn is_entra_secret(text: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'~' | b'.' | b'-');
    (37..=44).contains(&text.len())
        && text.iter().all(is_allowed)
        && text.get(3).is_some_and(u8::is_ascii_digit)
        && text.get(4..6) == Some(b"Q~")
}

/// The decoded bytes, for both alphabets, with or without padding. About one client secret in twelve has no other
/// characters, so the result must be looked at.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut held, mut bits) = (Vec::with_capacity(text.len()), 0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        (held, bits) = (held << 6 | u32::from(value), bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

// === impl SecretForm ===

/// A sentence about the value, with what to do.
impl fmt::Display for SecretForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TenantId => "the value is the tenant ID: use the key that contains the client secret",
            Self::ClientId => "the value is the client ID: use the key that contains the client secret",
            Self::SecretId => {
                "the value looks like a secret's ID: put the secret's Value in its place (Entra shows it only once, so create a new secret)"
            }
            Self::Sops => "the value looks like text that SOPS encrypted: decrypt it before it is applied",
            Self::Placeholder => {
                "the value looks like a placeholder that was not replaced: check the template or tool that fills it in"
            }
            Self::Json => {
                "the value looks like JSON, such as the output of az ad sp create-for-rbac: use only the value of its password"
            }
            Self::Quoted => "the value is in quotation marks: remove them",
            Self::UrlEncoded => "the value looks URL-encoded (%7E is ~): use the decoded value",
            Self::Base64 => {
                "the value looks like a client secret in base64: use the decoded value (stringData, or data encoded once)"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
    const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";

    fn form(text: &str) -> Option<SecretForm> {
        recognize(text, &TENANT.parse().unwrap(), &CLIENT.parse().unwrap())
    }

    #[test]
    fn each_form_is_recognized() {
        for (expected, texts) in [
            (SecretForm::TenantId, &[TENANT, "BBFB2DB7-AAF4-4F7C-9DC2-2C9160D1CB32"][..]),
            (SecretForm::ClientId, &[CLIENT]),
            (SecretForm::SecretId, &["0f1a2b3c-4d5e-4f60-8a7b-9c0d1e2f3a4b"]),
            (SecretForm::Sops, &["ENC[AES256_GCM,data:p673w==,iv:YY=,tag:UQ==,type:str]"]),
            (
                SecretForm::Placeholder,
                &[
                    "<no value>",
                    "<your-client-secret>",
                    "${CLIENT_SECRET}",
                    "$(CLIENT_SECRET)",
                    "$CLIENT_SECRET",
                    "{{ .Values.clientSecret }}",
                    "changeme",
                    "CHANGE_ME",
                    "your-client-secret",
                    "xxxxxxxx",
                    "********",
                ],
            ),
            (
                SecretForm::Json,
                &["{\"appId\":\"e1c6ac69-480e-4a17-9b85-3467967bd179\",\"password\":\"Abc8Q~x\"}"],
            ),
            (SecretForm::Quoted, &["\"Abc8Q~x\"", "'Abc8Q~x'", "`Abc8Q~x`"]),
            (SecretForm::UrlEncoded, &["Abc8Q%7Exyz", "Abc8Q%7exyz", "a%2Bb"]),
            (
                SecretForm::Base64,
                &[
                    // Of `Abc8Q~abcdefghijklmnopqrstuvwxyz0123.-_`, without and with a line break.
                    "QWJjOFF+YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzLi1f",
                    "QWJjOFF-YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzLi1f",
                    "QWJjOFF+YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzLi1fCg==",
                ],
            ),
        ] {
            for text in texts {
                assert_eq!(form(text), Some(expected), "{text}");
            }
        }
    }

    #[test]
    fn a_possible_client_secret_has_no_form() {
        for text in [
            "Abc8Q~abcdefghijklmnopqrstuvwxyz0123.-_",
            "Abc8Q.abcdefghijklmnopqrstuvwxyz0123456789",
            // Base64 by alphabet.
            "dGhpcyBpcyBub3QgYSBjbGllbnQgc2VjcmV0IG9mIEVudHJh",
            "6gyXA5S20MNWRXAJITO7g1h2P8abcdefghij8Q",
            "[6gyXA5S20@MN+WRXAJ]I-TO7g1:h2P8",
            "50% of {it}",
            "$ecret",
            "a",
            "\"",
            "<",
            "",
        ] {
            assert_eq!(form(text), None, "{text}");
        }
    }
}
