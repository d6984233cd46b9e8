//! HTTP: the client for requests with secrets, and the server of the REST API and of metrics.

pub mod client;
pub mod dns;
pub mod listener;
pub mod roots;
pub mod server;
