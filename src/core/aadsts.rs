//! The table of AADSTS codes in the client-credentials flow.
//!
//! Source: Microsoft, "Microsoft Entra authentication and authorization error codes", and public threads for those that
//! the page lacks. Microsoft may change codes at any time, so they only refine a diagnosis: see `diagnosis`.

use crate::api::conditions::Reason;
use crate::api::reasons::{self, Actor};

/// An AADSTS code, or a family of codes that begin with the same digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The number after `AADSTS`; of a family, the digits that its codes have in common.
    number: u32,
    /// How many more digits the codes of a family have; 0 for a single code.
    more_digits: u32,
    /// The kind of response.
    pub class: Class,
    /// What it means.
    pub text: &'static str,
    /// Who must act, and how, if that differs from its reason.
    own_remedy: Option<Remedy>,
}

/// Who must act, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// Who must act.
    pub actor: Actor,
    /// What to do.
    pub action: &'static str,
}

/// The kind of response that a code stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A rejection until a person changes something.
    Rejected(Reason),
    /// The rate of requests is limited.
    Throttled,
    /// A failure at Microsoft.
    Unavailable,
}

/// The code of that number, or else its family.
pub fn find(number: u32) -> Option<&'static Code> {
    CODES.iter().filter(|code| code.includes(number)).min_by_key(|code| code.more_digits)
}

const fn code(number: u32, reason: Reason, text: &'static str) -> Code {
    Code { number, more_digits: 0, class: Class::Rejected(reason), text, own_remedy: None }
}

/// All codes that consist of these digits and as many more.
const fn family(number: u32, more_digits: u32, reason: Reason, text: &'static str) -> Code {
    Code { more_digits, ..code(number, reason, text) }
}

/// A rejection without a reason of its own: what to do depends on the code.
const fn rejected(number: u32, text: &'static str, remedy: Remedy) -> Code {
    code(number, Reason::VerificationRejected, text).with(remedy)
}

const fn throttled(number: u32, text: &'static str) -> Code {
    Code { class: Class::Throttled, ..code(number, Reason::RateLimited, text) }
}

const fn unavailable(number: u32, text: &'static str) -> Code {
    Code { class: Class::Unavailable, ..code(number, Reason::MicrosoftUnavailable, text) }
}

const GRAPH_MISSING: Remedy = Remedy {
    actor: Actor::TenantAdmin,
    action: "Make sure that the tenant is in the cloud that `spec.cloud` names, and that Microsoft Graph exists and is enabled under Enterprise applications.",
};

const CONSENT: Remedy = Remedy {
    actor: Actor::TenantAdmin,
    action: "Add the Microsoft Graph application permissions to the app and grant them with admin consent.",
};

const BUG: Remedy = Remedy {
    actor: Actor::Developers,
    action: "Report a bug of the operator, with its version and the trace ID.",
};

const SUPPORT: Remedy = Remedy {
    actor: Actor::MicrosoftSupport,
    action: "The operator retries automatically. If it lasts, ask Microsoft's support with the trace ID.",
};

const FEDERATION: Remedy = Remedy {
    actor: Actor::User,
    action: "Compare issuer, subject and audience of the federated credential of the identity's app with those of the ServiceAccount token; they must be equal character by character. After a change, wait up to 15 minutes.",
};

const ISSUER: Remedy = Remedy {
    actor: Actor::OperatorAdmin,
    action: "Publish the discovery document and the keys of the cluster's ServiceAccount issuer on the internet, or use a certificate for the identity.",
};

/// For a client secret the operator never sends an assertion, so Microsoft means the secret.
const ASSERTION: &str =
    "the credential is not valid (of a request with an assertion: its certificate or signature)";

