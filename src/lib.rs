//! A Kubernetes operator that keeps Microsoft Graph app-only credentials registered at Woodpecker.
//!
//! It reads a client secret from a Kubernetes Secret, verifies it at Microsoft's token endpoint, registers it
//! through Woodpecker's API and writes the result to the resource's status. `docs/architecture.md` shows the modules,
//! and which of them may use which.

pub mod api;
pub mod cli;
mod config;
mod controller;
pub mod core;
mod entra;
mod graph;
mod http;
mod k8s;
pub mod platform;
pub mod rest;
mod runtime;
mod sandbox;
pub mod secret_text;
pub mod store;
pub mod telemetry;
mod woodpecker;

// Readers of what other programs send, for `fuzz/`.
#[doc(hidden)]
pub use crate::core::token_result::RequestIds;
#[doc(hidden)]
pub use crate::entra::read_response;
#[doc(hidden)]
pub use crate::graph::{read_added_secret, read_holding};
#[doc(hidden)]
pub use crate::rest::ApiKeys;
// For `tests/generated`.
#[doc(hidden)]
pub use crate::sandbox::{answers_page, document as sandbox_openapi};
#[doc(hidden)]
pub use crate::woodpecker::{read_connected, read_listing};
