//! The result of an account's reconcile after a failure, with its message.

use crate::api::ACCOUNT_PROTECTION_FINALIZER;
use crate::api::conditions::Reason;
use crate::controller::account::state::KeyValidity;
use crate::core::model::ConditionFailure;
use crate::core::status::account::AccountResult;
use crate::woodpecker::ApiError;

impl AccountResult {
    /// The result if the finalizer could not be written. Another problem comes first.
    pub(super) fn without_finalizer(self) -> Self {
        let Self::Ready = self else { return self };
        let message = format!(
            "the API server rejects the operator's change of the finalizer {ACCOUNT_PROTECTION_FINALIZER}, so a deletion of this account does not work as it should: check the operator's right to patch woodpeckeraccounts, and admission policies. Credentials are registered and maintained"
        );
        Self::Unprotected(ConditionFailure { reason: Reason::FinalizerRejected, message })
    }

    /// The result if the operator may not read the namespaces that the account selects. Another problem comes first.
    pub(super) fn without_namespaces(self) -> Self {
        let Self::Ready = self else { return self };
        let message = "spec.allowedNamespaces.selector lets nobody in, because the operator may not list and watch namespaces: its administrator must set the chart's rbac.namespaceSelectors, or use spec.allowedNamespaces.names. Credentials in namespaces that are named are registered and maintained";
        Self::Unprotected(ConditionFailure {
            reason: Reason::NamespacesForbidden,
            message: message.to_owned(),
        })
    }

    pub(super) fn of_failure(error: &ApiError, validity: KeyValidity) -> Self {
        match error {
            ApiError::Failed { status: code, .. } if validity == KeyValidity::Unclear => Self::Unreachable(format!(
                "every list request is answered with HTTP {code}, but not in the form of Woodpecker's API: check the API key in the Secret, and whether a proxy or a firewall between the operator and Woodpecker blocks the requests; the operator tries again"
            )),
            ApiError::Unauthorized(_) | ApiError::NotInPlan { .. } if validity == KeyValidity::Unconfirmed => Self::Postponed(
                "Woodpecker rejected the API key once; the operator lists again before this counts".into(),
            ),
            ApiError::Unauthorized(_) => Self::Unusable(ConditionFailure {
                reason: Reason::InvalidApiKey,
                message: "Woodpecker rejected the API key: create one of the same account under Marketplace > Integrations > API keys (the account needs that add-on) and put it into the Secret".into(),
            }),
            ApiError::NotInPlan { missing, .. } => Self::Unusable(ConditionFailure {
                reason: Reason::ApiNotInPlan,
                message: format!(
                    "Woodpecker refuses the API key because of the account's plan ({missing}), and the key itself may be right: {}; the operator tries again",
                    missing.remedy()
                ),
            }),
            ApiError::Malformed(_) => Self::Unreachable(
                "Woodpecker's response to the list request is malformed, and does not count as an empty account; the operator tries again".into(),
            ),
            ApiError::NotFound | ApiError::Rejected { .. } => Self::Unreachable(
                "Woodpecker rejected the list request for the account's credentials: check spec.baseUrl and spec.companyId (both are immutable: if one is wrong, create a new WoodpeckerAccount); the operator tries again".into(),
            ),
            ApiError::Throttled(_) | ApiError::Queue(_) | ApiError::GivenUp => Self::Postponed(
                "other requests to the account are ahead, or Woodpecker asked to slow down; the operator waits and tries again".into(),
            ),
            ApiError::NotLeading(_) | ApiError::NotSent(_) | ApiError::Lost(_) | ApiError::Failed { .. } | ApiError::Body(_) => Self::Unreachable(
                "Woodpecker could not be reached or failed; the operator tries again. If this persists, check the operator's outbound connection to the internet".into(),
            ),
        }
    }
}
