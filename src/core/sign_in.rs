//! Why an `EntraIdentity` cannot sign in: the diagnosis of an error response of the token endpoint for the identity
//! itself, and the message with what to do.

use crate::api::conditions::Reason;
use crate::api::{ClientId, Cloud, TenantId};
use crate::core::diagnosis::{Diagnosis, ErrorBody, Rejection, code_text, diagnose};

/// How the identity authenticates as its app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    FederatedToken,
    Certificate,
    ClientSecret,
}

/// One sign-in of an identity.
#[derive(Clone, Copy, Debug)]
pub struct SignIn<'a> {
    pub method: AuthMethod,
    pub cloud: Cloud,
    pub client: &'a ClientId,
    pub home_tenant: &'a TenantId,
    /// The tenant in which the token is valid.
    pub tenant: &'a TenantId,
    /// The claims of the ServiceAccount token, if that is what was sent.
    pub federated: Option<&'a FederatedClaims>,
}

/// The claims of a ServiceAccount token that a federated credential must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FederatedClaims {
    pub issuer: String,
    pub subject: String,
    pub audience: String,
}

/// The application roles with which apps can be read; any of them is enough. Source: Microsoft, "Get application".
const READ_ROLES: [&str; 3] =
    ["Application.Read.All", "Application.ReadWrite.OwnedBy", "Application.ReadWrite.All"];

/// Whether a token with these roles can read apps. A token whose roles cannot be read counts, because a response of
/// Graph will show it.
pub fn can_read_apps(roles: Option<&[String]>) -> bool {
    roles.is_none_or(|roles| roles.iter().any(|role| READ_ROLES.contains(&role.as_str())))
}

/// The audience that Entra expects in a ServiceAccount token. Source: Microsoft, "Workload identity federation", and
/// MSAL for the national clouds.
pub fn audience(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Global => "api://AzureADTokenExchange",
        Cloud::USGovernment | Cloud::USGovernmentDoD => "api://AzureADTokenExchangeUSGov",
        Cloud::China => "api://AzureADTokenExchangeChina",
    }
}

/// The diagnosis of an error response to a sign-in.
pub(crate) fn diagnose_sign_in(status: u16, body: Option<&ErrorBody>, sign_in: &SignIn<'_>) -> Diagnosis {
    match diagnose(status, body) {
        Diagnosis::Rejected(rejection) => Diagnosis::Rejected(refined(&rejection, sign_in)),
        other @ (Diagnosis::Throttled | Diagnosis::Unavailable) => other,
    }
}

/// The rejection in terms of the identity: what was sent, and to which tenant.
fn refined(rejection: &Rejection, sign_in: &SignIn<'_>) -> Rejection {
    let is_home = sign_in.tenant == sign_in.home_tenant;
    let reason = match (rejection.code, rejection.reason) {
        (Some(90_061), _) => Reason::IssuerUnreachable,
        (Some(700_211 | 7_002_110..=7_002_119), _) => Reason::IssuerNotTrusted,
        (Some(700_212 | 7_002_120..=7_002_129), _) => Reason::AudienceNotTrusted,
        (Some(700_213 | 7_002_130..=7_002_139), _) => Reason::SubjectNotTrusted,
        (Some(70_021 | 70_025), _) => Reason::FederationNotTrusted,
        (Some(700_222 | 700_231), _) => Reason::AssertionRejected,
        (_, Reason::ApplicationNotFound) if !is_home => Reason::ConsentMissing,
        (Some(65_001), _) | (_, Reason::ServicePrincipalMissing) => Reason::ConsentMissing,
        (_, Reason::InvalidClientSecret | Reason::SecretExpired) => match sign_in.method {
            AuthMethod::FederatedToken => Reason::AssertionRejected,
            AuthMethod::Certificate => Reason::CertificateNotTrusted,
            AuthMethod::ClientSecret => rejection.reason,
        },
        (_, Reason::VerificationRejected) => Reason::SignInRejected,
        (_, reason) => reason,
    };
    Rejection { reason, code: rejection.code }
}

/// Where an admin of the tenant consents to the app. `authority` is the base URL of the cloud's sign-in service. Source:
/// Microsoft, "Grant tenant-wide admin consent to an application".
pub fn consent_url(authority: &str, tenant: &TenantId, client: &ClientId) -> String {
    format!("{authority}/{tenant}/adminconsent?client_id={client}")
}

/// The problem and what to do, in a text that stays the same on each attempt.
pub fn advice(rejection: &Rejection, sign_in: &SignIn<'_>, authority: &str) -> String {
    let text = credential_advice(rejection.reason, sign_in)
        .or_else(|| tenant_advice(rejection.reason, sign_in, authority))
        .unwrap_or_else(|| {
            "Entra rejects the sign-in: look up the code at login.microsoftonline.com/error".to_owned()
        });
    format!("{text} ({})", code_text(rejection))
}

