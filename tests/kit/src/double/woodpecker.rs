//! The implementation of [`crate::woodpecker`]: accounts and their credentials, the API's rules, the vendor's
//! limit of one request at a time, faults, and the record of each request.

pub(crate) mod answer;
pub(crate) mod api;
pub(crate) mod books;
pub(crate) mod fault;
pub(crate) mod lane;
pub(crate) mod office;
pub(crate) mod progress;
pub(crate) mod record;
pub(crate) mod route;
#[cfg(test)]
mod tests;
