//! Decisions and statuses as functions of values: no I/O, no clock, no async. A test checks that.

pub mod aadsts;
pub(crate) mod backoff;
pub(crate) mod characters;
pub(crate) mod claims;
pub(crate) mod clock;
pub(crate) mod diagnosis;
pub(crate) mod error_chain;
pub(crate) mod event;
pub(crate) mod expiry;
pub(crate) mod failure;
pub(crate) mod grants;
pub(crate) mod lenient;
pub(crate) mod model;
pub mod orphan;
pub(crate) mod outcome;
pub(crate) mod plan;
pub(crate) mod rejections;
pub(crate) mod remote;
pub(crate) mod request_priority;
pub(crate) mod secret_form;
pub(crate) mod secret_value;
pub(crate) mod sign_in;
pub(crate) mod status;
pub(crate) mod tenant_checks;
pub(crate) mod timing;
pub(crate) mod token_result;
