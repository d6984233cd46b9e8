//! The test kit: a real etcd and kube-apiserver on this machine, child processes that never outlive their
//! parent, and doubles of the services that the operator calls.
//!
//! Tests, the demo and the benchmarks use the same kit. It does not use the operator's code.

// Text is built in the shortest way, because a test kit formats only a few lines.
#![allow(clippy::format_push_string, clippy::format_collect)]
// Some methods take `self` only so that a call reads well.
#![allow(clippy::unused_self, clippy::needless_pass_by_value, clippy::struct_field_names)]
// A scenario is one sequence of steps.
#![allow(clippy::too_many_lines)]
// Progress of a first build, and a double without a port, are reported on the terminal.
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::iter;
use std::path::PathBuf;

pub mod api_proxy;
pub mod assets;
pub mod clock;
pub mod cluster;
pub mod collector;
pub mod demo;
pub mod docs;
pub mod double;
pub mod doubles;
pub mod e2e;
pub mod entra;
pub mod gitops;
pub mod graph;
pub mod helm;
pub mod memory;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod shell;
pub mod tls;
pub mod woodpecker;

/// The root of the workspace, which contains `crds/`, `deploy/` and `tools/`.
pub fn workspace() -> PathBuf {
    let kit = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    kit.ancestors().nth(2).map(PathBuf::from).unwrap_or(kit)
}

/// An error and its causes, on one line.
pub fn chain(error: &dyn Error) -> String {
    let causes = iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
