//! Errors of the sandbox's own routes and of the vendor's routes beside credentials.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;

use super::backend::WriteFailed;
use crate::rest::{ErrorCode, RestError, problem};

pub(super) enum SandboxError {
    /// The request is not as documented; with the reason.
    Invalid(String),
    /// The error of the API.
    Rest(RestError),
    /// The route is for agencies. Third-party programs have seen this answer; the vendor documents none.
    NoAgency,
    /// A constant of ours.
    Rejected(&'static str),
}

// === impl SandboxError ===

impl SandboxError {
    pub fn invalid(reason: &dyn std::fmt::Display) -> Self {
        Self::Invalid(reason.to_string())
    }
}

impl From<RestError> for SandboxError {
    fn from(error: RestError) -> Self {
        Self::Rest(error)
    }
}

impl From<ErrorCode> for SandboxError {
    fn from(code: ErrorCode) -> Self {
        Self::Rest(code.into())
    }
}

impl From<WriteFailed> for SandboxError {
    fn from(_: WriteFailed) -> Self {
        Self::Rest(RestError::Internal)
    }
}

impl IntoResponse for SandboxError {
    fn into_response(self) -> Response {
        match self {
            Self::Invalid(reason) => problem(StatusCode::BAD_REQUEST, &reason, Timestamp::now()),
            Self::Rest(error) => error.into_response(),
            Self::NoAgency => problem(StatusCode::FORBIDDEN, "No Agency addon", Timestamp::now()),
            Self::Rejected(constant) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "message": constant }))).into_response()
            }
        }
    }
}