/// What is wrong with the token, the certificate or the secret that was sent.
fn credential_advice(reason: Reason, sign_in: &SignIn<'_>) -> Option<String> {
    let client = sign_in.client;
    let claims = sign_in.federated.cloned().unwrap_or_default();
    Some(match reason {
        Reason::IssuerUnreachable => format!(
            "Entra cannot fetch the keys of the cluster's issuer {}: publish its discovery document and keys on the internet, or use a certificate",
            claims.issuer
        ),
        Reason::IssuerNotTrusted => format!(
            "no federated credential of app {client} has the issuer {}: add one, character by character",
            claims.issuer
        ),
        Reason::AudienceNotTrusted => format!(
            "no federated credential of app {client} has the audience {}: set its audience to it",
            claims.audience
        ),
        Reason::SubjectNotTrusted => format!(
            "no federated credential of app {client} has the subject {}: set its subject to it",
            claims.subject
        ),
        Reason::FederationNotTrusted => format!(
            "app {client} has no federated credential for issuer {}, subject {} and audience {}: add one; a new one works after some minutes",
            claims.issuer, claims.subject, claims.audience
        ),
        Reason::AssertionRejected => format!(
            "Entra rejects the ServiceAccount token of issuer {}: check the clock of the nodes and the published keys of the issuer",
            claims.issuer
        ),
        Reason::CertificateNotTrusted => format!(
            "Entra rejects the certificate: upload it under Certificates & secrets of app {client}, and check its dates and the clock of the nodes"
        ),
        Reason::InvalidClientSecret => format!(
            "Entra rejects the client secret of app {client}: put the current secret's Value (not its ID) into the Secret"
        ),
        Reason::SecretExpired => format!(
            "the client secret of app {client} has expired: create a new one and put it into the Secret"
        ),
        _ => return None,
    })
}

/// What is wrong with the app in the tenant, or with the tenant.
fn tenant_advice(reason: Reason, sign_in: &SignIn<'_>, authority: &str) -> Option<String> {
    let SignIn { client, tenant, .. } = sign_in;
    Some(match reason {
        Reason::ApplicationNotFound => {
            format!("tenant {tenant} has no app {client}: check spec.clientId and spec.tenantId")
        }
        Reason::ConsentMissing => format!(
            "no admin of tenant {tenant} has consented to app {client}: one must open {}",
            consent_url(authority, tenant, client)
        ),
        Reason::TenantNotFound => {
            format!("cloud {} has no tenant {tenant}: check tenantId and spec.cloud", sign_in.cloud.as_str())
        }
        Reason::TenantBlocked => format!(
            "tenant {tenant} is blocked because of inactivity, or was deleted: ask Microsoft's support to reactivate it"
        ),
        Reason::TenantRestricted => format!(
            "a proxy between the operator and Microsoft does not allow tenant {tenant}: add it to the proxy's tenant restrictions"
        ),
        Reason::ApplicationDisabled => format!(
            "app {client} is disabled in tenant {tenant}: an admin must enable sign-in under Enterprise applications > Properties"
        ),
        Reason::PublicClient => format!("app {client} is a public client: register a web app"),
        Reason::ConditionalAccessBlocked => format!(
            "a Conditional Access policy for workload identities in tenant {tenant} blocks the operator's IP address: allow it for app {client}"
        ),
        Reason::WrongCloud => format!("tenant {tenant} is in another Microsoft cloud: correct spec.cloud"),
        _ => return None,
    })
}

