//! What we know of AADSTS codes in the client-credentials flow.
//!
//! Source: Microsoft, "Microsoft Entra authentication and authorization error codes", and public threads
//! for those that the page lacks. Microsoft may change codes at any time, so they refine a verdict and
//! never decide it alone: see [`super::diagnosis`].

use crate::resources::conditions::Reason;

/// A code and what it means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The number after `AADSTS`.
    pub number: u32,
    /// What kind of answer it is.
    pub class: Class,
    /// What Microsoft means by it.
    pub text: &'static str,
}

/// What kind of answer a code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A refusal that stands until somebody changes something.
    Refused(Reason),
    /// A request to slow down.
    Throttled,
    /// A failure on Microsoft's side.
    Unavailable,
}

/// The code of that number.
pub fn find(number: u32) -> Option<&'static Code> {
    CODES.iter().find(|code| code.number == number)
}

const fn refused(number: u32, reason: Reason, text: &'static str) -> Code {
    Code { number, class: Class::Refused(reason), text }
}

const fn throttled(number: u32, text: &'static str) -> Code {
    Code { number, class: Class::Throttled, text }
}

const fn unavailable(number: u32, text: &'static str) -> Code {
    Code { number, class: Class::Unavailable, text }
}

/// Every code that we know.
pub const CODES: &[Code] = &[
    refused(
        7_000_215,
        Reason::InvalidClientSecret,
        "the client secret is wrong (a typo, its ID in place of its value, a deleted one, or one that has not spread yet)",
    ),
    refused(7_000_216, Reason::InvalidClientSecret, "the request lacks a client secret or assertion"),
    refused(7_000_218, Reason::InvalidClientSecret, "the request body lacks a client secret or assertion"),
    refused(7_000_222, Reason::SecretExpired, "the client secret has expired"),
    refused(700_016, Reason::ApplicationNotFound, "the app was not found in the tenant"),
    refused(700_011, Reason::ApplicationNotFound, "the app was not found in the tenant of this organisation"),
    refused(7_000_229, Reason::ServicePrincipalMissing, "the app has no service principal in the tenant"),
    refused(7_000_112, Reason::ApplicationDisabled, "the app is disabled"),
    refused(70_001, Reason::ApplicationDisabled, "the app is disabled or not authorised for the request"),
    refused(1_000_031, Reason::ApplicationDisabled, "the app cannot be accessed at this time"),
    refused(700_025, Reason::PublicClient, "the app is a public client and must not present a secret"),
    refused(90_002, Reason::TenantNotFound, "the tenant was not found"),
    refused(900_023, Reason::TenantNotFound, "the tenant's id is neither a GUID nor a domain name"),
    refused(900_021, Reason::TenantNotFound, "the tenant's id is not valid"),
    refused(50_059, Reason::TenantNotFound, "the request names no tenant"),
    refused(50_128, Reason::TenantNotFound, "the domain name is not valid"),
    refused(90_019, Reason::TenantNotFound, "the request names no tenant"),
    refused(9_001_023, Reason::TenantNotFound, "the grant is not possible for /common or /consumers"),
    refused(900_439, Reason::WrongCloud, "a US Government app was used at the public endpoint"),
    refused(90_038, Reason::WrongCloud, "the tenant belongs to a national cloud"),
    refused(900_382, Reason::WrongCloud, "a confidential client is not possible across clouds"),
    refused(900_432, Reason::WrongCloud, "a confidential client is not possible across clouds"),
    refused(53_003, Reason::ConditionalAccessBlocked, "Conditional Access blocks the token"),
    refused(530_032, Reason::ConditionalAccessBlocked, "a security policy of the tenant blocks the request"),
    refused(53_011, Reason::ConditionalAccessBlocked, "the identity is blocked for risk"),
    refused(50_131, Reason::ConditionalAccessBlocked, "a Conditional Access policy blocks the request"),
    refused(500_011, Reason::Rejected, "Graph's service principal was not found in the tenant"),
    refused(50_001, Reason::Rejected, "the resource is disabled or does not exist"),
    refused(650_052, Reason::Rejected, "the tenant has no subscription for the resource, or it is disabled"),
    refused(650_054, Reason::Rejected, "the resource is disabled in the tenant"),
    refused(500_014, Reason::Rejected, "Graph's service principal is disabled"),
    refused(650_056, Reason::Rejected, "the app's permissions are misconfigured"),
    refused(650_057, Reason::Rejected, "the app does not ask for the resource"),
    refused(65_001, Reason::Rejected, "nobody has consented to the app"),
    refused(65_005, Reason::Rejected, "the app lacks access to the resource"),
    refused(90_094, Reason::Rejected, "an admin must consent"),
    refused(70_011, Reason::Rejected, "the scope is not valid: a defect of the operator"),
    refused(28_002, Reason::Rejected, "the scope is not valid: a defect of the operator"),
    refused(1_002_012, Reason::Rejected, "the scope lacks /.default: a defect of the operator"),
    refused(700_022, Reason::Rejected, "several resources in one scope: a defect of the operator"),
    refused(700_023, Reason::Rejected, "several resources in one scope: a defect of the operator"),
    refused(700_024, Reason::Rejected, "a client assertion is outside its time"),
    refused(700_027, Reason::Rejected, "a client assertion's certificate is not registered"),
    refused(700_030, Reason::Rejected, "a client assertion's certificate is not valid"),
    refused(50_012, Reason::Rejected, "a client assertion could not be verified"),
    refused(90_013, Reason::Rejected, "the request is not valid"),
    refused(90_014, Reason::Rejected, "a field of the request is missing"),
    refused(900_144, Reason::Rejected, "a parameter of the request is missing"),
    refused(90_023, Reason::Rejected, "the request is not valid"),
    refused(9_002_313, Reason::Rejected, "the request is malformed"),
    refused(90_100, Reason::Rejected, "a parameter of the request is empty or not valid"),
    refused(90_004, Reason::Rejected, "the request is not formatted properly"),
    throttled(50_196, "the same request was made too often in five minutes"),
    throttled(90_055, "too many requests for the tenant"),
    unavailable(90_033, "a transient failure"),
    unavailable(90_006, "an external server failed for the moment"),
    unavailable(90_012, "the request timed out"),
    unavailable(90_024, "a budget was exceeded for the moment"),
    unavailable(90_025, "a retry at Microsoft took too long"),
    unavailable(90_090, "a gateway failed for the moment"),
    unavailable(90_091, "a gateway failed for the moment"),
    unavailable(50_033, "a temporary failure"),
    unavailable(90_041, "a temporary failure"),
    unavailable(
        90_036,
        "an unexpected failure that a retry may not mend; Microsoft's support needs the trace id",
    ),
    unavailable(90_092, "a failure that a retry may not mend; Microsoft's support needs the trace id"),
    unavailable(50_000, "the token service failed; Microsoft's support needs the trace id"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_stands_twice() {
        for (at, code) in CODES.iter().enumerate() {
            assert_eq!(
                CODES.iter().position(|other| other.number == code.number),
                Some(at),
                "{}",
                code.number
            );
        }
    }
}
