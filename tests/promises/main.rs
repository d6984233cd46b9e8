//! Whole-program tests: the real operator as its own process, a real kube-apiserver, and doubles of Entra
//! and Woodpecker that speak HTTP. One file per promise; all share one API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unwrap_in_result, missing_docs)]

mod accounts;
mod administers;
mod adopts;
mod agencies;
mod broken;
mod command_line;
mod converges;
mod dashboard;
mod deletes;
mod documented;
mod drifts;
mod fairness;
mod forgets;
mod gitops;
mod imports;
mod installs;
mod leads;
mod logs;
mod metrics;
mod microsoft;
mod moves;
mod network;
mod never_leaks;
mod process;
mod proves_first;
mod quiet;
mod recovers;
#[path = "../generated/reference.rs"]
#[expect(dead_code, reason = "names of samples are for the reference page")]
mod reference;
mod releases;
mod requests;
mod rules;
mod scrapes;
mod secret_access;
mod serves;
mod sources;
mod stage;
mod stores;
mod tells_the_truth;
mod traces;
mod vault;
mod waits;
