//! The test kit: a real etcd and kube-apiserver on this machine, child processes that never outlive their
//! parent, and (beside them) doubles of the services the operator talks to.
//!
//! Tests, the demo and the benchmarks use the same kit. It knows nothing of the operator's own code.

// Text is put together in the shortest way here: a test kit formats a few lines, not millions.
#![allow(clippy::format_push_string, clippy::format_collect)]
// Methods that do not need `self` today read as what they are about.
#![allow(clippy::unused_self, clippy::needless_pass_by_value, clippy::struct_field_names)]
// Progress of a first build, and a double without a port, are told on the terminal.
#![allow(clippy::print_stderr)]

use std::{error::Error, iter, path::PathBuf};

pub mod api_proxy;
pub mod assets;
pub mod cluster;
pub mod collector;
pub mod demo;
pub mod docs;
pub mod double;
pub mod doubles;
pub mod e2e;
pub mod entra;
pub mod gitops;
pub mod helm;
pub mod memory;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod shell;
pub mod tls;
pub mod woodpecker;

/// The root of the workspace: where `crds/`, `deploy/` and `tools/` are.
pub fn workspace() -> PathBuf {
    let kit = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    kit.ancestors().nth(2).map(PathBuf::from).unwrap_or(kit)
}

/// An error and what caused it, on one line.
pub fn chain(error: &dyn Error) -> String {
    let causes = iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
