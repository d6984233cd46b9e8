//! Whole-program tests: the real operator as its own process, a real kube-apiserver, and test doubles of
//! Entra and Woodpecker that serve HTTP. One file per subject; all tests share one API server.
#![allow(clippy::too_many_lines, reason = "a test is one sequence of steps")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unwrap_in_result, missing_docs)]

mod account_moves;
mod accounts;
mod admin_cli;
mod adoption;
mod agencies;
mod clocks;
mod command_line;
mod companies;
mod completion;
mod convergence;
mod dashboard;
mod deletion;
mod documentation;
mod drift;
mod egress;
mod entra_expiry;
mod examples;
mod fairness;
mod gitops;
mod harness;
mod identities;
mod idle_writes;
mod import;
mod installation;
mod invalid_objects;
mod key_identities;
mod keyring_access;
mod kubeconfig;
mod leader_election;
mod logs;
mod mailbox_health;
mod mailboxes;
mod memory_zeroing;
mod metrics;
mod metrics_endpoint;
mod microsoft;
mod namespace_selectors;
mod object_commands;
mod plan;
mod process;
mod queueing;
mod recovery;
#[path = "../generated/reference.rs"]
#[expect(dead_code, reason = "names of samples are for the reference page")]
mod reference;
mod remove_finalizers;
mod request_counts;
mod rest_api;
mod rotation;
mod sandbox;
mod schema_rules;
mod secret_access;
mod secret_ready;
mod secret_redaction;
mod status;
mod store;
mod traces;
mod unreached_accounts;
mod verify_first;