/// All known codes.
pub const CODES: &[Code] = &[
    code(
        7_000_215,
        Reason::InvalidClientSecret,
        "the client secret is wrong (a typo, its ID instead of its value, a deleted one, or one that has not propagated yet)",
    ),
    code(7_000_216, Reason::InvalidClientSecret, "the request lacks a client secret or assertion").with(BUG),
    code(7_000_218, Reason::InvalidClientSecret, "the request body lacks a client secret or assertion")
        .with(BUG),
    code(70_002, Reason::InvalidClientSecret, "the client secret does not match"),
    code(50_012, Reason::InvalidClientSecret, ASSERTION),
    code(700_024, Reason::InvalidClientSecret, ASSERTION),
    code(700_027, Reason::InvalidClientSecret, ASSERTION),
    code(700_030, Reason::InvalidClientSecret, ASSERTION),
    code(7_000_222, Reason::SecretExpired, "the client secret has expired"),
    code(700_016, Reason::ApplicationNotFound, "the app was not found in the tenant"),
    code(700_011, Reason::ApplicationNotFound, "the app was not found in the tenant of this organization"),
    code(7_000_229, Reason::ServicePrincipalMissing, "the app has no service principal in the tenant"),
    code(7_000_112, Reason::ApplicationDisabled, "the app is disabled"),
    code(70_001, Reason::ApplicationDisabled, "the app is disabled or not authorized for the request"),
    code(1_000_031, Reason::ApplicationDisabled, "the app cannot be accessed at this time"),
    code(700_025, Reason::PublicClient, "the app is a public client and must not present a secret"),
    code(90_002, Reason::TenantNotFound, "the tenant was not found"),
    code(900_023, Reason::TenantNotFound, "the tenant ID is neither a GUID nor a domain name"),
    code(900_021, Reason::TenantNotFound, "the tenant ID is not valid"),
    code(50_059, Reason::TenantNotFound, "the request names no tenant"),
    code(50_128, Reason::TenantNotFound, "the domain name is not valid"),
    code(90_019, Reason::TenantNotFound, "the request names no tenant"),
    code(9_001_023, Reason::TenantNotFound, "the grant is not possible for /common or /consumers"),
    code(5_000_224, Reason::TenantBlocked, "the tenant is not available, because it is blocked or deleted"),
    code(5_000_225, Reason::TenantBlocked, "the tenant is blocked because of inactivity"),
    code(5_000_229, Reason::TenantBlocked, "the tenant is disabled or has expired"),
    family(500_022, 1, Reason::TenantBlocked, "the tenant is blocked or deleted"),
    code(50_002, Reason::TenantRestricted, "a proxy restricts the tenants that can be used"),
    code(500_021, Reason::TenantRestricted, "a proxy does not allow the tenant (Restrict-Access-To-Tenants)"),
    code(500_022, Reason::TenantRestricted, "a proxy does not allow the tenant (Restrict-Access-To-Tenants)"),
    family(500_021, 1, Reason::TenantRestricted, "a tenant restrictions policy does not allow the tenant"),
    code(900_439, Reason::WrongCloud, "a US Government app was used at the public endpoint"),
    code(90_038, Reason::WrongCloud, "the tenant belongs to a national cloud"),
    code(900_382, Reason::WrongCloud, "a confidential client is not possible across clouds"),
    code(900_432, Reason::WrongCloud, "a confidential client is not possible across clouds"),
    code(53_003, Reason::ConditionalAccessBlocked, "Conditional Access blocks the token"),
    code(530_032, Reason::ConditionalAccessBlocked, "a security policy of the tenant blocks the request"),
    code(53_011, Reason::ConditionalAccessBlocked, "the identity is blocked because of risk"),
    code(530_035, Reason::ConditionalAccessBlocked, "security defaults block the request"),
    code(50_131, Reason::ConditionalAccessBlocked, "a Conditional Access policy blocks the request"),
    family(53, 3, Reason::ConditionalAccessBlocked, "a Conditional Access policy blocks the request"),
    family(53, 4, Reason::ConditionalAccessBlocked, "a Conditional Access policy blocks the request"),
    rejected(70_021, "no federated credential of the app matches the assertion", FEDERATION),
    rejected(70_025, "the app has no federated credential", FEDERATION),
    rejected(700_211, "no federated credential of the app has the issuer of the assertion", FEDERATION),
    rejected(700_212, "no federated credential of the app has the audience of the assertion", FEDERATION),
    rejected(700_213, "no federated credential of the app has the subject of the assertion", FEDERATION),
    rejected(700_222, "the assertion is itself a token of Entra, which cannot be exchanged", FEDERATION),
    rejected(700_231, "the assertion was itself obtained with a federated credential", FEDERATION),
    rejected(90_061, "Entra cannot reach the issuer of the assertion", ISSUER),
    rejected(500_011, "Graph's service principal was not found in the tenant", GRAPH_MISSING),
    rejected(50_001, "the resource is disabled or does not exist", GRAPH_MISSING),
    rejected(650_052, "the tenant has no subscription for the resource, or it is disabled", GRAPH_MISSING),
    rejected(650_054, "the resource is disabled in the tenant", GRAPH_MISSING),
    rejected(500_014, "Graph's service principal is disabled", GRAPH_MISSING),
    rejected(650_056, "the app's permissions are misconfigured", CONSENT),
    rejected(650_057, "the app does not ask for the resource", CONSENT),
    rejected(65_001, "no one has consented to the app", CONSENT),
    rejected(65_005, "the app lacks access to the resource", CONSENT),
    rejected(90_094, "an admin must consent", CONSENT),
    rejected(70_011, "the scope is not valid", BUG),
    rejected(28_002, "the scope is not valid", BUG),
    rejected(1_002_012, "the scope lacks /.default", BUG),
    rejected(700_022, "the scope names several resources", BUG),
    rejected(700_023, "the scope names several resources", BUG),
    rejected(90_013, "the request is not valid", BUG),
    rejected(90_014, "a field of the request is missing", BUG),
    rejected(900_144, "a parameter of the request is missing", BUG),
    rejected(90_023, "the request is not valid", BUG),
    rejected(9_002_313, "the request is malformed", BUG),
    rejected(90_100, "a parameter of the request is empty or not valid", BUG),
    rejected(90_004, "the request is not formatted properly", BUG),
    rejected(50_034, "a user was not found, although this flow has no user", BUG),
    throttled(50_196, "the same request was made too often in five minutes"),
    throttled(90_055, "too many requests for the tenant"),
    unavailable(90_033, "a transient failure"),
    unavailable(90_006, "an external server failed temporarily"),
    unavailable(90_012, "the request timed out"),
    unavailable(90_024, "a budget was exceeded temporarily"),
    unavailable(90_025, "a retry at Microsoft took too long"),
    unavailable(90_090, "a gateway failed temporarily"),
    unavailable(90_091, "a gateway failed temporarily"),
    unavailable(50_033, "a temporary failure"),
    unavailable(90_041, "a temporary failure"),
    unavailable(90_036, "an unexpected failure that a retry may not fix").with(SUPPORT),
    unavailable(90_092, "a failure that a retry may not fix").with(SUPPORT),
    unavailable(50_000, "the token service failed").with(SUPPORT),
];

