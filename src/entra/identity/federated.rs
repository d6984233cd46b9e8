//! Tokens of the operator's ServiceAccount, from files that the kubelet renews.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::api::Cloud;
use crate::api::conditions::Reason;
use crate::config::FederatedTokenSettings;
use crate::core::model::ConditionFailure;
use crate::core::sign_in::{FederatedClaims, audience};
use crate::entra::cloud::authority_of;
use crate::secret_text::SecretText;

/// Longest file that is read, in bytes. A token has about a thousand.
const MAX_LENGTH: u64 = 64 << 10;

/// Longest claim that a message shows, in characters.
const MAX_CLAIM: usize = 256;

/// The files with the tokens, one for each audience.
#[derive(Clone, Debug, Default)]
pub struct FederatedTokens {
    folder: Option<PathBuf>,
    /// A file for the clouds of one audience, which takes precedence.
    own: Option<(&'static str, PathBuf)>,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    iss: String,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    aud: Audiences,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

// === impl FederatedTokens ===

impl FederatedTokens {
    pub fn new(settings: &FederatedTokenSettings) -> Self {
        let file = settings.azure_federated_token_file.clone();
        // As Azure workload identity and people write it: with or without the scheme and the last slash.
        let host = settings.azure_authority_host.as_deref().unwrap_or_default().trim().trim_end_matches('/');
        let host = match host {
            "" => None,
            host if host.contains("://") => Some(host.to_owned()),
            host => Some(format!("https://{host}")),
        };
        let clouds = [Cloud::Global, Cloud::USGovernment, Cloud::China];
        let cloud = match host {
            None => Some(Cloud::Global),
            Some(host) => clouds.into_iter().find(|cloud| is_authority(&host, *cloud)),
        };
        Self { folder: settings.federated_token_dir.clone(), own: cloud.map(audience).zip(file) }
    }

    /// The token for sign-ins in that cloud, as the file has it now.
    pub(super) fn read(&self, cloud: Cloud) -> Result<SecretText, ConditionFailure> {
        let unusable = |message| ConditionFailure { reason: Reason::TokenFileUnusable, message };
        let Some(path) = self.path(cloud) else {
            return Err(unusable(format!(
                "no ServiceAccount token with the audience {} is mounted: set entraIdentities.enabled in the chart, or use Azure workload identity",
                audience(cloud)
            )));
        };
        let shown = path.display();
        let text = read(&path).map_err(|error| {
            unusable(format!(
                "failed to read the ServiceAccount token {shown} ({}): check that the volume with the audience {} is mounted",
                error.kind(),
                audience(cloud)
            ))
        })?;
        let token = text.trim();
        if token.split('.').count() != 3 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable(format!(
                "file {shown} contains no ServiceAccount token: check what is mounted there"
            )));
        }
        Ok(SecretText::new(token.to_owned()))
    }

    /// The file for a cloud.
    fn path(&self, cloud: Cloud) -> Option<PathBuf> {
        let own = self.own.as_ref().filter(|(of, _)| *of == audience(cloud)).map(|(_, path)| path.clone());
        own.or_else(|| Some(self.folder.as_ref()?.join(file_name(cloud))))
    }
}

/// The name of the file in the folder of tokens. The chart mounts the same names.
fn file_name(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Global => "global",
        Cloud::USGovernment | Cloud::USGovernmentDoD => "us-government",
        Cloud::China => "china",
    }
}

/// Whether a base URL is the authority of a cloud. China's has two names.
fn is_authority(host: &str, cloud: Cloud) -> bool {
    host == authority_of(cloud) || cloud == Cloud::China && host == "https://login.chinacloudapi.cn"
}

fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(path)?.take(MAX_LENGTH).read_to_string(&mut text)?;
    Ok(text)
}

/// The claims of a token, for messages: what they are must be entered at Entra. Empty where they cannot be read.
pub(super) fn claims(token: &SecretText) -> FederatedClaims {
    let read = || {
        let payload = token.expose().split('.').nth(1)?;
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
        serde_json::from_slice::<Claims>(&json).ok()
    };
    let Some(Claims { iss, sub, aud }) = read() else { return FederatedClaims::default() };
    let audience = match aud {
        Audiences::One(one) => one,
        Audiences::Several(several) => several.join(", "),
    };
    let shown = |claim: String| claim.chars().filter(|it| !it.is_control()).take(MAX_CLAIM).collect();
    FederatedClaims { issuer: shown(iss), subject: shown(sub), audience: shown(audience) }
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn each_audience_has_its_file_and_the_one_of_azure_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["global", "us-government", "azure"] {
            std::fs::write(folder.path().join(name), format!(" {}\n", token(name))).unwrap();
        }
        let mut settings = FederatedTokenSettings {
            federated_token_dir: Some(folder.path().to_owned()),
            ..FederatedTokenSettings::default()
        };
        let read = |settings: &FederatedTokenSettings, cloud| {
            let read = FederatedTokens::new(settings).read(cloud);
            read.map(|token| token.expose().to_owned()).map_err(|problem| problem.message)
        };
        assert_eq!(read(&settings, Cloud::Global), Ok(token("global")));
        assert_eq!(read(&settings, Cloud::USGovernmentDoD), Ok(token("us-government")));
        assert!(
            read(&settings, Cloud::China)
                .is_err_and(|message| message.contains("api://AzureADTokenExchangeChina"))
        );
        settings.azure_federated_token_file = Some(folder.path().join("azure"));
        assert_eq!(read(&settings, Cloud::Global), Ok(token("azure")));
        assert_eq!(read(&settings, Cloud::USGovernment), Ok(token("us-government")));
        settings.azure_authority_host = Some("https://login.microsoftonline.us/".into());
        assert_eq!(read(&settings, Cloud::Global), Ok(token("global")));
        assert_eq!(read(&settings, Cloud::USGovernment), Ok(token("azure")));
        settings.azure_authority_host = Some("login.microsoftonline.us".into());
        assert_eq!(read(&settings, Cloud::USGovernment), Ok(token("azure")));
        settings.azure_authority_host = Some(String::new());
        assert_eq!(read(&settings, Cloud::Global), Ok(token("azure")));
        let none = FederatedTokenSettings::default();
        assert!(read(&none, Cloud::Global).is_err_and(|message| message.contains("entraIdentities.enabled")));
    }

    #[test]
    fn a_file_is_read_again_each_time_and_must_hold_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("global");
        let tokens = FederatedTokens { folder: Some(folder.path().to_owned()), own: None };
        for (content, is_usable) in
            [(token("1"), true), (token("2"), true), (String::new(), false), ("not a token".into(), false)]
        {
            std::fs::write(&file, &content).unwrap();
            let read = tokens.read(Cloud::Global).map(|token| token.expose().to_owned());
            assert_eq!(read.ok(), is_usable.then_some(content));
        }
    }

    #[test]
    fn claims_are_shown_as_far_as_they_can_be_read() {
        let text =
            token(r#"{"iss": "https://i/", "sub": "system:serviceaccount:a:b", "aud": ["x"], "exp": 1}"#);
        let shown = claims(&SecretText::new(text));
        assert_eq!((shown.issuer.as_str(), shown.audience.as_str()), ("https://i/", "x"));
        assert_eq!(shown.subject, "system:serviceaccount:a:b");
        assert_eq!(claims(&SecretText::new("a.b.c".into())), FederatedClaims::default());
    }
}
