//! Responses of Microsoft Graph, read as far as possible.
//!
//! Source: Microsoft Graph, "passwordCredential resource type". Every field may be null or missing, dates have up to seven
//! digits of a second.

use jiff::Timestamp;
use serde::Deserialize;

use crate::api::conditions::whole_second;
use crate::api::{TenantId, timestamp};
use crate::core::app_secrets::{AppSecret, Hint};
use crate::core::lenient::{Lenient, readable};

/// Longest text of an entry that is kept.
const MAX_TEXT: usize = 256;

/// An application or a service principal.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AppBody {
    #[serde(deserialize_with = "readable")]
    app_owner_organization_id: Option<String>,
    #[serde(deserialize_with = "readable")]
    sign_in_audience: Option<String>,
    #[serde(deserialize_with = "readable")]
    password_credentials: Option<Vec<Lenient<EntryBody>>>,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
struct ListBody {
    value: Vec<AppBody>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct EntryBody {
    #[serde(deserialize_with = "readable")]
    key_id: Option<String>,
    #[serde(deserialize_with = "readable")]
    display_name: Option<String>,
    #[serde(deserialize_with = "readable")]
    hint: Option<String>,
    #[serde(deserialize_with = "readable")]
    start_date_time: Option<String>,
    #[serde(deserialize_with = "readable")]
    end_date_time: Option<String>,
}

/// The client secrets of an application or of a service principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSecrets {
    pub secrets: Vec<AppSecret>,
    /// The tenant of the application, for a service principal.
    pub home_tenant: Option<TenantId>,
    /// Whether the application has room for two client secrets only, because personal accounts may use it.
    pub is_limited_to_two: bool,
}

/// Reads the body of an application or a service principal; `None` if it does not list its secrets.
pub(super) fn read_app(json: &[u8]) -> Option<AppSecrets> {
    AppSecrets::of(serde_json::from_slice(json).ok()?)
}

/// Reads a list of applications: at most one, because it is of one client ID. `None` if it cannot be read.
pub(super) fn read_list(json: &[u8]) -> Option<Vec<AppSecrets>> {
    let list: ListBody = serde_json::from_slice(json).ok()?;
    list.value.into_iter().map(AppSecrets::of).collect()
}

/// ID and expiry of each secret in a body, for `fuzz/`; `None` if it cannot be read.
pub fn read_holding(json: &[u8]) -> Option<Vec<(Option<String>, Option<Timestamp>)>> {
    let app = read_app(json).or_else(|| read_list(json)?.pop())?;
    Some(app.secrets.into_iter().map(|secret| (secret.key_id, secret.expires_at)).collect())
}

// === impl AppSecrets ===

impl AppSecrets {
    /// A body without the list says nothing: it must not look as if all secrets had been removed.
    fn of(body: AppBody) -> Option<Self> {
        let entries = body.password_credentials?;
        let audience = body.sign_in_audience.unwrap_or_default();
        let home_tenant = body.app_owner_organization_id.and_then(|id| id.parse().ok());
        // An entry that cannot be read may be any secret.
        let secrets = entries.into_iter().map(|entry| entry.value().unwrap_or_default().into()).collect();
        Some(Self { secrets, home_tenant, is_limited_to_two: audience.contains("Personal") })
    }
}

// === impl EntryBody ===

impl std::fmt::Debug for EntryBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryBody").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl From<EntryBody> for AppSecret {
    fn from(entry: EntryBody) -> Self {
        let short = |text: &String| text.len() <= MAX_TEXT;
        Self {
            key_id: entry.key_id.filter(short).map(|id| id.to_ascii_lowercase()),
            display_name: entry.display_name.filter(short),
            hint: entry.hint.filter(short).filter(|hint| !hint.is_empty()).map(Hint::new),
            starts_at: entry.start_date_time.as_deref().and_then(date),
            expires_at: entry.end_date_time.as_deref().and_then(date),
        }
    }
}

/// A date in whole seconds, because Woodpecker's samples have no fraction.
fn date(text: &str) -> Option<Timestamp> {
    timestamp::parse(text).map(whole_second)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app(body: &serde_json::Value) -> Option<AppSecrets> {
        read_app(body.to_string().as_bytes())
    }

    #[test]
    fn dates_have_any_number_of_digits_and_ids_one_spelling() {
        let body = json!({
            "@odata.context": "x", "id": "o", "appId": "a", "displayName": "Display name",
            "passwordCredentials": [
                {"customKeyIdentifier": null, "displayName": "one", "endDateTime": "2027-03-08T00:42:06Z", "hint": "1Zx",
                 "keyId": "670007DE-a1b2-c3d4-e5f6-789012345678", "secretText": null, "startDateTime": "2025-03-08T00:42:06Z"},
                {"endDateTime": "2021-12-16T19:19:36.997Z", "hint": "7~-", "keyId": "9f92041c", "later": {"x": 1}},
                {"displayName": null, "endDateTime": "2022-03-07T15:04:11.0580414Z", "hint": null, "keyId": "7aa974b3"}
            ]
        });
        let read = app(&body).unwrap().secrets;
        assert_eq!(read[0].key_id.as_deref(), Some("670007de-a1b2-c3d4-e5f6-789012345678"));
        assert_eq!(read[0].hint, Some(Hint::of("1Zxrest")));
        let ends: Vec<String> = read.iter().filter_map(|it| it.expires_at).map(|it| it.to_string()).collect();
        assert_eq!(ends, ["2027-03-08T00:42:06Z", "2021-12-16T19:19:36Z", "2022-03-07T15:04:11Z"]);
        assert_eq!((&read[2].hint, read[2].starts_at), (&None, None));
    }

    #[test]
    fn what_cannot_be_read_is_neither_an_empty_list_nor_a_missing_entry() {
        for odd in
            [json!({}), json!({"passwordCredentials": null}), json!({"passwordCredentials": "x"}), json!([])]
        {
            assert_eq!(app(&odd), None, "{odd}");
        }
        let read = app(&json!({"passwordCredentials": [7, {"hint": 7, "endDateTime": "soon"}]})).unwrap();
        assert_eq!(read.secrets.len(), 2);
        assert!(read.secrets.iter().all(|entry| entry.expires_at.is_none() && entry.hint.is_none()));
        assert_eq!(app(&json!({"passwordCredentials": []})).unwrap().secrets, []);
    }

    #[test]
    fn a_list_may_be_empty_and_a_service_principal_names_the_home_tenant() {
        assert_eq!(read_list(br#"{"value": []}"#), Some(Vec::new()));
        assert_eq!(read_list(br#"{"value": 7}"#), None);
        assert_eq!(read_list(br#"{"value": [{}]}"#), None);
        let home = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
        let body = json!({"appOwnerOrganizationId": home.to_uppercase(), "passwordCredentials": []});
        assert_eq!(app(&body).unwrap().home_tenant.unwrap().as_str(), home);
    }
}
