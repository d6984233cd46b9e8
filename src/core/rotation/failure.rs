//! Why a step of a rotation failed, in the words of the condition `RotationReady`.

use std::time::Duration;

use crate::api::MicrosoftGraphCredential;
use crate::api::conditions::Reason;
use crate::core::app_reading::ReadingFailure;
use crate::core::graph_error::GraphError;
use crate::core::graph_write::{WriteFailure, WriteRejection};

/// A step of a rotation that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationFailure {
    pub reason: Reason,
    /// The problem and what to do.
    pub message: String,
    /// Whether only a person can fix it.
    pub needs_person: bool,
    /// The minimum wait, if the response gave one.
    pub retry_after: Option<Duration>,
}

/// The name of the object's identity, for messages.
fn identity(object: &MicrosoftGraphCredential) -> &str {
    object.spec.entra.as_ref().map(|entra| entra.identity_ref.name.as_str()).unwrap_or_default()
}

// === impl RotationFailure ===

impl RotationFailure {
    /// One that ends without a person.
    pub fn temporary(reason: Reason, message: impl Into<String>, retry_after: Option<Duration>) -> Self {
        Self { reason, message: message.into(), needs_person: false, retry_after }
    }

    /// One that needs a person.
    pub fn lasting(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), needs_person: true, retry_after: None }
    }

    /// The app could not be read.
    pub fn of_reading(
        object: &MicrosoftGraphCredential,
        failure: &ReadingFailure,
        retry_after: Option<Duration>,
    ) -> Self {
        match failure {
            ReadingFailure::NoToken { is_temporary: false } => no_token(object),
            ReadingFailure::Graph(GraphError::Forbidden) => forbidden(object),
            ReadingFailure::Graph(GraphError::NotFound) => not_found(object),
            ReadingFailure::Graph(GraphError::Throttled) => throttled(retry_after),
            ReadingFailure::Graph(GraphError::Rejected(status)) => rejected(*status),
            ReadingFailure::NoToken { is_temporary: true }
            | ReadingFailure::Graph(GraphError::Unavailable | GraphError::InvalidToken) => {
                unavailable(retry_after)
            }
        }
    }

    /// A client secret could not be created or removed.
    pub fn of_write(
        object: &MicrosoftGraphCredential,
        failure: WriteFailure,
        retry_after: Option<Duration>,
    ) -> Self {
        let WriteFailure::NotApplied(rejection) = failure else {
            return Self::temporary(
                Reason::OutcomeUnknown,
                "Microsoft Graph gave no usable response, so a client secret may have been created or removed; the operator looks for it by its name",
                retry_after,
            );
        };
        match rejection {
            WriteRejection::LifetimeNotAllowed => Self::lasting(
                Reason::LifetimeNotAllowed,
                "a policy of the tenant does not allow client secrets that are valid this long: shorten spec.rotation.validity, or exempt the app from the policy",
            ),
            WriteRejection::SecretsNotAllowed => Self::lasting(
                Reason::SecretsNotAllowed,
                "a policy of the tenant does not allow client secrets for this app: exempt the app from the policy",
            ),
            WriteRejection::TooManySecrets => Self::lasting(
                Reason::TooManySecrets,
                "the app has two client secrets, and apps for personal Microsoft accounts can have no more: remove one that is not used in the Entra admin center",
            ),
            WriteRejection::AppTooLarge => Self::lasting(
                Reason::TooManySecrets,
                "the app registration has reached its maximum size: remove client secrets and certificates that are not used in the Entra admin center",
            ),
            WriteRejection::Forbidden => forbidden(object),
            WriteRejection::AppNotFound => not_found(object),
            WriteRejection::Throttled => throttled(retry_after),
            WriteRejection::Concurrent => Self::temporary(
                Reason::RateLimited,
                "the app was changed a moment ago, and Microsoft Entra accepts one change at a time; the operator retries automatically",
                retry_after,
            ),
            WriteRejection::Unreachable | WriteRejection::InvalidDates | WriteRejection::InvalidToken => {
                unavailable(retry_after)
            }
            WriteRejection::KeyNotFound => Self::temporary(
                Reason::MicrosoftUnavailable,
                "Microsoft Graph does not find a client secret that it shows; the operator retries automatically",
                retry_after,
            ),
            WriteRejection::Other(status) => rejected(status),
        }
    }

    /// There is no token for the identity.
    pub fn of_token(
        object: &MicrosoftGraphCredential,
        is_temporary: bool,
        retry_after: Option<Duration>,
    ) -> Self {
        if is_temporary { unavailable(retry_after) } else { no_token(object) }
    }
}

fn no_token(object: &MicrosoftGraphCredential) -> RotationFailure {
    let message =
        format!("EntraIdentity {} gets no token for the tenant: see its conditions", identity(object));
    RotationFailure::lasting(Reason::IdentityNotReady, message)
}

fn forbidden(object: &MicrosoftGraphCredential) -> RotationFailure {
    let message = format!(
        "Microsoft Graph does not let EntraIdentity {} change the app: grant it the application permission Application.ReadWrite.OwnedBy with admin consent in tenant {}, and make its service principal there an owner of the app",
        identity(object),
        object.spec.tenant_id
    );
    RotationFailure::lasting(Reason::WriteForbidden, message)
}

fn not_found(object: &MicrosoftGraphCredential) -> RotationFailure {
    let message = format!(
        "Microsoft Graph shows no application {} in tenant {}: check clientId and tenantId, and whether the application belongs to another tenant",
        object.spec.client_id, object.spec.tenant_id
    );
    RotationFailure::lasting(Reason::ApplicationNotFound, message)
}

fn throttled(retry_after: Option<Duration>) -> RotationFailure {
    RotationFailure::temporary(
        Reason::RateLimited,
        "Microsoft Graph limits the rate of requests; the operator retries automatically",
        retry_after,
    )
}

fn unavailable(retry_after: Option<Duration>) -> RotationFailure {
    RotationFailure::temporary(
        Reason::MicrosoftUnavailable,
        "Microsoft Graph could not be reached or returned an error; the operator retries automatically",
        retry_after,
    )
}

fn rejected(status: u16) -> RotationFailure {
    let message = format!(
        "Microsoft Graph rejects a request to change the app with HTTP status {status}: see the operator's log"
    );
    RotationFailure::lasting(Reason::WriteRejected, message)
}