/// The message about a token without a role for reading apps.
pub fn permission_advice(authority: &str, tenant: &TenantId, client: &ClientId) -> String {
    format!(
        "the token of app {client} in tenant {tenant} has none of the application permissions Application.Read.All and Application.ReadWrite.OwnedBy: add one to the app, and let an admin of the tenant open {}",
        consent_url(authority, tenant, client)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
    const OTHER: &str = "cccccccc-aaf4-4f7c-9dc2-2c9160d1cb32";

    /// The rejection of a sign-in with that response.
    fn rejection(method: AuthMethod, tenant: &str, status: u16, body: &str) -> (Rejection, String) {
        let (client, home) = ("e1c6ac69-480e-4a17-9b85-3467967bd179".parse().unwrap(), HOME.parse().unwrap());
        let tenant = tenant.parse().unwrap();
        let claims = FederatedClaims {
            issuer: "https://issuer.example/".into(),
            subject: "system:serviceaccount:ops:operator".into(),
            audience: "api://AzureADTokenExchange".into(),
        };
        let sign_in = SignIn {
            method,
            cloud: Cloud::Global,
            client: &client,
            home_tenant: &home,
            tenant: &tenant,
            federated: Some(&claims),
        };
        let body: ErrorBody = serde_json::from_str(body).unwrap();
        match diagnose_sign_in(status, Some(&body), &sign_in) {
            Diagnosis::Rejected(rejection) => {
                let text = advice(&rejection, &sign_in, "https://login.example");
                (rejection, text)
            }
            other => panic!("{other:?}"),
        }
    }

    fn reason(method: AuthMethod, tenant: &str, error: &str, code: u32) -> Reason {
        let body = format!(r#"{{"error": "{error}", "error_codes": [{code}]}}"#);
        rejection(method, tenant, 400, &body).0.reason
    }

    #[test]
    fn responses_that_were_seen_lead_to_their_reason() {
        let federated = AuthMethod::FederatedToken;
        for (status, body, expected) in [
            (
                400,
                r#"{"error":"invalid_request","error_description":"AADSTS70021: No matching federated identity record found for presented assertion.\r\nTrace ID: b0f62116-10b6-4a73-bdb2-281524404e00","error_codes":[70021]}"#,
                Reason::FederationNotTrusted,
            ),
            (
                401,
                r#"{"error":"invalid_client","error_description":"AADSTS700213: No matching federated identity record found for presented assertion subject 'x'.","error_codes":[700213]}"#,
                Reason::SubjectNotTrusted,
            ),
            (
                400,
                r#"{"error":"invalid_request","error_description":"AADSTS90061: Request to External OIDC endpoint failed.","error_codes":[90061]}"#,
                Reason::IssuerUnreachable,
            ),
        ] {
            assert_eq!(rejection(federated, HOME, status, body).0.reason, expected);
        }
    }

    #[test]
    fn codes_lead_to_what_is_missing() {
        use AuthMethod::{Certificate, ClientSecret, FederatedToken};
        for (method, tenant, error, code, expected) in [
            (FederatedToken, HOME, "invalid_client", 700_211, Reason::IssuerNotTrusted),
            (FederatedToken, HOME, "invalid_client", 700_212, Reason::AudienceNotTrusted),
            (FederatedToken, HOME, "invalid_client", 7_002_121, Reason::AudienceNotTrusted),
            (FederatedToken, HOME, "invalid_client", 700_213, Reason::SubjectNotTrusted),
            (FederatedToken, HOME, "invalid_request", 70_025, Reason::FederationNotTrusted),
            (FederatedToken, HOME, "invalid_client", 700_024, Reason::AssertionRejected),
            (FederatedToken, HOME, "invalid_client", 123_456, Reason::AssertionRejected),
            (Certificate, HOME, "invalid_client", 700_027, Reason::CertificateNotTrusted),
            (ClientSecret, HOME, "invalid_client", 7_000_215, Reason::InvalidClientSecret),
            (ClientSecret, HOME, "invalid_client", 7_000_222, Reason::SecretExpired),
            (ClientSecret, HOME, "unauthorized_client", 700_016, Reason::ApplicationNotFound),
            (ClientSecret, OTHER, "unauthorized_client", 700_016, Reason::ConsentMissing),
            (ClientSecret, OTHER, "invalid_client", 7_000_229, Reason::ConsentMissing),
            (ClientSecret, HOME, "invalid_client", 7_000_229, Reason::ConsentMissing),
            (ClientSecret, HOME, "invalid_request", 90_002, Reason::TenantNotFound),
            (ClientSecret, HOME, "invalid_grant", 53_003, Reason::ConditionalAccessBlocked),
            (ClientSecret, HOME, "invalid_request", 123_456, Reason::SignInRejected),
        ] {
            assert_eq!(reason(method, tenant, error, code), expected, "{method:?} {tenant} {code}");
        }
    }

    #[test]
    fn a_message_names_what_to_enter_at_entra_and_where_to_consent() {
        let text = |tenant, error: &str, code: u32| {
            let body = format!(r#"{{"error": "{error}", "error_codes": [{code}]}}"#);
            rejection(AuthMethod::FederatedToken, tenant, 400, &body).1
        };
        assert!(text(HOME, "invalid_client", 700_213).contains("system:serviceaccount:ops:operator"));
        assert!(text(HOME, "invalid_client", 700_211).contains("https://issuer.example/"));
        assert!(text(HOME, "invalid_client", 700_212).contains("api://AzureADTokenExchange"));
        let url = format!(
            "https://login.example/{OTHER}/adminconsent?client_id=e1c6ac69-480e-4a17-9b85-3467967bd179"
        );
        assert!(text(OTHER, "unauthorized_client", 700_016).contains(&url));
    }

    #[test]
    fn one_role_for_apps_is_enough_and_unreadable_roles_are_not_missing() {
        let roles = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert!(can_read_apps(None));
        assert!(can_read_apps(Some(&roles(&["Application.Read.All"]))));
        assert!(can_read_apps(Some(&roles(&["User.Read.All", "Application.ReadWrite.OwnedBy"]))));
        assert!(!can_read_apps(Some(&roles(&["User.Read.All"]))));
        assert!(!can_read_apps(Some(&[])));
    }
}
