//! Listening sockets. `[::]` accepts IPv4 as well, whatever the machine's default is, and means `0.0.0.0` on a machine
//! without IPv6, so that one setting works in every cluster.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// An address that cannot be bound: it is in use, or is not an address of this machine.
#[derive(Debug, Error)]
#[error("failed to listen on {address}: choose a free address and port with {flag}")]
pub struct ListenError {
    address: SocketAddr,
    flag: &'static str,
    source: io::Error,
}

/// Binds the address, and returns the bound one; port 0 selects a free port. `flag` is the flag that sets the address.
pub async fn listen(
    address: SocketAddr,
    flag: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let listen_error = |source| ListenError { address, flag, source };
    let listener = bind(address).await.map_err(listen_error)?;
    let bound = listener.local_addr().map_err(listen_error)?;
    Ok((listener, bound))
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !(address.is_ipv6() && address.ip().is_unspecified()) {
        return TcpListener::bind(address).await;
    }
    match bind_dual_stack(address)? {
        Some(listener) => Ok(listener),
        None => TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await,
    }
}

/// `None` if the kernel does not support IPv6, or has no IPv6 address.
fn bind_dual_stack(address: SocketAddr) -> io::Result<Option<TcpListener>> {
    // Another failure than missing IPv6, such as too many open files, is reported for the IPv4 socket.
    let Ok(socket) = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)) else { return Ok(None) };
    // Otherwise the system decides: net.ipv6.bindv6only.
    socket.set_only_v6(false)?;
    // As in tokio, so that a restart does not wait for old connections to time out. Windows does not wait, and would allow
    // a second listener.
    socket.set_reuse_address(cfg!(unix))?;
    socket.set_nonblocking(true)?;
    match socket.bind(&address.into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => return Ok(None),
        bound => bound?,
    }
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into()).map(Some)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use tokio::net::TcpStream;

    use super::*;

    /// Whether a connection to that address is accepted.
    async fn is_served(listener: &TcpListener, address: impl Into<std::net::IpAddr>) -> bool {
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((address.into(), port)).await.is_ok()
    }

    #[tokio::test]
    async fn the_unspecified_ipv6_address_accepts_ipv4_as_well() {
        let listener = bind((Ipv6Addr::UNSPECIFIED, 0).into()).await.unwrap();
        assert!(is_served(&listener, Ipv4Addr::LOCALHOST).await);
        // Not on a machine without IPv6.
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            assert!(is_served(&listener, Ipv6Addr::LOCALHOST).await);
        }
    }

    #[tokio::test]
    async fn any_other_address_accepts_only_itself() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        assert!(is_served(&listener, Ipv4Addr::LOCALHOST).await);
        assert!(!is_served(&listener, Ipv4Addr::new(127, 0, 0, 2)).await);
    }

    #[tokio::test]
    async fn a_port_in_use_does_not_count_as_missing_ipv6() {
        let first = bind((Ipv6Addr::UNSPECIFIED, 0).into()).await.unwrap();
        let taken = SocketAddr::from((Ipv6Addr::UNSPECIFIED, first.local_addr().unwrap().port()));
        assert_eq!(bind(taken).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
