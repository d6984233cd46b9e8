//! A Kubernetes operator that keeps Microsoft Graph app-only credentials registered at Woodpecker.
//!
//! It reads a client secret from a Kubernetes Secret, proves it at Microsoft's token endpoint, registers it
//! through Woodpecker's API and writes what is true into the resource's status. The rooms of the house, and
//! which may use which, are drawn in `docs/architecture.md`.

pub mod app;
mod backoff;
pub mod cli;
pub mod controller;
pub mod destination;
pub mod events;
pub mod http;
pub mod k8s;
pub mod leader;
pub mod leadership;
pub mod listening;
pub mod microsoft;
pub mod resources;
pub mod rest;
pub mod secret;
pub mod secrets;
pub mod serving;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod woodpecker;
