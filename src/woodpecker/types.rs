//! Request and response bodies. Source: the vendor's pages on create, list and update of Microsoft credentials.

use crate::api::timestamp::rfc3339;
use crate::core::remote::{Entry, MAX_LENGTH};
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use crate::api::{ClientId, TenantId};
use crate::secret_text::SecretText;

/// A credential as Woodpecker returns it, which never includes the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    #[serde(rename = "credential_id")]
    pub id: i64,
    /// Tenant of the app, as Woodpecker has it.
    pub tenant_id: String,
    /// Client id of the app, as Woodpecker has it.
    pub client_id: String,
    /// When its secret expires, as Woodpecker writes it.
    #[serde(default)]
    pub secret_expires_at: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct CredentialList {
    pub credentials: Vec<Credential>,
}

#[derive(Clone, Copy, Debug)]
pub struct NewCredential<'a> {
    pub tenant: &'a TenantId,
    pub client: &'a ClientId,
    pub secret: SecretUpdate<'a>,
    pub name: &'a str,
}

/// A secret and its expiry, which the API takes only together.
#[derive(Clone, Copy, Debug)]
pub struct SecretUpdate<'a> {
    pub secret: &'a SecretText,
    pub expires_at: Timestamp,
}

#[derive(Deserialize)]
struct ListBody {
    /// Missing if something other than this endpoint answered: an empty account has an empty array.
    credentials: Option<Vec<ListedCredential>>,
}

/// A credential in a listing. Only its id must have the known form.
#[derive(Deserialize)]
struct ListedCredential {
    #[serde(rename = "credential_id")]
    id: i64,
    #[serde(default, deserialize_with = "readable_text")]
    tenant_id: Option<String>,
    #[serde(default, deserialize_with = "readable_text")]
    client_id: Option<String>,
    #[serde(default, deserialize_with = "readable_text")]
    secret_expires_at: Option<String>,
    #[serde(default, deserialize_with = "readable_text")]
    name: Option<String>,
}

/// A text, or `None` for any other value.
fn readable_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Field {
        Text(String),
        Other(IgnoredAny),
    }
    Ok(match Field::deserialize(deserializer)? {
        Field::Text(text) => Some(text),
        Field::Other(_) => None,
    })
}

#[derive(Serialize)]
struct WriteBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

/// Reads a listing; `None` if it has no `credentials` array or an entry has no id. A partial listing would hide a
/// credential, and the operator would create it again. For the same reason an entry whose app cannot be read is kept.
pub fn read_listing(body: &[u8]) -> Option<Vec<Entry>> {
    let credentials = serde_json::from_slice::<ListBody>(body).ok()?.credentials?;
    let is_valid = credentials.iter().all(|credential| credential.id > 0);
    is_valid.then(|| credentials.into_iter().map(Entry::from).collect())
}

/// Reads one credential; `None` if the body is not one.
pub(super) fn read_credential(body: &[u8]) -> Option<Credential> {
    serde_json::from_slice::<Credential>(body).ok().filter(|credential| credential.id > 0)
}

pub(super) fn create_body(new: &NewCredential<'_>) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    write(&WriteBody {
        tenant_id: Some(new.tenant.as_str()),
        client_id: Some(new.client.as_str()),
        client_secret: Some(new.secret.secret.expose()),
        secret_expires_at: Some(rfc3339(new.secret.expires_at)),
        name: Some(new.name),
    })
}

/// The body of an update: a secret with its expiry, a name, or all three.
pub(super) fn update_body(
    secret: Option<SecretUpdate<'_>>,
    name: Option<&str>,
) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    write(&WriteBody {
        tenant_id: None,
        client_id: None,
        client_secret: secret.map(|update| update.secret.expose()),
        secret_expires_at: secret.map(|update| rfc3339(update.expires_at)),
        name,
    })
}

impl From<Credential> for Entry {
    fn from(credential: Credential) -> Self {
        let Credential { id, tenant_id, client_id, secret_expires_at, name } = credential;
        let (tenant_id, client_id) = (Some(tenant_id), Some(client_id));
        ListedCredential { id, tenant_id, client_id, secret_expires_at, name }.into()
    }
}

