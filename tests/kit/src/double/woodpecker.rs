//! The inside of [`crate::woodpecker`]: accounts and their credentials, the API's rules, the vendor's rule of one request at
//! a time, the faults, and what is remembered of each request.

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