// === impl Code ===

impl Code {
    const fn with(self, remedy: Remedy) -> Self {
        Self { own_remedy: Some(remedy), ..self }
    }

    /// The lowest number.
    pub fn first(&self) -> u32 {
        self.number * self.size()
    }

    fn size(&self) -> u32 {
        10_u32.pow(self.more_digits)
    }

    fn includes(&self, number: u32) -> bool {
        (self.first()..self.first() + self.size()).contains(&number)
    }

    /// The digits, with an `x` for each one that may differ within the family.
    pub fn digits(&self) -> String {
        format!("{}{}", self.number, "x".repeat(self.more_digits as usize))
    }

    /// The reason of a condition with this code.
    pub fn reason(&self) -> Reason {
        match self.class {
            Class::Rejected(reason) => reason,
            Class::Throttled => Reason::RateLimited,
            Class::Unavailable => Reason::MicrosoftUnavailable,
        }
    }

    /// Who must act, and how, if that differs from its reason.
    pub fn own_remedy(&self) -> Option<Remedy> {
        self.own_remedy
    }

    /// Who must act, and how.
    pub fn remedy(&self) -> Remedy {
        self.own_remedy.unwrap_or_else(|| {
            let entry = reasons::entry(self.reason());
            Remedy { actor: entry.actor, action: entry.action }
        })
    }
}

// === impl Class ===

