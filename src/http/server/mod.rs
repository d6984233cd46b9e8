//! The HTTP server: limits on connections, and TLS from files that are reloaded.

pub mod connections;
pub mod lingering_close;
pub mod serve;
pub mod tls;
pub mod write_timeout;

pub use self::connections::ConnectionSlot;
pub use self::serve::{Limits, Listen, Server};
pub use self::tls::{ReloadingTls, TlsFiles};
