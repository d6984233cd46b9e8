//! Access to the Kubernetes API: client, lists, watches, events, Secrets and leader election.

pub(crate) mod client;
pub mod client_secret;
pub mod events;
pub mod jitter;
pub mod leader_election;
pub mod leadership;
pub mod list;
pub mod relist;
pub mod scope;
pub mod secret_connections;
pub mod secrets;
pub mod streak;
pub mod watch;
