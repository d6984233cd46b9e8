//! HTTP served to the outside: so many connections, each with its bounds, and TLS from files that are read again.

mod answers;
mod lingering;
mod seats;
mod server;
mod tls;

pub use self::seats::Seat;
pub use self::server::{Limits, Listen, Server};
pub use self::tls::{Tls, TlsFiles};