impl Class {
    /// A stable value for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected(_) => "rejected",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second list, from Microsoft's page and not from the table above.
    #[test]
    fn every_code_leads_to_its_reason() {
        let expected: [(Reason, &[u32]); 14] = [
            (
                Reason::InvalidClientSecret,
                &[50_012, 70_002, 700_024, 700_027, 700_030, 7_000_215, 7_000_216, 7_000_218],
            ),
            (Reason::SecretExpired, &[7_000_222]),
            (Reason::ApplicationNotFound, &[700_011, 700_016]),
            (Reason::ServicePrincipalMissing, &[7_000_229]),
            (Reason::ApplicationDisabled, &[70_001, 1_000_031, 7_000_112]),
            (Reason::PublicClient, &[700_025]),
            (Reason::TenantNotFound, &[50_059, 50_128, 90_002, 90_019, 900_021, 900_023, 9_001_023]),
            (Reason::WrongCloud, &[90_038, 900_382, 900_432, 900_439]),
            (Reason::TenantBlocked, &[5_000_220, 5_000_224, 5_000_225, 5_000_229]),
            (Reason::TenantRestricted, &[50_002, 500_021, 500_022, 5_000_211]),
            (Reason::ConditionalAccessBlocked, &[50_131, 53_000, 53_003, 53_011, 530_032, 530_035, 539_999]),
            (
                Reason::VerificationRejected,
                &[
                    28_002, 50_001, 50_034, 65_001, 65_005, 70_011, 70_021, 70_025, 90_004, 90_013, 90_014,
                    90_023, 90_061, 90_094, 90_100, 500_011, 500_014, 650_052, 650_054, 650_056, 650_057,
                    700_022, 700_023, 700_211, 700_212, 700_213, 700_222, 700_231, 900_144, 1_002_012,
                    9_002_313,
                ],
            ),
            (Reason::RateLimited, &[50_196, 90_055]),
            (
                Reason::MicrosoftUnavailable,
                &[
                    50_000, 50_033, 90_006, 90_012, 90_024, 90_025, 90_033, 90_036, 90_041, 90_090, 90_091,
                    90_092,
                ],
            ),
        ];
        for (reason, numbers) in expected {
            for number in numbers {
                assert_eq!(find(*number).map(Code::reason), Some(reason), "{number}");
            }
        }
        assert_eq!(CODES.len(), expected.iter().map(|(_, numbers)| numbers.len()).sum::<usize>());
    }

    #[test]
    fn the_remedy_of_a_code_does_not_refer_to_explain() {
        for code in CODES {
            assert!(!code.remedy().action.contains("explain"), "{}", code.digits());
        }
    }

    #[test]
    fn the_actor_depends_on_the_code_if_its_reason_is_too_general() {
        for (number, actor) in [
            (7_000_215, Actor::User),
            (7_000_218, Actor::Developers),
            (7_000_229, Actor::TenantAdmin),
            (500_011, Actor::TenantAdmin),
            (65_001, Actor::TenantAdmin),
            (70_011, Actor::Developers),
            (90_033, Actor::Nobody),
            (90_036, Actor::MicrosoftSupport),
            (50_196, Actor::Nobody),
            (500_021, Actor::OperatorAdmin),
            (5_000_225, Actor::TenantAdmin),
        ] {
            assert_eq!(find(number).map(|code| code.remedy().actor), Some(actor), "{number}");
        }
    }

    #[test]
    fn no_code_is_listed_twice() {
        for (at, code) in CODES.iter().enumerate() {
            let position = CODES.iter().position(|other| other.digits() == code.digits());
            assert_eq!(position, Some(at), "{}", code.digits());
        }
    }

    #[test]
    fn a_code_comes_before_its_family_and_a_family_has_one_length() {
        let text = |number| find(number).map(|code| code.text);
        assert_eq!(text(530_035), Some("security defaults block the request"));
        assert_eq!(text(530_036), Some("a Conditional Access policy blocks the request"));
        for number in [53, 539, 5_300_000, 500_020, 5_000_209, 5_000_230, u32::MAX] {
            assert_eq!(find(number), None, "{number}");
        }
        let family = find(5_000_211).map(Code::digits);
        assert_eq!(family.as_deref(), Some("500021x"));
    }
}
