//! The implementation of [`crate::woodpecker`]: accounts and their credentials, the API's rules, the vendor's
//! limit of one request at a time, faults, and the record of each request.

pub(crate) mod api;
pub(crate) mod companies;
pub(crate) mod fault;
pub(crate) mod handler;
pub(crate) mod mailboxes;
pub(crate) mod progress;
pub(crate) mod record;
pub(crate) mod request_queue;
pub(crate) mod response;
pub(crate) mod route;
pub(crate) mod state;
#[cfg(test)]
mod tests;
pub(crate) mod validity;
