//! Access to the Kubernetes API: client layers, watches and what else every command shares.

pub mod list;
pub mod relist;
pub mod secret_connections;
pub mod streak;
pub mod watch;
