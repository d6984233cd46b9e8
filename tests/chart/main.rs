//! The chart, rendered by the real helm: the files beside it are generated from it, every value does what its
//! description says, and the rights are those in `docs/tasks/install.md`.
#![allow(clippy::too_many_lines, reason = "a test is one sequence of steps")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unwrap_in_result, missing_docs)]

mod alerts;
mod artifact_hub;
mod edges;
mod every_value;
mod generated;
mod global;
mod helm_test;
mod hook;
mod install_notes;
mod krew;
mod monitors;
mod namespace;
mod network;
mod oci;
mod overlays;
mod pod_spec;
mod profiles;
mod refuses;
mod release;
mod rendering;
mod rights;
mod strings;
mod together;
mod unset;
mod values;
mod versions;