impl From<ListedCredential> for Entry {
    fn from(listed: ListedCredential) -> Self {
        let id_of = |text: Option<String>| text.unwrap_or_default().trim().to_ascii_lowercase();
        Self {
            id: listed.id,
            tenant: bounded(id_of(listed.tenant_id)),
            client: bounded(id_of(listed.client_id)),
            name: bounded(listed.name.unwrap_or_default()),
            expires_at: listed.secret_expires_at.and_then(|text| text.trim().parse().ok()),
        }
    }
}

fn write(body: &WriteBody<'_>) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    serde_json::to_vec(body).map(Zeroizing::new)
}

/// A text of any length, cut after [`MAX_LENGTH`] characters.
fn bounded(mut name: String) -> String {
    if let Some((end, _)) = name.char_indices().nth(MAX_LENGTH) {
        name.truncate(end);
        name.shrink_to_fit();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_create_is_written_as_the_vendor_shows_it() {
        let secret = SecretText::new("your-client-secret".into());
        let tenant = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
        let client = "e1c6ac69-480e-4a17-9b85-3467967bd179".parse().unwrap();
        let expires_at = "2027-11-29T00:59:59.5+01:00".parse().unwrap();
        let secret = SecretUpdate { secret: &secret, expires_at };
        let body =
            create_body(&NewCredential { tenant: &tenant, client: &client, secret, name: "MS Graph app" })
                .unwrap();
        let expected = serde_json::json!({
            "tenant_id": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
            "client_id": "e1c6ac69-480e-4a17-9b85-3467967bd179",
            "client_secret": "your-client-secret",
            "secret_expires_at": "2027-11-28T23:59:59Z",
            "name": "MS Graph app"
        });
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), expected);
    }

    #[test]
    fn a_text_of_any_length_is_cut_at_a_character() {
        let credential = Credential {
            id: 1,
            tenant_id: "t".repeat(5000),
            client_id: "c".into(),
            secret_expires_at: None,
            name: Some("\u{e4}".repeat(5000)),
        };
        let entry = Entry::from(credential);
        assert_eq!(entry.name, "\u{e4}".repeat(MAX_LENGTH));
        assert_eq!((entry.tenant.len(), entry.client.as_str()), (MAX_LENGTH, "c"));
    }

    #[test]
    fn a_rename_sends_the_name_alone() {
        assert_eq!(update_body(None, Some("x")).unwrap().as_slice(), br#"{"name":"x"}"#);
    }

    #[test]
    fn an_entry_with_an_odd_field_is_kept_by_its_id() {
        let body = br#"{"credentials":[
            {"credential_id":1,"tenant_id":null,"client_id":"c","name":"x"},
            {"credential_id":2,"client_id":["c"],"secret_expires_at":7},
            {"credential_id":3,"tenant_id":"T","client_id":"c","name":{"a":1},"secret_expires_at":"later"}
        ]}"#;
        let entries = read_listing(body).unwrap();
        let shown: Vec<(i64, bool)> = entries.iter().map(|entry| (entry.id, entry.is_opaque())).collect();
        assert_eq!(shown, [(1, true), (2, true), (3, false)]);
        assert_eq!((entries[2].tenant.as_str(), entries[2].name.as_str()), ("t", ""));
    }

    #[test]
    fn a_listing_without_its_array_is_malformed_and_never_empty() {
        for body in [
            "{}",
            "[]",
            "null",
            "",
            "<html>",
            r#"{"credentials":null}"#,
            r#"{"status":{"status":"ERROR"}}"#,
            r#"{"credentials":[{"tenant_id":"t","client_id":"c"}]}"#,
            r#"{"credentials":[{"credential_id":"1","tenant_id":"t","client_id":"c"}]}"#,
            r#"{"credentials":[7]}"#,
            r#"{"credentials":[{"credential_id":0,"tenant_id":"t","client_id":"c"}]}"#,
        ] {
            assert_eq!(read_listing(body.as_bytes()), None, "{body}");
        }
        assert_eq!(read_listing(br#"{"credentials":[],"new":1}"#), Some(vec![]));
    }
}
