//! The reasons of `Verified`.

use super::{Actor, BY_ITSELF, Entry, NOTHING, credential};
use crate::resources::conditions::{ConditionStatus, ConditionType, Reason};

pub(super) const fn entry(reason: Reason) -> Option<Entry> {
    use Actor::{Nobody, TenantAdmin, User};
    use ConditionStatus::{False, True, Unknown};
    Some(match reason {
        Reason::TokenIssued => new(True, "Microsoft issues tokens for the secret.", Nobody, NOTHING),
        Reason::NotRequired => {
            new(True, "Verification is disabled, and the operator allows that.", Nobody, NOTHING)
        }
        Reason::ProofSkipped => new(
            True,
            "The proof could not be had, and policy `BestEffort` goes on without.",
            Nobody,
            "Nothing to do; the proof is tried again at the next look.",
        ),
        Reason::InvalidClientSecret => new(
            False,
            "Microsoft refuses the client secret; what is registered stays.",
            User,
            "Put the current secret's Value (not its ID) into the Secret, or make a new one under Certificates & secrets.",
        ),
        Reason::SecretExpired => new(
            False,
            "Microsoft says that the client secret has expired.",
            User,
            "Make a new secret in Entra and put it with its expiry into the Secret.",
        ),
        Reason::ApplicationNotFound => new(
            False,
            "There is no such app in the tenant.",
            User,
            "Check `clientId` and `tenantId`, and that an admin of the tenant has consented to the app.",
        ),
        Reason::TenantNotFound => {
            new(False, "There is no such tenant in this cloud.", User, "Check `tenantId` and `cloud`.")
        }
        Reason::ServicePrincipalMissing => new(
            False,
            "The app has no service principal in the tenant.",
            TenantAdmin,
            "Consent to the app, or create an enterprise application for it.",
        ),
        Reason::ApplicationDisabled => new(
            False,
            "The app is disabled in the tenant.",
            TenantAdmin,
            "Enable sign-in under Enterprise applications > Properties.",
        ),
        Reason::PublicClient => new(
            False,
            "The app is a public client and must not use a secret.",
            User,
            "Register a web app, or turn off \"Allow public client flows\".",
        ),
        Reason::ConditionalAccessBlocked => new(
            False,
            "A Conditional Access policy for workload identities blocks the operator's address.",
            TenantAdmin,
            "Let the address in, or use `verification.policy: BestEffort`.",
        ),
        Reason::WrongCloud => new(
            False,
            "The tenant lives in another Microsoft cloud.",
            User,
            "Set `spec.cloud` in a new object.",
        ),
        Reason::RequiredRolesMissing => new(
            False,
            "The token lacks application permissions that the object requires, or its roles cannot be read.",
            TenantAdmin,
            "Grant them with admin consent, or take them out of `verification.requiredRoles`.",
        ),
        Reason::Rejected => new(
            False,
            "Microsoft refuses the request for another reason.",
            User,
            "Look the AADSTS code of the message up with `explain`, or at Microsoft.",
        ),
        Reason::NotAttempted => new(Unknown, "No proof was attempted yet.", Nobody, NOTHING),
        Reason::AwaitingSource => {
            new(Unknown, "There is no usable secret to verify.", User, "See `SourceReady`.")
        }
        Reason::AwaitingPropagation => new(
            Unknown,
            "A new secret is refused, which is normal for some minutes after it was made.",
            Nobody,
            BY_ITSELF,
        ),
        Reason::Throttled => new(Unknown, "Microsoft asked to slow down.", Nobody, BY_ITSELF),
        Reason::MicrosoftUnavailable => new(
            Unknown,
            "Microsoft's token endpoint could not be reached or had a failure.",
            Nobody,
            "The operator tries again by itself. If it lasts, check the operator's way out to the internet.",
        ),
        _ => return None,
    })
}

const fn new(status: ConditionStatus, meaning: &'static str, actor: Actor, cure: &'static str) -> Entry {
    credential(ConditionType::Verified, status, meaning, actor, cure)
}
