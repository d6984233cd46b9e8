//! The sandbox: the credentials REST API in memory, for those who write and test its clients. It needs no cluster, and sends
//! nothing to Microsoft or Woodpecker. Magic secrets and ids provoke each answer that a client may receive.
//!
//! Only `cli` uses this module, so `run` and `serve` cannot verify secrets as the sandbox does.

mod agency;
mod answer;
mod backend;
mod control;
mod data;
mod error;
mod file;
mod guard;
mod magic;
mod mailboxes;
mod me;
mod openapi;
mod page;
mod request_log;
mod server;

pub use self::magic::answers_page;
pub use self::openapi::document;
pub(crate) use self::server::{SandboxSettings, serve};
