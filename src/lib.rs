//! A Kubernetes operator that keeps Microsoft Graph app-only credentials registered at Woodpecker.
//!
//! It reads a client secret from a Kubernetes Secret, proves it at Microsoft's token endpoint, registers it
//! through Woodpecker's API and writes what is true into the resource's status. The rooms of the house, and
//! which may use which, are drawn in `docs/architecture.md`.

mod app;
mod backoff;
pub mod cli;
mod controller;
mod destination;
mod events;
mod http;
mod k8s;
mod leader;
mod leadership;
mod listening;
pub mod microsoft;
pub mod resources;
pub mod rest;
pub mod secret;
mod secrets;
mod serving;
mod settings;
pub mod store;
pub mod telemetry;
mod woodpecker;
